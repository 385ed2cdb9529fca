//! How a run comes to its end, in phases that each have their time.

use super::{Collector, CollectorError, Outcome};
use std::time::Duration;
use tokio::time::Instant;

/// For the source to end after it was told to.
const DRAIN: Duration = Duration::from_secs(1);
/// For the agent to acknowledge what was drained.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(super) enum Phase {
    Running,
    /// Until then the source may still tell things.
    Draining(Instant, Outcome),
    /// Until then the agent may still acknowledge.
    Sending(Instant, Outcome),
}

impl Collector {
    /// Begins to end; the first reason counts.
    pub(super) fn end(&mut self, outcome: Outcome) {
        if matches!(self.phase, Phase::Running) {
            self.intake.stop();
            self.phase = Phase::Draining(Instant::now() + DRAIN, outcome);
        }
    }

    pub(super) fn source_ended(&mut self, ended: Result<(), String>) {
        let failure = match (&self.phase, ended) {
            (Phase::Running, Ok(())) => Some("its source ended by itself".to_owned()),
            (_, Err(reason)) => Some(reason),
            (_, Ok(())) => None,
        };
        if let Some(reason) = failure {
            let failed = Err(CollectorError::Source { name: self.name.clone(), reason });
            match &mut self.phase {
                Phase::Running => self.end(failed),
                Phase::Draining(_, outcome) | Phase::Sending(_, outcome) => *outcome = failed,
            }
        }
        if matches!(self.phase, Phase::Draining(..)) {
            self.drained();
        }
    }

    /// The source tells nothing more.
    pub(super) fn drained(&mut self) {
        self.intake.close();
        self.spool_items();
        self.tell_pause();
        self.phase = match std::mem::replace(&mut self.phase, Phase::Running) {
            Phase::Draining(_, outcome) => Phase::Sending(Instant::now() + LAST_WORDS, outcome),
            other => other,
        };
    }

    /// The outcome, when nothing is left to do or no time for it.
    pub(super) fn ended(&mut self, now: Instant) -> Option<Outcome> {
        let Phase::Sending(until, _) = &self.phase else { return None };
        let acknowledged = self.window.is_empty() && !self.link.is_sending();
        if now < *until && self.link.is_up() && !acknowledged {
            return None;
        }
        self.tell_dropped();
        tracing::info!(collector = %self.name, unacknowledged = self.spool.items(), "ended");
        match std::mem::replace(&mut self.phase, Phase::Running) {
            Phase::Sending(_, outcome) => Some(outcome),
            Phase::Running | Phase::Draining(..) => None,
        }
    }
}
