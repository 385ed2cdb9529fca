//! What is configured about the rhythm; on systems other than Linux it stays as it was at the start.

use daemoneye_lib::config::App;
use std::time::Duration;

/// How often to scan, and for which share of a core.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) least: Duration,
    pub(crate) max_cpu_per_cent: f64,
}

impl From<&App> for Wanted {
    fn from(app: &App) -> Self {
        Self { least: Duration::from_millis(app.scan_interval_ms), max_cpu_per_cent: app.max_scan_cpu }
    }
}
