//! What work costs, where only the clock on the wall tells.

use std::time::{Duration, Instant};

/// Measures what the present thread spends.
#[derive(Clone, Copy, Debug)]
pub struct Cost(Instant);

impl Cost {
    /// Begins to measure.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// What has gone by since.
    pub fn so_far(self) -> Duration {
        self.0.elapsed()
    }
}
