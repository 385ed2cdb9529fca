//! The bus as its users see it: a broker on a socket, clients, and peers that misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod allowance;
mod bind;
mod calls;
mod credit;
mod crowd;
mod encryption;
mod floods;
mod fuzz;
mod hostile;
mod identity;
mod instances;
mod publish;
mod slow;
mod standing;

use std::{
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use daemoneye_eventbus::{
    Broker, BrokerConfig, Client, Closed, Connected, Credential, Gate, Identity, Payload, RunError, SessionKey, frame,
    proto::{AlertPayload, CollectionEventPayload, EventBusMessage},
};
use prost::Message as _;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, net::UnixStream, sync::oneshot, task::JoinHandle, time::timeout};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("this takes too long")
}

/// A running broker in a directory of its own.
struct Bus {
    dir: TempDir,
    socket: PathBuf,
    gate: Gate,
    agent: Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), RunError>>,
}

impl Bus {
    /// One that holds no failure against this process, in which everybody is, hostile or not.
    fn start() -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), |_| {})
    }

    fn start_with(dir: TempDir, configure: impl FnOnce(&mut BrokerConfig)) -> Self {
        let mut config = config_in(dir.path());
        configure(&mut config);
        let socket = config.path.clone();
        let broker = Broker::bind(config).unwrap();
        let (gate, agent) = (broker.gate(), broker.local("test"));
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(broker.run(async { drop(stopped.await) }));
        Self { dir, socket, gate, agent, stop, running }
    }

    async fn stop(self) -> TempDir {
        drop(self.stop);
        within(self.running).await.unwrap().unwrap();
        self.dir
    }

    async fn operator(&self) -> Client {
        within(Client::connect(&self.socket, Identity::Operator)).await.unwrap().client
    }

    async fn collector(&self, name: &str) -> (Client, SessionKey) {
        let credential = Credential::Token(self.gate.issue_token(name).unwrap());
        let Connected { client, session_key, .. } = self.collector_with(name, credential).await.unwrap();
        (client, session_key.unwrap())
    }

    async fn collector_with(
        &self,
        name: &str,
        credential: Credential,
    ) -> Result<Connected, daemoneye_eventbus::ConnectError> {
        within(Client::connect(&self.socket, Identity::Collector { name: name.into(), credential })).await
    }

    /// A server on `requests.echo`, and the proof that everything still works for those who behave.
    async fn serve_echo(&self) {
        let mut requests = self.agent.serve("requests.echo").await.unwrap();
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                let body = request.body.clone();
                request.respond(body).await;
            }
        });
    }
}

async fn echo_works(client: &Client) {
    let answer = client.call("requests.echo", b"still here".to_vec(), PATIENCE).await.unwrap();
    assert_eq!(answer, b"still here");
}

fn config_in(dir: &Path) -> BrokerConfig {
    let (failures_at_once, failures_a_second) = (u32::MAX, u32::MAX);
    BrokerConfig {
        failures_at_once,
        failures_a_second,
        ..BrokerConfig::new(dir.join("run/agent.sock"), dir.join("sessions"))
    }
}

fn event(bytes: impl Into<Vec<u8>>) -> Payload {
    Payload::CollectionEvent(CollectionEventPayload { message: bytes.into() })
}

fn alert(bytes: impl Into<Vec<u8>>) -> Payload {
    Payload::Alert(AlertPayload { message: bytes.into() })
}

fn body(message: EventBusMessage) -> Vec<u8> {
    match message.payload {
        Some(
            Payload::CollectionEvent(CollectionEventPayload { message }) | Payload::Alert(AlertPayload { message }),
        ) => message,
        other => panic!("{other:?} is no event and no alert"),
    }
}

/// A peer that speaks frames by hand.
struct Raw(UnixStream);

impl Raw {
    async fn connect(socket: &Path) -> Self {
        Self(within(UnixStream::connect(socket)).await.unwrap())
    }

    async fn write(&mut self, bytes: &[u8]) {
        // The broker may have closed already: what it said is what counts.
        let _ = within(self.0.write_all(bytes)).await;
    }

    async fn send(&mut self, message: &EventBusMessage) {
        self.write(&frame::encode(&message.encode_to_vec()).unwrap()).await;
    }

    /// The next message; `None` at the end.
    async fn read(&mut self) -> Option<EventBusMessage> {
        let payload = within(frame::read(&mut self.0, frame::MAX_FRAME)).await.ok()??;
        Some(EventBusMessage::decode(payload.as_slice()).unwrap())
    }
}

#[track_caller]
fn closed_because(result: Result<impl Sized, Closed>, part: &str) {
    let reason = result.err().expect("the connection should be closed").reason;
    assert!(reason.contains(part), "{reason}");
}
