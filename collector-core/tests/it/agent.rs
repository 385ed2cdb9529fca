//! The agent's side: a broker, what it was told, and what it commits.

use daemoneye_eventbus::proto::control_payload::Control;
use daemoneye_eventbus::proto::{ControlPayload, EventBusMessage};
use daemoneye_eventbus::{Broker, BrokerConfig, Client, Gate, Payload, Request, Token};
use daemoneye_lib::proto::ipc::{
    BatchAck, CollectorStatus, CommittedThrough, EventBatch, Instructions, RegisterCollector, RegisterReply, Shutdown,
};
use prost::Message;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The collector's name in all tests.
pub(crate) const NAME: &str = "scripted";

/// A private place for one agent and one collector.
pub(crate) struct Site(TempDir);

impl Site {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.path().join("run/agent.sock")
    }

    pub(crate) fn sessions(&self) -> PathBuf {
        self.0.path().join("agent/sessions")
    }

    pub(crate) fn collector_dir(&self) -> PathBuf {
        self.0.path().join(NAME)
    }
}

/// How the agent answers; what it has committed outlives a restart.
#[derive(Default)]
pub(crate) struct State {
    /// Whether it acknowledges.
    pub(crate) acknowledges: bool,
    /// The registration's reply claims so many sequences more than the spool has assigned, once.
    pub(crate) ahead: Option<u64>,
    pub(crate) committed: BTreeMap<(Vec<u8>, u64), Vec<u8>>,
    pub(crate) repeated: usize,
    pub(crate) batches: usize,
    pub(crate) registrations: Vec<RegisterCollector>,
    pub(crate) status: Option<CollectorStatus>,
    /// What it wants of the collector when it registers.
    pub(crate) instructions: Option<Instructions>,
}

impl State {
    fn commit(&mut self, batch: EventBatch) -> BatchAck {
        assert_eq!(batch.collector, NAME);
        assert!(batch.items.len() <= 512);
        self.batches += 1;
        let through_sequence = batch.first_sequence + batch.items.len() as u64 - 1;
        for (sequence, item) in (batch.first_sequence..).zip(batch.items) {
            if let Some(known) = self.committed.insert((batch.epoch.clone(), sequence), item.clone()) {
                assert_eq!(known, item, "sequence {sequence} was assigned twice");
                self.repeated += 1;
            }
        }
        BatchAck { epoch: batch.epoch, through_sequence }
    }

    fn register(&mut self, registration: RegisterCollector) -> RegisterReply {
        let mut through = BTreeMap::new();
        for (epoch, sequence) in self.committed.keys() {
            through.insert(epoch.clone(), *sequence);
        }
        if let Some(ahead) = self.ahead.take() {
            through.insert(registration.epoch.clone(), registration.next_sequence + ahead);
        }
        self.registrations.push(registration);
        let committed = through.into_iter().map(|(epoch, sequence)| CommittedThrough { epoch, sequence }).collect();
        RegisterReply { committed, instructions: self.instructions.clone() }
    }
}

/// What outlives the agent's process.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn acknowledging() -> Self {
        Self::new(State { acknowledges: true, ..State::default() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn committed(&self) -> usize {
        self.lock().committed.len()
    }
}

pub(crate) struct Agent {
    client: Client,
    gate: Gate,
    stop: oneshot::Sender<()>,
    broker: JoinHandle<()>,
    ingest: JoinHandle<()>,
}

impl Agent {
    pub(crate) async fn start(site: &Site, shared: &Shared) -> Self {
        Self::start_with(BrokerConfig::new(site.socket(), site.sessions()), shared).await
    }

    pub(crate) async fn start_with(config: BrokerConfig, shared: &Shared) -> Self {
        let broker = Broker::bind(config).unwrap();
        let (client, gate) = (broker.local("ingest"), broker.gate());
        let (stop, stopped) = oneshot::channel();
        let broker = tokio::spawn(async move { broker.run(async { drop(stopped.await) }).await.unwrap() });
        let mut registrations = client.serve("control.collector.register").await.unwrap();
        let mut events = client.subscribe("events.#").await.unwrap();
        let mut health = client.subscribe("control.health.#").await.unwrap();
        let (shared, speaking) = (shared.clone(), client.clone());
        let ingest = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(request) = registrations.recv() => register(&shared, request).await,
                    Some(message) = events.recv() => ingest(&shared, &speaking, message).await,
                    Some(message) = health.recv() => {
                        let Some(Payload::Control(ControlPayload { control: Some(Control::Message(bytes)) })) = message.payload
                        else { panic!("no status") };
                        shared.lock().status = Some(CollectorStatus::decode(&bytes[..]).unwrap());
                    }
                    else => break,
                }
            }
        });
        Self { client, gate, stop, broker, ingest }
    }

    pub(crate) fn token(&self) -> Token {
        self.token_for(NAME)
    }

    pub(crate) fn token_for(&self, collector: &str) -> Token {
        self.gate.issue_token(collector).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Connections that were turned away.
    pub(crate) fn refused(&self) -> u64 {
        self.gate.refused()
    }

    /// Ends the collector.
    pub(crate) async fn shut_collector_down(&self) {
        let message = Shutdown { reason: "the test is over".to_owned() }.encode_to_vec();
        self.publish(&format!("control.shutdown.{NAME}"), message).await;
    }

    /// Tells the collector what is wanted of it.
    pub(crate) async fn instruct(&self, instructions: Instructions) {
        self.publish(&format!("control.config.{NAME}"), instructions.encode_to_vec()).await;
    }

    pub(crate) async fn publish(&self, topic: &str, message: Vec<u8>) {
        let control = Some(Control::Message(message));
        self.client.publish(topic, Payload::Control(ControlPayload { control })).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.broker.await.unwrap();
        self.ingest.abort();
    }
}

async fn register(shared: &Shared, request: Request) {
    let registration = RegisterCollector::decode(&request.body[..]).unwrap();
    let reply = shared.lock().register(registration);
    request.respond(reply.encode_to_vec()).await;
}

async fn ingest(shared: &Shared, client: &Client, message: EventBusMessage) {
    let Some(Payload::CollectionEvent(event)) = message.payload else { panic!("no events") };
    assert_eq!(message.topic, format!("events.process.{NAME}"));
    let (ack, acknowledges) = {
        let mut state = shared.lock();
        (state.commit(EventBatch::decode(&event.message[..]).unwrap()), state.acknowledges)
    };
    if acknowledges {
        let control = Some(Control::Message(ack.encode_to_vec()));
        let topic = format!("control.collector.{NAME}");
        // The broker may be stopping.
        let _ = client.publish(&topic, Payload::Control(ControlPayload { control })).await;
    }
}

/// Waits until it is so, for half a minute.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Fails instead of hanging.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.unwrap_or_else(|_| panic!("{what}: not within 30 s"))
}
