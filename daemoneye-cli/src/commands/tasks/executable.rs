//! `hash` and `verify`: the file at a path, or the image of a process.

use super::{Asked, heading};
use crate::bus::Agent;
use crate::failure::{Failure, Kind};
use crate::output::{Kept, Outcome, Screen, Style};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{
    Cell, ColumnKind, Completeness, DetectionResult, DetectionTask, ExecutableReport, HashResult, TaskType, cell,
};

pub(super) async fn hash(
    asked: &Asked,
    agent: &Agent,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let task = DetectionTask { task_type: TaskType::CheckProcessHash.into(), ..asked.task(None)? };
    let (answer, _) = done(asked.collector.as_deref(), agent, task).await?;
    let hash = answer.hash_result.ok_or_else(|| Failure::new(Kind::Defect, "the answer has no hash"))?;
    if let Some(error) = hash.error_message {
        return Err(Failure::new(Kind::Failed, error));
    }
    let columns = ["path", "algorithm", "hash"].map(|name| heading(name, ColumnKind::Text)).to_vec();
    let row = [hash.file_path, hash.algorithm, hash.hash_value].map(|value| text(Some(value))).to_vec();
    // What a file's content is does not depend on what else can be seen.
    screen.print(format, Style::default(), &Kept { columns, rows: vec![row] }, &Completeness::default())
}

pub(super) async fn verify(
    asked: &Asked,
    expected: Option<&str>,
    agent: &Agent,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let task = DetectionTask { task_type: TaskType::VerifyExecutable.into(), ..asked.task(expected)? };
    let (answer, completeness) = done(asked.collector.as_deref(), agent, task).await?;
    let report = answer.executable.ok_or_else(|| Failure::new(Kind::Defect, "the answer has no report"))?;
    let (columns, row) = row(&report, answer.hash_result.as_ref());
    let style = Style { blocks: true, ..Style::default() };
    let outcome = screen.print(format, style, &Kept { columns, rows: vec![row] }, &completeness)?;
    Ok(if report.problems.is_empty() { outcome } else { Outcome::Wanting })
}

/// The one part with content, and what could not be seen.
async fn done(
    collector: Option<&str>,
    agent: &Agent,
    task: DetectionTask,
) -> Result<(DetectionResult, Completeness), Failure> {
    let mut answer = DetectionResult::default();
    let mut completeness = None;
    agent
        .task(collector, task, &mut |part| {
            completeness = part.completeness.clone().or(completeness.take());
            if part.hash_result.is_some() || part.executable.is_some() {
                answer = part;
            }
            Ok(())
        })
        .await?;
    Ok((answer, super::whole(completeness)?))
}

fn text(value: Option<String>) -> Cell {
    Cell { value: value.map(cell::Value::Text) }
}

fn number(value: Option<impl Into<u64>>) -> Cell {
    Cell { value: value.and_then(|number| i64::try_from(number.into()).ok()).map(cell::Value::Integer) }
}

fn boolean(value: Option<bool>) -> Cell {
    Cell { value: value.map(|bit| cell::Value::Integer(bit.into())) }
}

fn json(value: &impl serde::Serialize) -> Cell {
    text(serde_json::to_string(value).ok())
}

type Headed = Vec<daemoneye_lib::proto::ipc::ResultColumn>;

fn row(report: &ExecutableReport, hash: Option<&HashResult>) -> (Headed, Vec<Cell>) {
    use ColumnKind::{Boolean, Integer, Json, Text, Time};
    const SET_USER_ID: u32 = 0o4000;
    const SET_GROUP_ID: u32 = 0o2000;
    let has = |bit| boolean(report.mode.map(|mode| mode & bit != 0));
    let cells = [
        ("verified", Boolean, boolean(Some(report.problems.is_empty()))),
        ("problems", Json, json(&report.problems)),
        ("path", Text, text(Some(report.path.clone()))),
        ("pid", Integer, number(report.pid)),
        ("exists", Boolean, boolean(Some(report.exists))),
        ("hash", Text, text(hash.map(|hash| hash.hash_value.clone()).filter(|hash| !hash.is_empty()))),
        ("algorithm", Text, text(hash.map(|hash| hash.algorithm.clone()).filter(|name| !name.is_empty()))),
        ("matches", Boolean, boolean(hash.and_then(|hash| hash.matches))),
        ("size", Integer, number(report.size)),
        ("modified", Time, text(report.modified.map(time::sql_text))),
        ("uid", Integer, number(report.uid)),
        ("gid", Integer, number(report.gid)),
        ("mode", Text, text(report.mode.map(|mode| format!("{mode:04o}")))),
        ("set_user_id", Boolean, has(SET_USER_ID)),
        ("set_group_id", Boolean, has(SET_GROUP_ID)),
        ("running_pids", Json, json(&report.running_pids)),
        ("stale_pids", Json, json(&report.stale_pids)),
    ];
    cells.into_iter().map(|(name, kind, cell)| (heading(name, kind), cell)).unzip()
}
