//! From the bus to the pipeline: what collectors publish, decoded as far as the batch; their registration and state.
//!
//! A batch is taken only from the collector whose name it bears. The queue to the pipeline is short and waits when it is
//! full: the broker then stops reading from the collectors, whose spools hold what they cannot send.

use crate::collecting::admission;
use crate::collecting::collectors::{Collectors, Ways};
use crate::collecting::observing::{self, Observing};
use crate::metrics::Metrics;
use daemoneye_eventbus::proto::control_payload::Control;
use daemoneye_eventbus::proto::event_bus_message::Payload;
use daemoneye_eventbus::proto::{EventBusMessage, Role};
use daemoneye_eventbus::{Request, Requests, Subscription};
use daemoneye_lib::models::domain::Domains;
use daemoneye_lib::models::event::Epoch;
use daemoneye_lib::proto::ipc::{
    CollectorStatus, CommittedThrough, EventBatch, RegisterCollector, RegisterReply, RequestError, RequestErrorKind,
};
use daemoneye_lib::storage::{Arrived, Store, StoreError, Understood};
use daemoneye_lib::telemetry::batch_id;
use prost::Message as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;
use tokio::task::block_in_place;

/// Batches of a group that its log lines name.
const MAX_NAMES: usize = 16;
/// A wait for the pipeline that collectors may have noticed.
const LONG: Duration = Duration::from_millis(500);

/// Takes batches from the bus until it closes.
pub(crate) struct Ingest {
    pub(crate) events: Subscription,
    pub(crate) pipeline: Sender<Arrived>,
    pub(crate) metrics: Metrics,
    pub(crate) collectors: Collectors,
}

impl Ingest {
    pub(crate) async fn run(mut self) -> String {
        while let Some(message) = self.events.recv().await {
            let batch = arrived(message).and_then(|batch| match self.collectors.is_admitted(&batch.collector) {
                true => Ok(Arrived { domains: self.collectors.domains(&batch.collector), ..batch }),
                false => Err(format!("`{}` is not registered", batch.collector)),
            });
            match batch {
                Ok(batch) => {
                    tracing::debug!(batch = name_of(&batch), "arrived");
                    self.metrics.received(&batch);
                    let began = Instant::now();
                    if self.pipeline.send(batch).await.is_err() {
                        return "the pipeline has ended".to_owned();
                    }
                    // While nothing is taken, nothing is read from collectors either.
                    if began.elapsed() > LONG {
                        self.collectors.listens_again();
                    }
                }
                Err(why) => {
                    self.metrics.refused();
                    tracing::warn!(%why, "a batch was refused");
                }
            }
        }
        "the bus has closed".to_owned()
    }
}

/// What a group of batches is called, as far as a line of the log has room.
pub(crate) fn names_of(group: &[Understood]) -> String {
    let mut names: Vec<String> = group.iter().take(MAX_NAMES).map(|batch| name_of(batch.batch())).collect();
    if group.len() > MAX_NAMES {
        names.push(format!("and {} more", group.len() - MAX_NAMES));
    }
    names.join(" ")
}

/// What the logs of its collector call a batch.
pub(crate) fn name_of(batch: &Arrived) -> String {
    batch_id(&batch.collector, batch.epoch, batch.first_sequence, batch.items.len())
}

fn arrived(message: EventBusMessage) -> Result<Arrived, String> {
    let sender = message.sender.unwrap_or_default();
    let Some(Payload::CollectionEvent(payload)) = message.payload else {
        return Err(format!("`{}` published something that is no batch on {}", sender.name, message.topic));
    };
    let batch = EventBatch::decode(payload.message.as_slice())
        .map_err(|error| format!("a batch of `{}` cannot be decoded: {error}", sender.name))?;
    if sender.role() != Role::Collector || sender.name != batch.collector {
        return Err(format!("`{}` sent a batch in the name of `{}`", sender.name, batch.collector));
    }
    let epoch = Epoch::try_from(batch.epoch.as_slice())
        .map_err(|_| format!("a batch of `{}` has an epoch of {} bytes", sender.name, batch.epoch.len()))?;
    Ok(Arrived {
        collector: batch.collector,
        // What it may tell of, its registration says.
        domains: Domains::default(),
        epoch,
        first_sequence: batch.first_sequence,
        items: batch.items,
    })
}

/// Registers collectors until the bus closes.
pub(crate) struct Registration {
    pub(crate) requests: Requests,
    pub(crate) store: Arc<Store>,
    pub(crate) collectors: Collectors,
    pub(crate) metrics: Metrics,
    pub(crate) test_mode: bool,
}

impl Registration {
    pub(crate) async fn run(mut self) -> String {
        while let Some(request) = self.requests.recv().await {
            match self.register(&request) {
                Ok(reply) => request.respond(reply.encode_to_vec()).await,
                Err(why) => {
                    tracing::warn!(%why, "a registration was refused");
                    let error = RequestError {
                        kind: RequestErrorKind::RefusedRequest.into(),
                        message: why,
                        ..RequestError::default()
                    };
                    request.fail(error.encode_to_vec()).await;
                }
            }
        }
        "the bus has closed".to_owned()
    }

    fn register(&self, request: &Request) -> Result<RegisterReply, String> {
        let register =
            RegisterCollector::decode(request.body.as_slice()).map_err(|error| format!("a registration: {error}"))?;
        let name = &register.collector;
        if request.sender.name != *name {
            return Err(format!("`{}` registers as `{name}`", request.sender.name));
        }
        if let Err(why) = admission::judge(&register, self.test_mode) {
            self.collectors.refused(name, &why);
            return Err(format!("the collector `{name}` {why}"));
        }
        let committed = block_in_place(|| self.prepare(&register)).map_err(|error| error.to_string())?;
        if !self.collectors.registered(&register) {
            return Err(format!("no room for the collector `{name}`"));
        }
        let (mode, reason) = (&register.mode, &register.mode_reason);
        tracing::info!(collector = %name, pid = register.pid, reason, "a collector is attached, source: {mode}");
        Ok(RegisterReply { committed, instructions: self.collectors.instructions(name) })
    }

    /// Notes what it is blind to, from the beginning of this way of observing on.
    fn prepare(&self, register: &RegisterCollector) -> Result<Vec<CommittedThrough>, StoreError> {
        let domains = register.capabilities.as_ref().map(|can| Domains::named(&can.domains)).unwrap_or_default();
        for kind in Observing::registered(register).settle(&self.store, &register.collector, domains)? {
            self.metrics.gap(&register.collector, &kind);
        }
        let committed = self.store.snapshot()?.committed(&register.collector)?;
        Ok(committed
            .into_iter()
            .map(|(epoch, sequence)| CommittedThrough { epoch: epoch.0.to_vec(), sequence })
            .collect())
    }
}

/// Notes what collectors say of themselves until the bus closes.
pub(crate) struct Statuses {
    pub(crate) messages: Subscription,
    pub(crate) store: Arc<Store>,
    pub(crate) collectors: Collectors,
    pub(crate) metrics: Metrics,
    pub(crate) test_mode: bool,
}

impl Statuses {
    pub(crate) async fn run(mut self) -> String {
        while let Some(message) = self.messages.recv().await {
            let sender = message.sender.unwrap_or_default();
            let Some(Payload::Control(control)) = message.payload else { continue };
            let Some(Control::Message(body)) = control.control else { continue };
            match CollectorStatus::decode(body.as_slice()) {
                Ok(status) => self.note(&sender.name, &status),
                Err(error) => tracing::warn!(collector = %sender.name, %error, "a status cannot be decoded"),
            }
        }
        "the bus has closed".to_owned()
    }

    fn note(&self, collector: &str, status: &CollectorStatus) {
        let turned = self.collectors.ways(collector).and_then(|ways| self.turned(collector, &ways, status));
        self.collectors.status(collector, status, turned);
    }

    /// The way in which the collector observes now, where that is news: then it is in the store before anybody is told of it.
    /// Where the disk refuses, the next status tries again.
    fn turned(&self, collector: &str, ways: &Ways, status: &CollectorStatus) -> Option<Observing> {
        if let Err(why) = observing::judge(status, ways.domains, self.test_mode) {
            tracing::warn!(%collector, %why, "how a collector observes is not believed");
            return None;
        }
        let now = ways.registered.told(status);
        if now.is_like(&ways.now) {
            return None;
        }
        match block_in_place(|| now.settle(&self.store, collector, ways.domains)) {
            Ok(begun) => begun.iter().for_each(|kind| self.metrics.gap(collector, kind)),
            Err(error) => {
                tracing::error!(%collector, %error, "how a collector observes cannot be stored");
                return None;
            }
        }
        tracing::warn!(%collector, mode = %now.mode, why = %now.mode_reason, "a collector observes in another way");
        Some(now)
    }
}
