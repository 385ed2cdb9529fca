//! `collect now`: the processes of this moment.

use super::{cell_of, heading, milliseconds};
use crate::bus::Agent;
use crate::commands::processes::for_people;
use crate::failure::{Failure, Kind};
use crate::output::{Outcome, Screen, Style};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::models::columns::PROCESS;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, DetectionTask, ProcessFilter, TaskType, cell};
use std::time::Duration;

/// What people see of a process; programs get every column.
const SHORT: [&str; 8] = ["pid", "ppid", "user", "name", "cpu_usage", "memory_usage", "start_time", "command_line"];

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    Pid(u32),
    Name(String),
    Executable(String),
}

pub(crate) fn filter(text: &str) -> Result<Filter, String> {
    match text.split_once('=') {
        Some(("pid", pid)) => pid.parse().map(Filter::Pid).map_err(|_| format!("{pid:?} is no pid")),
        Some(("name", name)) => Ok(Filter::Name(name.to_owned())),
        Some(("executable", pattern)) => Ok(Filter::Executable(pattern.to_owned())),
        _ => Err("it is pid=PID, name=NAME or executable=PATTERN".to_owned()),
    }
}

fn together(filters: &[Filter]) -> Result<ProcessFilter, Failure> {
    let mut all = ProcessFilter::default();
    for filter in filters {
        match filter {
            Filter::Pid(pid) => all.pids.push(*pid),
            Filter::Name(name) => all.process_names.push(name.clone()),
            Filter::Executable(pattern) if all.executable_pattern.is_none() => {
                all.executable_pattern = Some(pattern.clone());
            }
            Filter::Executable(_) => {
                return Err(Failure::new(Kind::Usage, "only one --filter executable=PATTERN can be given"));
            }
        }
    }
    Ok(all)
}

pub(super) async fn run(
    filters: &[Filter],
    collector: Option<&str>,
    timeout: Option<Duration>,
    agent: &Agent,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let task = DetectionTask {
        task_type: TaskType::EnumerateProcesses.into(),
        process_filter: Some(together(filters)?),
        timeout_ms: milliseconds(timeout),
        ..DetectionTask::default()
    };
    let people = format == OutputFormat::Table;
    let columns: Vec<_> = PROCESS.iter().filter(|column| !people || SHORT.contains(&column.name)).collect();
    let style = Style { show: people.then_some(for_people), ..Style::default() };
    let mut sheet = screen.sheet(format, style);
    let headings: Vec<_> = columns.iter().map(|column| heading(column.name, column.kind)).collect();
    sheet.begin(&headings)?;
    let mut completeness = None;
    agent
        .task(collector, task, &mut |part| {
            completeness = part.completeness.or(completeness.take());
            for record in &part.processes {
                sheet.row(columns.iter().map(|column| cell_of(column, record)).collect())?;
            }
            Ok(())
        })
        .await?;
    let completeness = super::whole(completeness)?;
    sheet.end(&completeness)?;
    drop(sheet);
    screen.conclude(format, &completeness)
}

/// Has a snapshot told, and prints its scan when all of it is on its way into the store.
pub(super) async fn snapshot(
    collector: Option<&str>,
    timeout: Option<Duration>,
    agent: &Agent,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let task = DetectionTask {
        task_type: TaskType::EnumerateProcesses.into(),
        metadata: Some("snapshot".to_owned()),
        timeout_ms: milliseconds(timeout),
        ..DetectionTask::default()
    };
    let (mut scan_id, mut completeness) = (None, None);
    agent
        .task(collector, task, &mut |part| {
            completeness = part.completeness.or(completeness.take());
            scan_id = part.snapshot_scan_id.or(scan_id);
            Ok(())
        })
        .await?;
    let completeness = super::whole(completeness)?;
    let scan_id = scan_id.ok_or_else(|| Failure::new(Kind::Failed, "the collector told of no snapshot"))?;
    let mut sheet = screen.sheet(format, Style::default());
    sheet.begin(&[heading("scan_id", ColumnKind::Integer)])?;
    sheet.row(vec![Cell { value: Some(cell::Value::Integer(i64::try_from(scan_id).unwrap_or(i64::MAX))) }])?;
    sheet.end(&completeness)?;
    drop(sheet);
    screen.conclude(format, &completeness)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_and_put_together() {
        let filters: Result<Vec<_>, _> =
            ["pid=1", "pid=2", "name=a=b", "executable=/tmp/*"].iter().map(|text| filter(text)).collect();
        let all = together(&filters.unwrap()).unwrap();
        assert_eq!((all.pids, all.process_names), (vec![1, 2], vec!["a=b".to_owned()]));
        assert_eq!(all.executable_pattern.as_deref(), Some("/tmp/*"));
        for wrong in ["", "pid", "pid=x", "uid=0"] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
        let two = [Filter::Executable("a".into()), Filter::Executable("b".into())];
        assert_eq!(together(&two).unwrap_err().kind, Kind::Usage);
    }
}
