//! Counters and troubles of the way of events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counters and troubles that health and the status line show.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<State>>);

#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) events: u64,
    pub(crate) alerts: u64,
    pub(crate) last_scan_processes: Option<u32>,
    /// Why nothing is stored at present.
    pub(crate) store_trouble: Option<String>,
    /// Why a sink does not take alerts, by its name.
    pub(crate) sink_troubles: BTreeMap<String, String>,
}

impl Progress {
    pub(crate) fn now(&self) -> State {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
