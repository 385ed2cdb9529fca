//! What a thread costs, where the system is not asked: the time that goes by, which is never less.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

static BEGINNING: OnceLock<Instant> = OnceLock::new();

/// What this thread has cost so far at most.
pub(crate) fn thread_cpu() -> Duration {
    BEGINNING.get_or_init(Instant::now).elapsed()
}
