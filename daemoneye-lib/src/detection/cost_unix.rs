//! What work costs: the time that a processor spent on it, so that a busy host makes no rule expensive.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;

/// Measures what the present thread spends.
#[derive(Clone, Copy, Debug)]
pub struct Cost(Duration);

impl Cost {
    /// Begins to measure.
    pub fn start() -> Self {
        Self(spent())
    }

    /// What this thread has spent since; only on the thread where it began.
    pub fn so_far(self) -> Duration {
        spent().saturating_sub(self.0)
    }
}

fn spent() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(tv_sec).unwrap_or(0), u32::try_from(tv_nsec).unwrap_or(0))
}
