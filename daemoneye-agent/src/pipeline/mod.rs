//! The one way of an event through the agent: rules, store, alerts, acknowledgement.
//!
//! ```text
//! ingest ──batches──► rules ──► append (commit) ──► alerts (commit) ──► sinks, and whoever watches
//!                       │             ▲    └──► acknowledgement to the collector
//!                       └── nothing ──┘ within half a second, with others
//! ```
//!
//! A commit costs the same for one event as for hundreds, so batches in which no rule found anything wait for each other for
//! at most [`COMMIT_EVERY`](pending::COMMIT_EVERY). What a rule found is committed at once, with all that came before it.
//!
//! Crash windows. Before the first commit: nothing happened, the collector sends again. Between the commits: the rows are
//! in the store behind the mark of what was evaluated, and go through the rules at the next start. After the second: the
//! acknowledgement is repeated when the collector sends again, and the due deliveries are in the store.
//!
//! When the disk refuses, nothing is acknowledged: what has arrived waits here, the queue before it fills, the bus stops
//! reading and the collectors spool. The store is reopened until it works again.

mod alerts;
mod pending;
mod persistence;
mod progress;

pub(crate) use alerts::DELIVERY_RETRY;
pub(crate) use pending::Pending;
pub(crate) use persistence::{Persistence, PipelineError};
pub(crate) use progress::Progress;

use crate::answering::completeness::{self, Limitation, RuleGaps};
use crate::collecting::collectors::Collectors;
use crate::collecting::ingest::{name_of, names_of};
use crate::collecting::triggers;
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::ruling::schedule::Found;
use alerts::Suspicion;
use daemoneye_eventbus::proto::ControlPayload;
use daemoneye_eventbus::proto::control_payload::Control;
use daemoneye_eventbus::{Client, Payload};
use daemoneye_lib::alerting::Sinks;
use daemoneye_lib::detection::standing::{DetectionEngine, Findings};
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::event::{Epoch, IdentifiedEvent};
use daemoneye_lib::models::rows::{DeliveryRow, GapRow, TriggerRow};
use daemoneye_lib::proto::ipc::BatchAck;
use daemoneye_lib::storage::{Appended, Arrived, Evaluated, Understood};
use prost::Message as _;
use std::collections::{HashMap, HashSet};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::Instrument as _;

/// Rows that are evaluated together after a crash.
const CATCH_UP_ROWS: usize = 1_024;
/// How old what `detection.runs` says of completeness may be; alerts are judged anew each time.
const DOUBTS: Duration = Duration::from_secs(5);

/// Owns all writing to the store but the opening of gaps.
pub(crate) struct Pipeline {
    pub(crate) storage: Persistence,
    pub(crate) metrics: Metrics,
    pub(crate) engine: DetectionEngine,
    pub(crate) sinks: Sinks,
    /// Others in their place, when the configuration was read anew.
    pub(crate) other_sinks: Receiver<Sinks>,
    pub(crate) outcomes: Mutex<mpsc::Receiver<DeliveryRow>>,
    pub(crate) collectors: Collectors,
    pub(crate) acknowledgements: Client,
    /// Whoever watches alerts gets them when they are committed.
    pub(crate) feed: Feed,
    pub(crate) rule_gaps: RuleGaps,
    /// What scheduled rules find; whoever sends waits until it is committed.
    pub(crate) scheduled: Receiver<Found>,
    /// Tasks that collectors ask of each other, once they are committed.
    pub(crate) triggers: Sender<TriggerRow>,
    /// Everything before this row has been through the rules.
    pub(crate) evaluated: u64,
    /// What `detection.runs` says of completeness over events of these tables (one bit each), and since when.
    pub(crate) doubts: HashMap<u32, (Instant, Vec<String>)>,
    /// Between two attempts to deliver what is due.
    pub(crate) delivery_retry: Duration,
    /// Deliveries that a sink is busy with, and since when.
    pub(crate) under_way: HashMap<(String, String), Instant>,
    /// What is not yet committed.
    pub(crate) pending: Pending,
}

impl Pipeline {
    /// Runs until the queue of batches is closed and empty.
    pub(crate) async fn run(mut self, mut batches: Receiver<Arrived>) -> Result<(), PipelineError> {
        // Rules are loaded anew: what they could not do before is over.
        self.storage.insist(|store| self.rule_gaps.close(store)).await?;
        self.catch_up().await?;
        let mut retry = interval(self.delivery_retry);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.pending.due;
            let first = tokio::select! {
                first = batches.recv() => first,
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    self.commit().await?;
                    continue;
                }
                Some(sinks) = self.other_sinks.recv() => {
                    // Those of before deliver what they have taken on, and end.
                    self.storage.progress.note(|state| state.sink_troubles.retain(|name, _| sinks.has(name)));
                    self.sinks = sinks;
                    continue;
                }
                Some(found) = self.scheduled.recv() => {
                    self.take_scheduled(found).await?;
                    continue;
                }
                _ = retry.tick() => {
                    self.settle_deliveries().await?;
                    self.retry_deliveries().await?;
                    continue;
                }
            };
            let Some(first) = first else { break };
            self.take(first).await?;
        }
        self.commit().await?;
        // What is known to be evaluated need not be evaluated again at the next start.
        self.settle_deliveries().await?;
        block_in_place(|| self.storage.store.commit_alerts(&[], &[], self.evaluated))?;
        Ok(())
    }

    /// Shows a batch to the rules; commits what has come so far when it is not to wait.
    async fn take(&mut self, batch: Arrived) -> Result<(), PipelineError> {
        let span = tracing::info_span!("pipeline", batches = name_of(&batch));
        let batch = Understood::from(batch);
        let through = self.known(&batch).await?;
        let findings = self.evaluate(batch.events_after(through)).instrument(span).await?;
        self.pending.add(batch, findings);
        if self.pending.is_pressing() { self.commit().await } else { Ok(()) }
    }

    /// Through which sequence the batch's epoch has been through the rules.
    async fn known(&mut self, batch: &Understood) -> Result<u64, PipelineError> {
        let (collector, epoch) = (&batch.batch().collector, batch.batch().epoch);
        if let Some(known) = self.pending.known.get(&(collector.clone(), epoch)) {
            return Ok(*known);
        }
        // What waits here may be of it.
        self.commit().await?;
        let committed = self.storage.insist(|store| store.snapshot()?.committed(collector)).await?;
        Ok(committed.into_iter().find(|(own, _)| *own == epoch).map_or(0, |(_, through)| through))
    }

    /// Commits what waits, raises what was found in it, and acknowledges it.
    async fn commit(&mut self) -> Result<(), PipelineError> {
        let pending = self.pending.take();
        if pending.batches.is_empty() {
            return Ok(());
        }
        let span = tracing::info_span!("pipeline", batches = names_of(&pending.batches));
        self.commit_all(pending).instrument(span).await
    }

    async fn commit_all(&mut self, pending: Pending) -> Result<(), PipelineError> {
        let Pending { batches, findings, newest, .. } = pending;
        // Rows in which something was found stay behind the mark until the alerts are committed too.
        let is_silent = findings.found.is_empty() && findings.failed.is_empty();
        let evaluated = if is_silent { Evaluated::All } else { Evaluated::Before(self.evaluated) };
        let began = Instant::now();
        let appended = self.storage.insist(|store| store.append(&batches, evaluated)).await?;
        self.metrics.committed(&batches, &appended, began.elapsed());
        for (collector, epoch, through) in &appended.committed {
            tracing::debug!(%collector, %epoch, through, "committed");
        }
        self.trigger(&appended.triggers).await?;
        self.evaluated = appended.next_row;
        let events = batches.iter().flat_map(|batch| batch.events_after(0));
        self.conclude(findings, events, newest).await?;
        self.settle_deliveries().await?;
        self.note(&appended);
        let bus = self.acknowledgements.clone();
        acknowledge(&bus, appended.committed).await;
        Ok(())
    }

    /// Hands on what collectors ask of each other. More than can wait are refused: nothing here waits for a collector.
    async fn trigger(&self, triggers: &[TriggerRow]) -> Result<(), PipelineError> {
        for row in triggers {
            match self.triggers.try_send(row.clone()) {
                Ok(()) => {}
                Err(TrySendError::Full(row)) => {
                    let why = format!("more than {} triggers wait already", triggers::QUEUE);
                    let row = triggers::settled(row, "refused", Some(why), None);
                    self.storage.insist(|store| store.settle_trigger(&row)).await?;
                }
                // The agent ends: it stays due, and is carried out at the next start.
                Err(TrySendError::Closed(_)) => {}
            }
        }
        Ok(())
    }

    /// Rows that were committed and not evaluated when the agent last ended.
    async fn catch_up(&mut self) -> Result<(), PipelineError> {
        loop {
            let (events, next_row) = self.storage.insist(|store| store.snapshot()?.unevaluated(CATCH_UP_ROWS)).await?;
            self.evaluated = next_row;
            if events.is_empty() {
                return Ok(());
            }
            tracing::info!(events = events.len(), "events of before the start go through the rules");
            let findings = self.evaluate(&events).await?;
            let newest = std::mem::take(&mut self.pending.newest);
            self.conclude(findings, &events, newest).await?;
            self.storage.insist(|store| store.commit_alerts(&[], &[], next_row)).await?;
        }
    }

    /// Runs the rules over new events.
    async fn evaluate(&mut self, events: &[IdentifiedEvent]) -> Result<Findings, PipelineError> {
        if events.is_empty() {
            return Ok(Findings::default());
        }
        let newest = events.iter().map(|event| event.event.time()).max().unwrap_or(0);
        self.pending.newest = newest.max(self.pending.newest);
        let tables = Table::ALL
            .iter()
            .enumerate()
            .filter(|(_, table)| events.iter().any(|event| event.event.table() == **table));
        let tables: Vec<(usize, Table)> = tables.map(|(place, table)| (place, *table)).collect();
        let key = tables.iter().fold(0, |bits, (place, _)| bits | 1 << place);
        if self.doubts.get(&key).is_none_or(|(since, _)| since.elapsed() > DOUBTS) {
            let (gaps, limitations) = self.doubts().await?;
            let tables = tables.into_iter().map(|(_, table)| table);
            let reasons = completeness::reasons_at(&gaps, &limitations, tables, newest);
            self.doubts.insert(key, (Instant::now(), reasons));
        }
        let doubts = self.doubts.get(&key).map_or(&[][..], |(_, doubts)| doubts);
        let began = Instant::now();
        let findings = block_in_place(|| self.engine.execute_rules(events, doubts));
        self.metrics.evaluated(began.elapsed());
        tracing::debug!(events = events.len(), matches = findings.found.len(), "evaluated");
        Ok(findings)
    }

    /// Notes what rules could not look at in these events, and commits what they found.
    async fn conclude<'e>(
        &mut self,
        Findings { found, failed }: Findings,
        events: impl IntoIterator<Item = &'e IdentifiedEvent>,
        newest: i64,
    ) -> Result<(), PipelineError> {
        for (rule, why) in failed {
            self.note_failure(&rule, &why, newest).await?;
        }
        if found.is_empty() {
            return Ok(());
        }
        let wanted: HashSet<&str> = found.iter().map(|(_, found)| found.event_id.as_str()).collect();
        let matched = events.into_iter().filter(|event| wanted.contains(event.event_id.as_str()));
        let places: HashMap<String, (i64, Table)> =
            matched.map(|event| (event.event_id.clone(), (event.event.time(), event.event.table()))).collect();
        let (gaps, limitations) = self.doubts().await?;
        let found = found.into_iter().map(|(rule, found)| {
            let place = places.get(&found.event_id).copied();
            let (moment, table) = place.unwrap_or((newest, Table::ProcessEvents));
            let doubts = completeness::reasons_at(&gaps, &limitations, [table], moment);
            Suspicion { rule, found, moment, doubts }
        });
        self.raise(found.collect()).await
    }

    /// What a scheduled rule found becomes alerts as everything else does.
    async fn take_scheduled(&mut self, found: Found) -> Result<(), PipelineError> {
        let Found { rule, matches, failed, time, doubts, committed } = found;
        // The mark of what was evaluated is moved by alerts too: it must not pass what is not committed.
        self.commit().await?;
        if let Some(why) = failed {
            self.note_failure(&rule.id, &why, time).await?;
        }
        let suspicions = matches.into_iter().map(|found| Suspicion {
            rule: Arc::clone(&rule),
            found,
            moment: time,
            doubts: doubts.clone(),
        });
        self.raise(suspicions.collect()).await?;
        self.settle_deliveries().await?;
        // Nobody waits for it when the agent is ending.
        let _ = committed.send(());
        Ok(())
    }

    /// What a rule could not look at may hold what it looks for.
    async fn note_failure(&self, rule_id: &str, why: &str, from: i64) -> Result<(), PipelineError> {
        self.storage.insist(|store| self.rule_gaps.open(store, rule_id, why, from)).await.map(drop)
    }

    /// What is known to be missing now.
    async fn doubts(&self) -> Result<(Vec<GapRow>, Vec<Limitation>), PipelineError> {
        let collectors = self.collectors.clone();
        let gaps = self.storage.insist(|store| completeness::gaps(&store.snapshot()?, &collectors)).await?;
        Ok((gaps, self.collectors.limitations()))
    }

    fn note(&self, appended: &Appended) {
        for gap in &appended.gaps {
            tracing::warn!(collector = %gap.collector, kind = %gap.gap.kind, count = ?gap.gap.count, reason = %gap.gap.reason, "something was not seen");
        }
        let scans = &appended.scans;
        for (collector, until) in &appended.observed {
            self.collectors.committed(collector, Some(*until), scans);
        }
        self.storage.progress.note(|state| {
            state.events += appended.stored.iter().sum::<u64>();
            if let Some(scan) = scans.last() {
                state.last_scan_processes = Some(scan.scan.processes);
            }
        });
    }
}

async fn acknowledge(bus: &Client, committed: Vec<(String, Epoch, u64)>) {
    for (collector, epoch, through_sequence) in committed {
        let ack = BatchAck { epoch: epoch.0.to_vec(), through_sequence };
        let control = ControlPayload { control: Some(Control::Message(ack.encode_to_vec())) };
        // A collector that is gone gets what it needs to know when it registers.
        if let Err(closed) = bus.publish(&format!("control.collector.{collector}"), Payload::Control(control)).await {
            tracing::debug!(%closed, "an acknowledgement could not be sent");
        }
    }
}
