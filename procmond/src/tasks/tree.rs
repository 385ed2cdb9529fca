//! `MONITOR_PROCESS_TREE`: a process and its descendants, as they begin, change and end.
//!
//! A poll with a table of its own: what the collection knows, and told, is left alone. A process that begins and ends
//! between two looks is not seen, and neither is one whose parent ended before it was.

use super::{Tasks, scan_failed};
use crate::cpu::thread_cpu;
use crate::differ::{Pass, Table};
use crate::pace::Pace;
use crate::scan::{Glance, Interrupted, Observed, ProcessCollector, Visitor};
use collector_core::{TaskError, TaskReplies};
use daemoneye_lib::proto::ipc::DetectionTask;
use daemoneye_lib::proto::ipc::collected_item::Item;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(200);

pub(super) fn run(tasks: &Tasks, task: DetectionTask, replies: &mut TaskReplies) -> Result<(), TaskError> {
    let roots = task.process_filter.map(|filter| filter.pids).unwrap_or_default();
    let [root] = roots[..] else {
        return Err(TaskError::Refused("a tree has one root: name one pid".to_owned()));
    };
    let mut watch = Watch { root: Some(root), family: HashMap::new(), table: Table::default(), scan: 0 };
    let mut scanner = tasks.scanner()?;
    let mut pace = Pace::new(INTERVAL, tasks.max_cpu);
    loop {
        let (began, cpu) = (Instant::now(), thread_cpu());
        let grown = watch.round(tasks, &mut scanner, replies)?;
        pace.spent(thread_cpu().saturating_sub(cpu));
        replies.flush()?;
        if watch.root.take().is_some() && watch.family.is_empty() {
            return Err(TaskError::NotFound(format!("there is no process {root}")));
        }
        if watch.family.is_empty() {
            return Ok(());
        }
        // A child may be listed before its parent: whoever came new may have more.
        let rest = if grown { Duration::ZERO } else { pace.interval().saturating_sub(began.elapsed()) };
        match replies.pause(rest) {
            // That is how watching ends.
            Err(TaskError::TimedOut(_)) => return Ok(()),
            paused => paused?,
        }
    }
}

struct Watch {
    /// Until it was found.
    root: Option<u32>,
    /// Its members by pid, with their start in clock ticks.
    family: HashMap<u32, u64>,
    table: Table,
    scan: u64,
}

impl Watch {
    /// Looks once, and tells what is new; whether the family has new members.
    fn round(
        &mut self,
        tasks: &Tasks,
        scanner: &mut impl ProcessCollector,
        replies: &mut TaskReplies,
    ) -> Result<bool, TaskError> {
        self.scan += 1;
        let state = RefCell::new((replies, None));
        let mut tell = |item| {
            let Item::Process(event) = item else { return Ok(()) };
            let (replies, stopped) = &mut *state.borrow_mut();
            event.process.map_or(Ok(()), |record| replies.record(record)).map_err(|error| {
                *stopped = Some(error);
                Interrupted
            })
        };
        let pass = Pass::new(&tasks.boot, &mut self.table, self.scan, &mut tell);
        let mut members = Members { pass, root: self.root, family: &mut self.family, grown: false, state: &state };
        let scanned = scanner.enumerate_processes(&mut members);
        let Members { pass, grown, .. } = members;
        let told = scanned.and_then(|_| Ok(pass.finish()?));
        let stopped = state.into_inner().1;
        told.map_err(|error| scan_failed(error, stopped))?;
        let table = &self.table;
        self.family.retain(|pid, start| table.get(*pid).is_some_and(|known| known.start_ticks == *start));
        Ok(grown)
    }
}

/// Shows the members of the family, and nobody else.
struct Members<'a, 'b, 'c> {
    pass: Pass<'a>,
    root: Option<u32>,
    family: &'b mut HashMap<u32, u64>,
    grown: bool,
    state: &'b RefCell<(&'c mut TaskReplies, Option<TaskError>)>,
}

impl Visitor for Members<'_, '_, '_> {
    fn wants(&mut self, glance: &Glance<'_>) -> Result<bool, Interrupted> {
        {
            let (replies, stopped) = &mut *self.state.borrow_mut();
            match replies.go_on() {
                // The end of the time is looked for between two rounds.
                Ok(()) | Err(TaskError::TimedOut(_)) => {}
                Err(error) => {
                    *stopped = Some(error);
                    return Err(Interrupted);
                }
            }
        }
        let start = glance.stat.start_ticks;
        let is_child = || self.family.get(&glance.stat.ppid).is_some_and(|parent| *parent <= start);
        let is_member = self.family.get(&glance.pid) == Some(&start) || self.root == Some(glance.pid) || is_child();
        if !is_member {
            return Ok(false);
        }
        self.grown |= self.family.insert(glance.pid, start) != Some(start);
        self.pass.wants(glance)
    }

    fn observed(&mut self, observed: Observed<'_>) -> Result<(), Interrupted> {
        self.pass.observed(observed)
    }

    fn unreadable(&mut self, pid: u32) {
        self.pass.unreadable(pid);
    }
}
