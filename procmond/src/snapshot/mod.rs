//! Snapshots: what every process of one scan uses, told in parts beside the events.
//!
//! Events tell what is new; of a process that only runs they tell nothing. A snapshot is made of the first look at each
//! process, so that it costs the scan no system call, and says nothing else: the rest stands in the process's events.
//!
//! ```text
//!  interval ──┐
//!             ├──► Due ──► this scan's Pass ── row by row ──► Parts ── a part of so many ──► Sink
//!  task ► Desk┘                                                                               │
//!          ▲──────────────────── the scan's number, once all is in the spool ◄────────────────┘
//! ```
//!
//! A snapshot is a sample, and events are not. So while the spool is crowded it is left out unless somebody asks for it, and a
//! gap says so.

mod desk;
mod due;

pub(crate) use desk::Desk;
pub(crate) use due::Due;

use crate::boot::Boot;
use crate::scan::Glance;
use daemoneye_lib::models::{key::process_key, text::escape_bytes};
use daemoneye_lib::proto::common::ProcessRecord;
use daemoneye_lib::proto::ipc::ProcessSnapshot;
use daemoneye_lib::proto::ipc::collected_item::Item;

/// So many processes are in a part: some 10 kB, which any spool takes.
const PART: usize = 128;

/// A snapshot in the making: the processes that have not been told yet.
pub(crate) struct Parts {
    scan: u64,
    processes: Vec<ProcessRecord>,
}

impl Parts {
    /// A snapshot in the scan of this number.
    pub(crate) fn of(scan: u64) -> Self {
        Self { scan, processes: Vec::with_capacity(PART) }
    }

    /// Adds a process; gives the part that is full with it.
    pub(crate) fn add(&mut self, process: ProcessRecord) -> Option<Item> {
        self.processes.push(process);
        if self.processes.len() < PART { None } else { self.rest() }
    }

    /// The part that was not full.
    pub(crate) fn rest(&mut self) -> Option<Item> {
        let processes = std::mem::replace(&mut self.processes, Vec::with_capacity(PART));
        (!processes.is_empty()).then_some(Item::Snapshot(ProcessSnapshot { scan_id: self.scan, processes }))
    }
}

/// What a snapshot says of a process that the first look found, with the parent and the user that its events tell.
pub(crate) fn row(boot: &Boot, glance: &Glance<'_>, ppid: u32, uid: Option<u32>, usage: Option<f64>) -> ProcessRecord {
    let stat = &glance.stat;
    ProcessRecord {
        process_key: process_key(&boot.id, glance.pid, stat.start_ticks),
        pid: glance.pid,
        ppid: Some(ppid),
        name: Some(escape_bytes(stat.name())),
        uid,
        status: stat.status().map(str::to_owned),
        cpu_usage: usage,
        cpu_time_ns: Some(boot.duration_ns(stat.cpu_ticks)),
        memory_usage: Some(stat.resident_pages.saturating_mul(boot.page_size)),
        collection_time: glance.at,
        ..ProcessRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_when_they_are_full_and_the_rest_at_the_end() {
        let mut parts = Parts::of(7);
        let pids = |item: Option<Item>| match item {
            Some(Item::Snapshot(part)) => {
                assert_eq!(part.scan_id, 7);
                part.processes.iter().map(|process| process.pid).collect()
            }
            _ => Vec::new(),
        };
        let mut told = Vec::new();
        for pid in 0..300 {
            let part = pids(parts.add(ProcessRecord { pid, ..ProcessRecord::default() }));
            assert!(part.is_empty() || part.len() == PART);
            told.extend(part);
        }
        assert_eq!(told.len(), 2 * PART);
        told.extend(pids(parts.rest()));
        assert_eq!(told, (0..300).collect::<Vec<_>>());
        assert_eq!(parts.rest(), None);
    }
}
