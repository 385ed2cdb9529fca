//! SIGHUP: the configuration is read anew and put in force as far as a running agent can.
//!
//! All or nothing: a configuration that cannot be read, or whose sinks cannot be used, changes nothing. What was applied, what
//! waits for a restart and why the last attempt failed stands in [`ReloadState`], which health shows. procmond is told to
//! read its own configuration by the same signal, the other collectors are sent what is new for them.

use crate::collecting::collectors::Collectors;
use crate::collecting::{orders, spawn};
use crate::metrics::Metrics;
use crate::os;
use crate::ruling::keeper;
use daemoneye_eventbus::{Client, Gate};
use daemoneye_lib::alerting::{SinkError, Sinks};
use daemoneye_lib::cli::logging::LogLevelSwitch;
use daemoneye_lib::config::{Agent, ConfigError, Rereader};
use daemoneye_lib::models::rows::DeliveryRow;
use daemoneye_lib::models::time;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;

/// What the last attempts came to, for health.
#[derive(Clone)]
pub(crate) struct ReloadState(Arc<Mutex<Report>>);

/// What is known of the configuration in force.
#[derive(Clone)]
pub(crate) struct Report {
    /// When it was read.
    pub(crate) read: i64,
    /// Keys that are set otherwise and wait for a restart.
    pub(crate) pending: Vec<String>,
    /// Why the last attempt changed nothing.
    pub(crate) refused: Option<String>,
}

impl ReloadState {
    /// That of a start.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Report { read: time::now_ns(), pending: Vec::new(), refused: None })))
    }

    pub(crate) fn report(&self) -> Report {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Everything that a new configuration can reach.
pub(crate) struct Reload {
    pub(crate) rereader: Rereader,
    pub(crate) state: ReloadState,
    pub(crate) rules: keeper::Reload,
    pub(crate) log_level: LogLevelSwitch,
    pub(crate) limits: watch::Sender<Agent>,
    /// The pipeline's; one waits at the most, and the next takes its turn after it.
    pub(crate) sinks: mpsc::Sender<Sinks>,
    pub(crate) outcomes: Sender<DeliveryRow>,
    pub(crate) gate: Gate,
    pub(crate) collector: &'static str,
    pub(crate) metrics: Metrics,
    pub(crate) collectors: Collectors,
    pub(crate) bus: Client,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Sink(#[from] SinkError),
}

impl Reload {
    /// Reads the configuration anew.
    pub(crate) async fn reload(&mut self) {
        match self.apply().await {
            Ok(()) => self.metrics.reloaded("applied"),
            Err(refused) => {
                let mut why = refused.to_string();
                if let Some(cause) = std::error::Error::source(&refused) {
                    why = format!("{why}: {cause}");
                }
                tracing::error!(%why, "the configuration cannot be read anew: the old one stays in force");
                self.state.note(|report| report.refused = Some(why));
                self.metrics.reloaded("refused");
            }
        }
        self.rules.reload();
        self.tell_collector();
    }

    async fn apply(&mut self) -> Result<(), Refused> {
        let (reread, loaded) = block_in_place(|| self.rereader.read())?;
        if reread.changed.iter().any(|key| key.starts_with("sinks.")) {
            // First, because only this can still fail.
            let sinks = block_in_place(|| Sinks::start(&reread.config.sinks, &self.outcomes))?;
            // The pipeline is gone when the agent ends.
            let _ = self.sinks.send(sinks).await;
        }
        self.log_level.set(reread.config.app.log_level);
        self.limits.send_replace(reread.config.agent.clone());
        for (name, instructions) in spawn::configure_anew(&reread.config, &self.collectors) {
            tracing::info!(collector = %name, version = instructions.version, "its settings are new");
            orders::instruct(&self.bus, &name, &instructions).await;
        }
        let (changed, pending) = (reread.changed.join(" "), reread.pending.join(" "));
        tracing::info!(changed, pending, "the configuration was read anew");
        if !reread.pending.is_empty() {
            tracing::warn!(keys = pending, "these keys are set otherwise and wait for a restart of the agent");
        }
        self.rereader.adopt(&reread, &loaded);
        self.state.note(|report| {
            *report = Report { read: time::now_ns(), pending: reread.pending, refused: None };
        });
        Ok(())
    }

    /// The collector reads its own layers: it has variables of its own. Who it is, the bus knows from the system.
    fn tell_collector(&self) {
        let peers = self.gate.connected().borrow().clone();
        let pid = peers.iter().find(|peer| peer.name == self.collector).and_then(|peer| peer.pid);
        let Some(pid) = pid else {
            // It reads the configuration when it starts.
            return;
        };
        if let Err(error) = os::ask_to_reread(pid) {
            tracing::warn!(collector = self.collector, %error, "it cannot be told to read its configuration: send it SIGHUP");
        }
    }
}
