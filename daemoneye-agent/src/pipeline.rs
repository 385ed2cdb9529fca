//! The one way of an event through the agent: rules, store, alerts, acknowledgement.
//!
//! ```text
//! ingest ──batches──► rules ──► append (commit) ──► alerts (commit) ──► sinks, and whoever watches
//!                       │             ▲    └──► acknowledgement to the collector
//!                       └── nothing ──┘ within a fifth of a second, with others
//! ```
//!
//! A commit costs the same for one event as for hundreds, so batches in which no rule found anything wait for each other for
//! at most [`COMMIT_EVERY`]. What a rule found is committed at once, with all that came before it.
//!
//! Crash windows. Before the first commit: nothing happened, the collector sends again. Between the commits: the rows are
//! in the store behind the mark of what was evaluated, and go through the rules at the next start. After the second: the
//! acknowledgement is repeated when the collector sends again, and the due deliveries are in the store.
//!
//! When the disk refuses, nothing is acknowledged: what has arrived waits here, the queue before it fills, the bus stops
//! reading and the collectors spool. The store is reopened until it works again.

use crate::answering::completeness::{self, Limitation, RuleGaps};
use crate::collecting::collectors::Collectors;
use crate::collecting::ingest::{name_of, names_of};
use crate::collecting::triggers;
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::ruling::schedule::Found;
use daemoneye_eventbus::proto::ControlPayload;
use daemoneye_eventbus::proto::control_payload::Control;
use daemoneye_eventbus::{Client, Payload};
use daemoneye_lib::alerting::{Generated, Sinks, generate_alert};
use daemoneye_lib::detection::engine::Match;
use daemoneye_lib::detection::rules::Rule;
use daemoneye_lib::detection::standing::{DetectionEngine, Findings};
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::event::{Epoch, IdentifiedEvent};
use daemoneye_lib::models::rows::{DeliveryRow, GapRow, TriggerRow};
use daemoneye_lib::models::time;
use daemoneye_lib::proto::common::Alert;
use daemoneye_lib::proto::ipc::BatchAck;
use daemoneye_lib::storage::{Appended, Arrived, Evaluated, OpenError, Store, StoreError, Understood};
use prost::Message as _;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};
use tracing::Instrument as _;

/// How long batches wait for others with which they are committed.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// Items after which nothing waits any more.
const GROUP_ITEMS: usize = 1_024;
/// Bytes after which nothing waits any more.
const GROUP_BYTES: usize = 2 << 20;
/// Epochs whose newest sequence is remembered here; of one that is forgotten the store is asked.
const KNOWN_EPOCHS: usize = 64;
/// Rows that are evaluated together after a crash.
const CATCH_UP_ROWS: usize = 1_024;
/// Between two attempts.
pub(crate) const DELIVERY_RETRY: Duration = Duration::from_secs(5);
/// Deliveries that are tried again at once.
const DELIVERY_BATCH: usize = 256;
/// How old what `detection.runs` says of completeness may be; alerts are judged anew each time.
const DOUBTS: Duration = Duration::from_secs(5);
const REOPEN_FIRST: Duration = Duration::from_millis(200);
const REOPEN_LAST: Duration = Duration::from_secs(5);

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

    fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PipelineError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Reopen(#[from] OpenError),
}

/// The store, and patience with the disk below it.
pub(crate) struct Persistence {
    pub(crate) store: Arc<Store>,
    pub(crate) progress: Progress,
}

impl Persistence {
    /// Does something with the store, however long the disk refuses. Damage is another matter: it ends the agent.
    async fn insist<T>(&self, work: impl Fn(&Store) -> Result<T, StoreError>) -> Result<T, PipelineError> {
        let mut wait = REOPEN_FIRST;
        loop {
            let error = match block_in_place(|| work(&self.store)) {
                Ok(done) => {
                    self.progress.note(|state| state.store_trouble = None);
                    return Ok(done);
                }
                Err(error @ (StoreError::Io { .. } | StoreError::Closed { .. })) => error,
                Err(error) => return Err(error.into()),
            };
            tracing::error!(%error, "nothing is stored or acknowledged until the disk takes it again");
            self.progress.note(|state| state.store_trouble = Some(error.to_string()));
            sleep(wait).await;
            wait = (wait * 2).min(REOPEN_LAST);
            match block_in_place(|| self.store.reopen()) {
                Ok(()) | Err(OpenError::Io { .. } | OpenError::InUse { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

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

/// Batches that have been through the rules and are not yet committed.
#[derive(Default)]
pub(crate) struct Pending {
    batches: Vec<Understood>,
    items: usize,
    bytes: usize,
    /// When they are committed at the latest.
    due: Option<Instant>,
    /// What the rules found in them.
    findings: Findings,
    /// The newest time of an event in them.
    newest: i64,
    /// Through which sequence everything has been through the rules, by collector and epoch.
    known: HashMap<(String, Epoch), u64>,
}

impl Pending {
    /// Whether they are not to wait.
    fn is_pressing(&self) -> bool {
        let is_silent = self.findings.found.is_empty() && self.findings.failed.is_empty();
        // Whatever else is told (a scan, a gap, a trigger) is told seldom, and somebody waits for it.
        let of_events = self.batches.last().is_none_or(Understood::is_of_events);
        !is_silent || !of_events || self.items >= GROUP_ITEMS || self.bytes >= GROUP_BYTES
    }

    fn add(&mut self, batch: Understood, findings: Findings) {
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
        let known = std::mem::take(&mut self.pending.known);
        let pending = std::mem::replace(&mut self.pending, Pending { known, ..Pending::default() });
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

    /// Makes alerts of matches, or counts them to alerts that are there.
    async fn raise(&mut self, suspicions: Vec<Suspicion>) -> Result<(), PipelineError> {
        if suspicions.is_empty() {
            return Ok(());
        }
        let mut alerts: Vec<(Alert, bool)> = Vec::new();
        for Suspicion { rule, found, moment, doubts } in &suspicions {
            let pending =
                alerts.iter().rposition(|(alert, _)| alert.rule_id == rule.id && alert.dedup_key == found.dedup_key);
            let earlier = match pending {
                Some(index) => Some(alerts[index].0.clone()),
                None => self.storage.insist(|store| store.latest_alert(&rule.id, &found.dedup_key)).await?,
            };
            match (generate_alert(rule, found, *moment, doubts, earlier), pending) {
                (Generated::Known, _) => {}
                (Generated::Again(alert), Some(index)) => alerts[index].0 = alert,
                (Generated::Again(alert), None) => alerts.push((alert, false)),
                (Generated::New(alert), _) => alerts.push((alert, true)),
            }
            tracing::debug!(event = %found.event_id, rule = %rule.id, "matched");
        }
        let evaluated = self.evaluated;
        self.dispatch(alerts, evaluated).await
    }

    /// What is known to be missing now.
    async fn doubts(&self) -> Result<(Vec<GapRow>, Vec<Limitation>), PipelineError> {
        let collectors = self.collectors.clone();
        let gaps = self.storage.insist(|store| completeness::gaps(&store.snapshot()?, &collectors)).await?;
        Ok((gaps, self.collectors.limitations()))
    }

    /// Commits alerts with their due deliveries, then hands the new ones to the sinks.
    async fn dispatch(&mut self, alerts: Vec<(Alert, bool)>, next_row: u64) -> Result<(), PipelineError> {
        let fresh = alerts.iter().filter(|(_, is_new)| *is_new);
        let due: Vec<(DeliveryRow, Alert)> = fresh
            .clone()
            .flat_map(|(alert, _)| self.sinks.due(alert).into_iter().map(|row| (row, alert.clone())))
            .collect();
        let rows: Vec<DeliveryRow> = due.iter().map(|(row, _)| row.clone()).collect();
        let new = fresh.count() as u64;
        self.metrics.alerted(&alerts);
        for (alert, is_new) in &alerts {
            let event = alert.event_ids.last().map(String::as_str).unwrap_or_default();
            tracing::debug!(event, alert = %alert.alert_id, rule = %alert.rule_id, is_new, "alert");
        }
        let alerts: Vec<Alert> = alerts.into_iter().map(|(alert, _)| alert).collect();
        self.storage.insist(|store| store.commit_alerts(&alerts, &rows, next_row)).await?;
        self.storage.progress.note(|state| state.alerts += new);
        self.feed.publish(&alerts).await;
        for (row, alert) in due {
            self.deliver(row, alert);
        }
        Ok(())
    }

    fn deliver(&mut self, row: DeliveryRow, alert: Alert) {
        let key = (row.alert_id.clone(), row.sink.clone());
        if self.under_way.contains_key(&key) {
            return;
        }
        tracing::debug!(alert = %key.0, sink = %key.1, "delivering");
        if self.sinks.deliver_alert(row, Arc::new(alert)) {
            self.under_way.insert(key, Instant::now());
        }
    }

    /// Records what became of deliveries, and tries again what is still due.
    async fn settle_deliveries(&mut self) -> Result<(), PipelineError> {
        let outcomes: Vec<DeliveryRow> =
            self.outcomes.get_mut().unwrap_or_else(PoisonError::into_inner).try_iter().collect();
        if !outcomes.is_empty() {
            self.storage.insist(|store| store.record_deliveries(&outcomes)).await?;
        }
        for row in outcomes {
            let began = self.under_way.remove(&(row.alert_id.clone(), row.sink.clone()));
            self.metrics.delivered(&row, began.map(|began| began.elapsed()));
            tracing::debug!(alert = %row.alert_id, sink = %row.sink, status = %row.status, "delivery");
            self.storage.progress.note(|state| match row.error {
                Some(why) => {
                    tracing::warn!(sink = %row.sink, %why, attempts = row.attempts, "an alert could not be delivered");
                    state.sink_troubles.insert(row.sink, why);
                }
                None => {
                    state.sink_troubles.remove(&row.sink);
                }
            });
        }
        Ok(())
    }

    async fn retry_deliveries(&mut self) -> Result<(), PipelineError> {
        let due = self.storage.insist(|store| store.due_deliveries(DELIVERY_BATCH)).await?;
        let mut homeless = Vec::new();
        for (mut row, alert) in due {
            if self.sinks.has(&row.sink) {
                self.deliver(row, alert);
            } else if !self.under_way.contains_key(&(row.alert_id.clone(), row.sink.clone())) {
                // Counted like any attempt, so that it does not stand before those that can be delivered for ever.
                row.status = "failed".to_owned();
                row.error = Some("the sink is not configured any more".to_owned());
                row.attempts += 1;
                row.time = time::now_ns();
                homeless.push(row);
            }
        }
        if !homeless.is_empty() {
            tracing::warn!(deliveries = homeless.len(), sink = %homeless[0].sink, "alerts are due to a sink that is gone");
            self.storage.insist(|store| store.record_deliveries(&homeless)).await?;
        }
        Ok(())
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

/// A match on its way to an alert.
struct Suspicion {
    rule: Arc<Rule>,
    found: Match,
    moment: i64,
    /// Why something may be missing around it.
    doubts: Vec<String>,
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
