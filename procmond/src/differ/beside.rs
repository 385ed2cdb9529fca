//! What scans look for beside a source of events: processes that no event told.

use super::Table;
use crate::boot::Boot;
use crate::scan::Glance;
use daemoneye_lib::proto::ipc::Gap;
use std::collections::HashSet;

/// The processes that no event told, from scan to scan.
#[derive(Debug)]
pub(crate) struct Beside {
    /// Events are told of what began since; what began before is for the scan to tell.
    since_ticks: u64,
    /// Met by the scan before without having been told. At most one for each process.
    doubtful: HashSet<(u32, u64)>,
    /// The same of this scan.
    doubted: HashSet<(u32, u64)>,
    /// Told by scans since the last gap.
    missed: u64,
    /// When the first of them began.
    earliest: u64,
}

impl Beside {
    #[cfg(target_os = "linux")]
    /// Events are told since this tick of the boot.
    pub(crate) fn since(since_ticks: u64) -> Self {
        Self { since_ticks, doubtful: HashSet::new(), doubted: HashSet::new(), missed: 0, earliest: u64::MAX }
    }

    /// Whether the process, of which the table knows nothing, is one that the scan has to tell.
    pub(super) fn misses(&mut self, glance: &Glance<'_>, table: &Table) -> bool {
        let process = (glance.pid, glance.stat.start_ticks);
        if table.has_ended(process.0, process.1) {
            // It waits for its parent.
            return false;
        }
        if glance.stat.start_ticks < self.since_ticks {
            return true;
        }
        if glance.is_ending() {
            // Its end was told, or will be, or was lost and counted.
            return false;
        }
        if self.doubtful.contains(&process) {
            self.missed += 1;
            self.earliest = self.earliest.min(process.1);
            return true;
        }
        self.doubted.insert(process);
        false
    }

    /// The scan has come to its end.
    pub(super) fn finish(&mut self) {
        self.doubtful = std::mem::take(&mut self.doubted);
    }

    /// The gap of the processes that no event told: since the first of them began, the kernel has not told all, as far as is
    /// known until now.
    pub(crate) fn gap(&mut self, boot: &Boot, to: i64) -> Option<Gap> {
        let count = std::mem::take(&mut self.missed);
        let from = boot.time_of(std::mem::replace(&mut self.earliest, u64::MAX)).min(to);
        let reason = "a scan found running processes that no event had told".to_owned();
        (count > 0).then(|| Gap { kind: "unannounced".to_owned(), from, to: Some(to), count: Some(count), reason })
    }
}
