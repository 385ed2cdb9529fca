//! What has been through the rules and waits for its commit.

use daemoneye_lib::detection::standing::Findings;
use daemoneye_lib::models::event::Epoch;
use daemoneye_lib::storage::Understood;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long batches wait for others with which they are committed.
pub(super) const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// Items after which nothing waits any more.
const GROUP_ITEMS: usize = 1_024;
/// Bytes after which nothing waits any more.
const GROUP_BYTES: usize = 2 << 20;
/// Epochs whose newest sequence is remembered here; of one that is forgotten the store is asked.
const KNOWN_EPOCHS: usize = 64;

/// Batches that have been through the rules and are not yet committed.
#[derive(Default)]
pub(crate) struct Pending {
    pub(super) batches: Vec<Understood>,
    items: usize,
    bytes: usize,
    /// When they are committed at the latest.
    pub(super) due: Option<Instant>,
    /// What the rules found in them.
    pub(super) findings: Findings,
    /// The newest time of an event in them.
    pub(super) newest: i64,
    /// Through which sequence everything has been through the rules, by collector and epoch.
    pub(super) known: HashMap<(String, Epoch), u64>,
}

impl Pending {
    /// Whether they are not to wait.
    pub(super) fn is_pressing(&self) -> bool {
        let is_silent = self.findings.found.is_empty() && self.findings.failed.is_empty();
        // Whatever else is told (a scan, a gap, a trigger) is told seldom, and somebody waits for it.
        let of_events = self.batches.last().is_none_or(Understood::is_of_events);
        !is_silent || !of_events || self.items >= GROUP_ITEMS || self.bytes >= GROUP_BYTES
    }

    /// Everything but what is known of epochs.
    pub(super) fn take(&mut self) -> Self {
        let known = std::mem::take(&mut self.known);
        std::mem::replace(self, Self { known, ..Self::default() })
    }

    pub(super) fn add(&mut self, batch: Understood, findings: Findings) {
        if let Some(last) = batch.last_sequence() {
            let key = (batch.batch().collector.clone(), batch.batch().epoch);
            if self.known.len() >= KNOWN_EPOCHS && !self.known.contains_key(&key) {
                self.known.clear();
            }
            let known = self.known.entry(key).or_default();
            *known = last.max(*known);
        }
        self.items += batch.batch().items.len();
        self.bytes += batch.bytes();
        self.due.get_or_insert_with(|| Instant::now() + COMMIT_EVERY);
        self.findings.found.extend(findings.found);
        self.findings.failed.extend(findings.failed);
        self.batches.push(batch);
    }
}
