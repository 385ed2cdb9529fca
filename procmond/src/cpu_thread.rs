//! What a thread costs, as the system counts it.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// What this thread has cost so far.
pub(crate) fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
