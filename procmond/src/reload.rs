//! SIGHUP: procmond reads its configuration anew, and scans and logs as it says from then on.

use daemoneye_lib::cli::logging::LogLevelSwitch;
use daemoneye_lib::config::{App, Rereader};
use std::error::Error as _;
use std::time::Duration;
use tokio::sync::watch;

/// How often to scan, and for which share of a core, as it is configured now.
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

/// What a new configuration can reach.
pub(crate) struct Reload {
    pub(crate) rereader: Rereader,
    pub(crate) log_level: LogLevelSwitch,
    pub(crate) wanted: watch::Sender<Wanted>,
}

impl Reload {
    /// Reads the configuration; one that cannot be read changes nothing.
    pub(crate) fn reload(&mut self) {
        match self.rereader.read() {
            Ok((reread, loaded)) => {
                self.log_level.set(reread.config.app.log_level);
                self.wanted.send_replace(Wanted::from(&reread.config.app));
                let (changed, pending) = (reread.changed.join(" "), reread.pending.join(" "));
                tracing::info!(changed, pending, "the configuration was read anew");
                self.rereader.adopt(&reread, &loaded);
            }
            Err(error) => {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                tracing::error!("the configuration cannot be read anew: the old one stays in force: {error}{cause}");
            }
        }
    }
}
