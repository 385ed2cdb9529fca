//! SIGHUP: procmond reads its configuration anew, and scans and logs as it says from then on.

use crate::pace::Wanted;
use daemoneye_lib::cli::logging::LogLevelSwitch;
use daemoneye_lib::config::Rereader;
use std::error::Error as _;
use std::sync::Arc;
use tokio::sync::watch;

/// What a new configuration can reach.
pub(crate) struct Reload {
    pub(crate) rereader: Rereader,
    pub(crate) log_level: LogLevelSwitch,
    pub(crate) wanted: watch::Sender<Wanted>,
    pub(crate) variables: watch::Sender<Arc<[String]>>,
}

impl Reload {
    /// Reads the configuration; one that cannot be read changes nothing.
    pub(crate) fn reload(&mut self) {
        match self.rereader.read() {
            Ok((reread, loaded)) => {
                self.log_level.set(reread.config.app.log_level);
                self.wanted.send_replace(Wanted::from(&reread.config));
                self.variables.send_replace(reread.config.procmond.environment.as_slice().into());
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
