//! What the agent knows of its collectors now.
//!
//! The supervisor, the registration and the pipeline each tell what they see; queries and health read it. Nothing here is
//! stored: what must outlive the agent is in the store.

use daemoneye_lib::models::rows::{CollectorRow, GapRow, ScanRow};
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{CollectorStatus, Gap, RegisterCollector};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Collectors that can be known at once.
const MAX_COLLECTORS: usize = 64;

/// A handle on what is known of all collectors.
#[derive(Clone)]
pub(crate) struct Collectors {
    agent_started: i64,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
}

/// One collector.
#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) row: CollectorRow,
    /// Whether it is connected and registered.
    pub(crate) attached: bool,
    /// Whether a scan of its present run is committed.
    pub(crate) scanned: bool,
    /// Why its supervision is not simply running it.
    pub(crate) supervision: Option<Supervision>,
    /// What it last told of itself.
    pub(crate) status: Option<CollectorStatus>,
}

/// What the supervisor has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Supervision {
    /// It will be started again.
    Restarting(String),
    /// It cannot be started.
    Failing(String),
}

impl Collectors {
    pub(crate) fn new() -> Self {
        Self { agent_started: time::now_ns(), known: Arc::default() }
    }

    fn with<T>(&self, collector: &str, change: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_COLLECTORS && !known.contains_key(collector) {
            return None;
        }
        let entry = known.entry(collector.to_owned()).or_insert_with(|| Known {
            row: CollectorRow {
                collector: collector.to_owned(),
                state: "starting".to_owned(),
                ..CollectorRow::default()
            },
            ..Known::default()
        });
        Some(change(entry))
    }

    /// A collector that this agent expects; `observed_until` is what the store remembers.
    pub(crate) fn expect(&self, collector: &str, observed_until: Option<i64>) {
        self.with(collector, |known| known.row.observed_until = observed_until);
    }

    /// Returns whether there was room for it.
    pub(crate) fn registered(&self, register: &RegisterCollector) -> bool {
        self.with(&register.collector, |known| {
            let row = &mut known.row;
            let same_run = row.start_time == Some(register.started);
            row.mode.clone_from(&register.mode);
            row.mode_reason.clone_from(&register.mode_reason);
            row.version.clone_from(&register.version);
            row.pid = Some(register.pid);
            row.start_time = Some(register.started);
            row.epoch = register.epoch.iter().map(|byte| format!("{byte:02x}")).collect();
            row.limitations.clone_from(&register.limitations);
            "attached".clone_into(&mut row.state);
            known.attached = true;
            known.scanned &= same_run;
            known.supervision = None;
        })
        .is_some()
    }

    /// Marks as detached whoever is not among the connected.
    pub(crate) fn connected(&self, names: &[String]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, known) in known.iter_mut() {
            if known.attached && !names.contains(name) {
                known.attached = false;
                "detached".clone_into(&mut known.row.state);
            }
        }
    }

    pub(crate) fn is_attached(&self, collector: &str) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(collector).is_some_and(|known| known.attached)
    }

    pub(crate) fn status(&self, collector: &str, status: &CollectorStatus) {
        self.with(collector, |known| {
            known.row.scan_interval_ms = Some(status.scan_interval_ms).filter(|interval| *interval > 0);
            known.row.spool_items = Some(status.spool_items);
            known.row.spool_bytes = Some(status.spool_bytes);
            known.row.last_error = Some(status.last_error.clone()).filter(|error| !error.is_empty());
            known.status = Some(status.clone());
        });
    }

    /// What of the collector is committed now.
    pub(crate) fn committed(&self, collector: &str, until: Option<i64>, scans: &[ScanRow]) {
        self.with(collector, |known| {
            known.row.observed_until = known.row.observed_until.max(until);
            let run = known.row.start_time.unwrap_or(i64::MAX);
            known.scanned |= scans.iter().any(|scan| scan.collector == collector && scan.scan.finished >= run);
        });
    }

    /// Returns whether the state is news.
    pub(crate) fn supervision(&self, collector: &str, state: Option<Supervision>, restarted: bool) -> bool {
        let news = self.with(collector, |known| {
            known.row.restarts += u64::from(restarted);
            if !known.attached {
                match &state {
                    None => "starting".clone_into(&mut known.row.state),
                    Some(Supervision::Restarting(_)) => "restarting".clone_into(&mut known.row.state),
                    Some(Supervision::Failing(_)) => "failing".clone_into(&mut known.row.state),
                }
            }
            let news = known.supervision != state;
            known.supervision = state;
            news
        });
        news.unwrap_or(true)
    }

    /// What collectors say that they cannot see, whatever happens.
    pub(crate) fn limitations(&self) -> Vec<String> {
        let of = |known: Known| {
            let name = known.row.collector;
            known.row.limitations.into_iter().map(move |limitation| format!("limited: {limitation} ({name})"))
        };
        self.list().into_iter().flat_map(of).collect()
    }

    pub(crate) fn list(&self) -> Vec<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn rows(&self) -> Vec<CollectorRow> {
        self.list().into_iter().map(|known| known.row).collect()
    }

    /// The blindness that is known only from a collector's absence. It is no row of the store: a collector that comes back
    /// with all that it saw leaves none, and one that was down tells of its gap itself.
    pub(crate) fn absent(&self) -> Vec<GapRow> {
        let absence = |known: Known| GapRow {
            gap_id: 0,
            collector: known.row.collector.clone(),
            gap: Gap {
                kind: "collector_down".to_owned(),
                from: known.row.observed_until.unwrap_or(self.agent_started),
                to: None,
                count: None,
                reason: format!("the collector is not attached ({})", known.row.state),
            },
        };
        self.list().into_iter().filter(|known| !known.attached).map(absence).collect()
    }
}
