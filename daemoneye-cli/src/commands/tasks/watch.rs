//! `watch-tree`: a family of processes, line by line as things happen.

use super::{cell_of, heading, milliseconds};
use crate::bus::Agent;
use crate::failure::Failure;
use crate::output::{Outcome, Screen, Style};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::models::columns::PROCESS;
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::common::ProcessRecord;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, DetectionTask, ProcessFilter, TaskType, cell};
use std::collections::HashSet;
use std::time::Duration;

/// As long as the agent allows.
const LONGEST: Duration = Duration::from_secs(3_600);

/// What happened to processes, by the records that were told of them.
#[derive(Default)]
struct Happened {
    /// Those that run: as many as the family has members.
    running: HashSet<String>,
}

impl Happened {
    fn to(&mut self, record: &ProcessRecord) -> &'static str {
        if record.end_time.is_some() {
            self.running.remove(&record.process_key);
            return "exit";
        }
        if self.running.insert(record.process_key.clone()) { "seen" } else { "changed" }
    }
}

pub(super) async fn run(
    pid: u32,
    collector: Option<&str>,
    timeout: Option<Duration>,
    agent: &Agent,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let task = DetectionTask {
        task_type: TaskType::MonitorProcessTree.into(),
        process_filter: Some(ProcessFilter { pids: vec![pid], ..ProcessFilter::default() }),
        timeout_ms: milliseconds(Some(timeout.unwrap_or(LONGEST))),
        ..DetectionTask::default()
    };
    let mut happened = Happened::default();
    let mut completeness = None;
    if format == OutputFormat::Table {
        // A table would wait until it can be measured.
        writeln!(
            screen.out,
            "{:<8}  {:<7}  {:>7}  {:>7}  {:<15}  command_line",
            "time", "event", "pid", "ppid", "name"
        )?;
        screen.out.flush()?;
        let (out, width) = (&mut *screen.out, screen.width);
        agent
            .task(collector, task, &mut |part| {
                completeness = part.completeness.or(completeness.take());
                for record in &part.processes {
                    let line = line(happened.to(record), record);
                    writeln!(out, "{}", line.chars().take(width).collect::<String>())?;
                }
                Ok(out.flush()?)
            })
            .await?;
    } else {
        let mut sheet = screen.sheet(format, Style::default());
        let headings: Vec<_> = std::iter::once(heading("event_type", ColumnKind::Text))
            .chain(PROCESS.iter().map(|column| heading(column.name, column.kind)))
            .collect();
        sheet.begin(&headings)?;
        agent
            .task(collector, task, &mut |part| {
                completeness = part.completeness.or(completeness.take());
                for record in &part.processes {
                    let event = Cell { value: Some(cell::Value::Text(happened.to(record).to_owned())) };
                    let columns = PROCESS.iter().map(|column| cell_of(column, record));
                    sheet.row(std::iter::once(event).chain(columns).collect())?;
                }
                Ok(sheet.show()?)
            })
            .await?;
        sheet.end(&super::whole(completeness.clone())?)?;
    }
    screen.conclude(format, &super::whole(completeness)?)
}

fn line(event: &str, record: &ProcessRecord) -> String {
    let at = time::sql_text(record.end_time.unwrap_or(record.collection_time));
    let at = at.get(11..19).unwrap_or_default();
    let name = for_terminal(record.name.as_deref().unwrap_or_default());
    let command_line = for_terminal(record.command_line.as_deref().unwrap_or_default());
    let ppid = record.ppid.map(|ppid| ppid.to_string()).unwrap_or_default();
    format!("{at}  {event:<7}  {:>7}  {ppid:>7}  {name:<15}  {command_line}", record.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_told_from_the_records() {
        let mut happened = Happened::default();
        let runs = ProcessRecord { process_key: "k".into(), pid: 7, name: Some("sh\n".into()), ..Default::default() };
        let ended = ProcessRecord { end_time: Some(1_000_000_000), ..runs.clone() };
        assert_eq!([happened.to(&runs), happened.to(&runs), happened.to(&ended)], ["seen", "changed", "exit"]);
        assert_eq!(happened.to(&runs), "seen", "nothing of one that ended is kept");
        assert_eq!(line("exit", &ended), "00:00:01  exit           7           sh\\n             ");
    }
}
