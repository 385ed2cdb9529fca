//! `ENUMERATE_PROCESSES`: the processes that run now, whole.

use super::filter::Filter;
use super::{Tasks, scan_failed};
use crate::scan::{Glance, Interrupted, Observed, ProcessCollector as _, Visitor};
use collector_core::{TaskError, TaskReplies};
use daemoneye_lib::proto::ipc::DetectionTask;

pub(super) fn run(tasks: &Tasks, task: DetectionTask, replies: &mut TaskReplies) -> Result<(), TaskError> {
    let filter = Filter::new(task.process_filter)?;
    let mut passing = Passing { filter, replies, stopped: None };
    let scanned = tasks.scanner()?.enumerate_processes(&mut passing);
    let stopped = passing.stopped;
    scanned.map(drop).map_err(|error| scan_failed(error, stopped))
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
