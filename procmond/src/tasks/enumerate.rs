//! `ENUMERATE_PROCESSES`: the processes that run now, whole; or a snapshot of them, which is told beside the events.

use super::filter::Filter;
use super::{Tasks, scan_failed};
use crate::scan::{Glance, Interrupted, Observed, ProcessCollector as _, Visitor};
use collector_core::{TaskError, TaskReplies};
use daemoneye_lib::proto::ipc::{DetectionResult, DetectionTask};
use std::time::Duration;

/// The task's metadata where it wants a snapshot.
const SNAPSHOT: &str = "snapshot";
/// How often to look whether the snapshot is there.
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn run(tasks: &Tasks, task: DetectionTask, replies: &mut TaskReplies) -> Result<(), TaskError> {
    if task.metadata.as_deref() == Some(SNAPSHOT) {
        return snapshot(tasks, &task, replies);
    }
    let filter = Filter::new(task.process_filter)?;
    let mut passing = Passing { filter, replies, stopped: None };
    let scanned = tasks.scanner()?.enumerate_processes(&mut passing);
    let stopped = passing.stopped;
    scanned.map(drop).map_err(|error| scan_failed(error, stopped))
}

/// The collection makes it at its next scan: a task's own would be another one than what is stored.
fn snapshot(tasks: &Tasks, task: &DetectionTask, replies: &mut TaskReplies) -> Result<(), TaskError> {
    if task.process_filter.is_some() {
        return Err(TaskError::Refused("a snapshot is of all processes: it takes no filter".to_owned()));
    }
    let request = tasks.snapshots.ask();
    loop {
        if let Some(scan) = tasks.snapshots.answer(request) {
            return replies.send(DetectionResult { snapshot_scan_id: Some(scan), ..DetectionResult::default() });
        }
        replies.pause(LOOK)?;
    }
}

struct Passing<'a> {
    filter: Filter,
    replies: &'a mut TaskReplies,
    stopped: Option<TaskError>,
}

impl Passing<'_> {
    fn keep(&mut self, done: Result<(), TaskError>) -> Result<(), Interrupted> {
        done.map_err(|error| {
            self.stopped = Some(error);
            Interrupted
        })
    }
}

impl Visitor for Passing<'_> {
    fn wants(&mut self, glance: &Glance<'_>) -> Result<bool, Interrupted> {
        let goes_on = self.replies.go_on();
        self.keep(goes_on)?;
        Ok(self.filter.admits(glance))
    }

    fn observed(&mut self, observed: Observed<'_>) -> Result<(), Interrupted> {
        if !self.filter.admits_record(&observed.record) {
            return Ok(());
        }
        let told = self.replies.record(observed.record);
        self.keep(told)
    }

    fn unreadable(&mut self, _: u32) {}
}
