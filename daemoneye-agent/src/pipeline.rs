//! The one way of an event through the agent: store, rules, alerts, acknowledgement.
//!
//! ```text
//! ingest ──batches──► append (commit) ──► rules ──► alerts (commit) ──► sinks, and whoever watches
//!                                                        └──► acknowledgement to the collector
//! ```
//!
//! Crash windows. Before the first commit: nothing happened, the collector sends again. Between the commits: the rows are
//! in the store behind the mark of what was evaluated, and go through the rules at the next start. After the second: the
//! acknowledgement is repeated when the collector sends again, and the due deliveries are in the store.
//!
//! When the disk refuses, nothing is acknowledged: what has arrived waits here, the queue before it fills, the bus stops
//! reading and the collectors spool. The store is reopened until it works again.

use crate::answering::completeness::{self, Limitation, RuleGaps};
use crate::collecting::collectors::Collectors;
use crate::collecting::ingest::names_of;
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
use daemoneye_lib::storage::{Appended, Arrived, OpenError, Store, StoreError};
use prost::Message as _;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::Instrument as _;

/// Items that are committed together, so that many small batches share the cost of a commit.
const GROUP_ITEMS: usize = 1_024;
/// Bytes that are committed together.
const GROUP_BYTES: usize = 2 << 20;
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
    /// What `detection.runs` says of completeness, since when, and over events of which tables.
    pub(crate) doubts: Vec<String>,
    pub(crate) doubts_of: Option<(Instant, HashSet<Table>)>,
    /// Between two attempts to deliver what is due.
    pub(crate) delivery_retry: Duration,
    /// Deliveries that a sink is busy with, and since when.
    pub(crate) under_way: HashMap<(String, String), Instant>,
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
            let first = tokio::select! {
                first = batches.recv() => first,
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
            let group = group(first, &mut batches);
            let span = tracing::info_span!("pipeline", batches = names_of(&group));
            self.take(&group).instrument(span).await?;
        }
        // What is known to be evaluated need not be evaluated again at the next start.
        self.settle_deliveries().await?;
        block_in_place(|| self.storage.store.commit_alerts(&[], &[], self.evaluated))?;
        Ok(())
    }

    async fn take(&mut self, group: &[Arrived]) -> Result<(), PipelineError> {
        let (evaluated, began) = (self.evaluated, Instant::now());
        let appended = self.storage.insist(|store| store.append(group, evaluated)).await?;
        self.metrics.committed(group, &appended, began.elapsed());
        for (collector, epoch, through) in &appended.committed {
            tracing::debug!(%collector, %epoch, through, "committed");
        }
        self.trigger(&appended.triggers).await?;
        self.evaluate(&appended.events, appended.next_row).await?;
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
            self.evaluate(&events, next_row).await?;
            self.storage.insist(|store| store.commit_alerts(&[], &[], next_row)).await?;
        }
    }

    /// Runs the rules over new rows and commits what they find.
    async fn evaluate(&mut self, events: &[IdentifiedEvent], next_row: u64) -> Result<(), PipelineError> {
        let newest = events.iter().map(|event| event.event.time()).max().unwrap_or(0);
        let tables: HashSet<Table> = events.iter().map(|event| event.event.table()).collect();
        if self.doubts_of.as_ref().is_none_or(|(of, over)| of.elapsed() > DOUBTS || *over != tables) {
            let (gaps, limitations) = self.doubts().await?;
            self.doubts = completeness::reasons_at(&gaps, &limitations, tables.iter().copied(), newest);
            self.doubts_of = Some((Instant::now(), tables));
        }
        let began = Instant::now();
        let Findings { found, failed } = block_in_place(|| self.engine.execute_rules(events, &self.doubts));
        self.metrics.evaluated(began.elapsed());
        tracing::debug!(events = events.len(), matches = found.len(), "evaluated");
        self.evaluated = next_row;
        for (rule, why) in failed {
            self.note_failure(&rule, &why, newest).await?;
        }
        if found.is_empty() {
            return Ok(());
        }
        let places: HashMap<&str, (i64, Table)> =
            events.iter().map(|event| (event.event_id.as_str(), (event.event.time(), event.event.table()))).collect();
        let (gaps, limitations) = self.doubts().await?;
        let found = found.into_iter().map(|(rule, found)| {
            let place = places.get(found.event_id.as_str()).copied();
            let (moment, table) = place.unwrap_or((newest, Table::ProcessEvents));
            let doubts = completeness::reasons_at(&gaps, &limitations, [table], moment);
            Suspicion { rule, found, moment, doubts }
        });
        self.raise(found.collect()).await
    }

    /// What a scheduled rule found becomes alerts as everything else does.
    async fn take_scheduled(&mut self, found: Found) -> Result<(), PipelineError> {
        let Found { rule, matches, failed, time, doubts, committed } = found;
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
            state.events += appended.events.len() as u64;
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

/// What has arrived by now, up to the bounds of one commit.
fn group(first: Arrived, batches: &mut Receiver<Arrived>) -> Vec<Arrived> {
    let size = |batch: &Arrived| batch.items.iter().map(Vec::len).sum::<usize>();
    let (mut items, mut bytes) = (first.items.len(), size(&first));
    let mut group = vec![first];
    while items < GROUP_ITEMS && bytes < GROUP_BYTES {
        let Ok(next) = batches.try_recv() else { break };
        items += next.items.len();
        bytes += size(&next);
        group.push(next);
    }
    group
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
