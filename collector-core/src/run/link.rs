//! The connection to the agent: coming up, staying up, coming back.
//!
//! ```text
//!  Resting ──► Connecting ──► Up ──┐
//!     ▲            │ refused,      │ closed, silent, unreadable
//!     └────────────┴── backoff ────┘
//! ```
//!
//! [`Link::next`] may be cancelled at any await without losing anything: whatever is under way is kept in the state.

use super::backoff::Backoff;
use daemoneye_eventbus::proto::control_payload::Control;
use daemoneye_eventbus::proto::event_bus_message::Payload;
use daemoneye_eventbus::proto::{CollectionEventPayload, ControlPayload, EventBusMessage};
use daemoneye_eventbus::topic;
use daemoneye_eventbus::{
    CallError, Client, Closed, ConnectError, Credential, Identity, Keys, Request, Requests, SessionKey, Subscription,
    Token,
};
use daemoneye_lib::models::event::Epoch;
use daemoneye_lib::proto::ipc::{
    BatchAck, CollectorStatus, EventBatch, Instructions, RegisterCollector, RegisterReply, RequestError, Shutdown,
};
use prost::Message;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

const REGISTER_TOPIC: &str = "control.collector.register";
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that lasted so long was a good one: the next try comes soon.
const SETTLED: Duration = Duration::from_secs(5);
/// Refusals in a row after which a collector with no other credential gives up.
const REFUSALS: u32 = 5;

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What happened on the connection.
pub(super) enum LinkEvent {
    /// It is time for [`Link::connect`].
    Due,
    /// Registered; this is what the agent has committed already, and what it wants.
    Up(Welcomed),
    /// Not connected, or no longer.
    Down(String),
    /// No credential is left that the agent accepts.
    Refused(String),
    /// The agent has committed everything of the epoch up to the sequence.
    Acknowledged(Epoch, u64),
    /// What was published last has left.
    Sent,
    /// There is credit again.
    Credited,
    /// The agent wants this collector to end.
    Shutdown(String),
    /// The agent wants something else than before.
    Instructed(Instructions),
    /// The agent wants this done.
    Task(Request),
}

/// What the agent answered to the registration.
pub(super) struct Welcomed {
    pub(super) committed: Vec<(Epoch, u64)>,
    pub(super) instructions: Option<Instructions>,
}

/// Where the agent is, and how it is spoken to.
#[derive(Clone)]
pub(super) struct Agent {
    pub(super) socket: PathBuf,
    pub(super) keys: Option<Keys>,
}

/// The connection and what it takes to get one.
pub(super) struct Link {
    agent: Agent,
    name: String,
    event_topic: String,
    health_topic: String,
    serves_tasks: bool,
    credentials: Credentials,
    refusals: u32,
    backoff: Backoff,
    state: State,
}

struct Credentials {
    key_path: PathBuf,
    /// What the file holds, or would hold if it could be written.
    key: Option<SessionKey>,
    /// Until it was presented.
    token: Option<Token>,
}

enum State {
    Resting(Instant),
    Connecting(Task<Attempt>),
    Up(Box<Session>),
}

struct Session {
    client: Client,
    acknowledgements: Subscription,
    shutdown: Subscription,
    instructions: Subscription,
    tasks: Option<Requests>,
    agent_uid: Option<u32>,
    /// The one publication that is under way.
    sending: Option<Task<Result<(), Closed>>>,
    /// Whether a batch waits for credit.
    starved: bool,
    since: Instant,
}

/// How a try to come up ended.
struct Attempt {
    /// What a token was exchanged for, also when what followed went wrong.
    new_key: Option<SessionKey>,
    refused: bool,
    outcome: Result<(Session, Welcomed), String>,
}

impl Link {
    /// A link that is due at once. The events' topic is `events.<domain>.<name>`.
    pub(super) fn new(agent: Agent, name: &str, domain: &str, key_path: PathBuf, token: Option<Token>) -> Self {
        let key = match SessionKey::load(&key_path) {
            Ok(key) => key,
            Err(error) => {
                tracing::warn!("{error}");
                None
            }
        };
        Self {
            agent,
            name: name.to_owned(),
            event_topic: format!("events.{domain}.{name}"),
            health_topic: format!("control.health.{name}"),
            serves_tasks: false,
            credentials: Credentials { key_path, key, token },
            refusals: 0,
            backoff: Backoff::default(),
            state: State::Resting(Instant::now()),
        }
    }

    /// Whether tasks are to be served on the connections to come.
    pub(super) fn serve_tasks(&mut self, serves: bool) {
        self.serves_tasks = serves;
    }

    pub(super) fn has_credential(&self) -> bool {
        self.credentials.key.is_some() || self.credentials.token.is_some()
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// Whether something can be published now; only one publication is under way at a time.
    pub(super) fn is_free(&self) -> bool {
        matches!(&self.state, State::Up(session) if session.sending.is_none())
    }

    /// Whether the agent has given credit for a batch; where it has not, [`LinkEvent::Credited`] tells of it.
    pub(super) fn has_credit(&mut self) -> bool {
        let State::Up(session) = &mut self.state else { return false };
        session.starved = !session.client.has_credit();
        !session.starved
    }

    /// Who the agent is, while the link is up and where the system tells it.
    pub(super) fn agent_uid(&self) -> Option<u32> {
        if let State::Up(session) = &self.state { session.agent_uid } else { None }
    }

    /// Whether a publication is on its way.
    pub(super) fn is_sending(&self) -> bool {
        matches!(&self.state, State::Up(session) if session.sending.is_some())
    }

    /// Begins to connect and to register.
    pub(super) fn connect(&mut self, registration: RegisterCollector) {
        let Credentials { key, token, .. } = &self.credentials;
        self.state = State::Connecting(Box::pin(attempt(
            self.agent.clone(),
            self.name.clone(),
            key.clone(),
            token.clone(),
            registration,
            self.serves_tasks,
        )));
    }

    /// Gives the connection up and rests for a while.
    pub(super) fn reset(&mut self) {
        if matches!(&self.state, State::Up(session) if session.since.elapsed() >= SETTLED) {
            self.backoff.reset();
        }
        self.state = State::Resting(Instant::now() + self.backoff.next());
    }

    pub(super) fn publish_batch(&mut self, batch: &EventBatch) {
        let message = batch.encode_to_vec();
        self.publish(self.event_topic.clone(), Payload::CollectionEvent(CollectionEventPayload { message }));
    }

    pub(super) fn publish_status(&mut self, status: &CollectorStatus) {
        let control = Some(Control::Message(status.encode_to_vec()));
        self.publish(self.health_topic.clone(), Payload::Control(ControlPayload { control }));
    }

    /// Only while the link [is free](Self::is_free).
    fn publish(&mut self, topic: String, payload: Payload) {
        if let State::Up(session) = &mut self.state {
            let client = session.client.clone();
            session.sending = Some(Box::pin(async move { client.publish(&topic, payload).await }));
        }
    }

    /// What happens next. After [`LinkEvent::Down`] and [`LinkEvent::Refused`] the link rests.
    pub(super) async fn next(&mut self) -> LinkEvent {
        let event = match &mut self.state {
            State::Resting(until) => {
                tokio::time::sleep_until(*until).await;
                LinkEvent::Due
            }
            State::Connecting(attempt) => {
                let attempt = attempt.await;
                self.conclude(attempt)
            }
            State::Up(session) => session.next().await,
        };
        if matches!(event, LinkEvent::Down(_) | LinkEvent::Refused(_)) {
            self.reset();
        }
        event
    }

    fn conclude(&mut self, attempt: Attempt) -> LinkEvent {
        let credentials = &mut self.credentials;
        if attempt.new_key.is_some() || attempt.refused {
            // Exchanged, or the last that was presented.
            credentials.token = None;
        }
        if let Some(key) = attempt.new_key {
            if let Err(error) = key.store(&credentials.key_path) {
                // This run can still come back; the next one will need a token.
                tracing::warn!("{error}");
            }
            credentials.key = Some(key);
        }
        self.refusals = if attempt.refused { self.refusals + 1 } else { 0 };
        match attempt.outcome {
            Ok((session, welcomed)) => {
                self.state = State::Up(Box::new(session));
                LinkEvent::Up(welcomed)
            }
            Err(reason) if self.refusals >= REFUSALS => LinkEvent::Refused(reason),
            Err(reason) => LinkEvent::Down(reason),
        }
    }
}

impl Session {
    async fn next(&mut self) -> LinkEvent {
        let sending = async {
            match &mut self.sending {
                Some(sending) => sending.await,
                None => std::future::pending().await,
            }
        };
        let task = async {
            match &mut self.tasks {
                Some(tasks) => tasks.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            message = self.acknowledgements.recv() => if let Some(message) = message {
                return match read_ack(message) {
                    Some((epoch, through)) => LinkEvent::Acknowledged(epoch, through),
                    None => LinkEvent::Down("the agent sent an acknowledgement that cannot be read".to_owned()),
                };
            },
            message = self.shutdown.recv() => if let Some(message) = message {
                let reason = control::<Shutdown>(message).map(|shutdown| shutdown.reason);
                return LinkEvent::Shutdown(reason.unwrap_or_default());
            },
            message = self.instructions.recv() => if let Some(message) = message {
                return match control::<Instructions>(message) {
                    Some(instructions) => LinkEvent::Instructed(instructions),
                    None => LinkEvent::Down("the agent sent instructions that cannot be read".to_owned()),
                };
            },
            sent = sending => if sent.is_ok() {
                self.sending = None;
                return LinkEvent::Sent;
            },
            task = task => if let Some(request) = task {
                return LinkEvent::Task(request);
            },
            reason = self.client.closed() => return LinkEvent::Down(reason),
            () = self.client.credited(), if self.starved => {
                self.starved = false;
                return LinkEvent::Credited;
            },
        }
        // A subscription or a publication can end before the connection is known to have.
        LinkEvent::Down(self.client.closed().await)
    }
}

/// Connects with the session key, or else with the token, and registers.
async fn attempt(
    agent: Agent,
    name: String,
    key: Option<SessionKey>,
    token: Option<Token>,
    registration: RegisterCollector,
    serves_tasks: bool,
) -> Attempt {
    let credentials = key.map(Credential::Session).into_iter().chain(token.map(Credential::Token));
    let mut connected = Err(ConnectError::Refused { reason: "no credential is left".to_owned() });
    for credential in credentials {
        let identity = Identity::Collector { name: name.clone(), credential };
        connected = Client::connect_with(&agent.socket, identity, agent.keys.as_ref()).await;
        if !matches!(connected, Err(ConnectError::Refused { .. })) {
            break;
        }
    }
    match connected {
        Ok(connected) => Attempt {
            new_key: connected.session_key,
            refused: false,
            outcome: register(connected.client, connected.agent_uid, &name, registration, serves_tasks).await,
        },
        Err(error) => Attempt {
            new_key: None,
            refused: matches!(error, ConnectError::Refused { .. }),
            outcome: Err(error.to_string()),
        },
    }
}

async fn register(
    client: Client,
    agent_uid: Option<u32>,
    name: &str,
    registration: RegisterCollector,
    serves_tasks: bool,
) -> Result<(Session, Welcomed), String> {
    let closed = |error: Closed| error.to_string();
    // Before registering, so that no acknowledgement and no shutdown passes by.
    let acknowledgements = client.subscribe(&format!("control.collector.{name}")).await.map_err(closed)?;
    let shutdown = client.subscribe(&format!("control.shutdown.{name}")).await.map_err(closed)?;
    let instructions = client.subscribe(&format!("control.config.{name}")).await.map_err(closed)?;
    let tasks = match serves_tasks {
        true => Some(client.serve(&format!("tasks.{}", topic::base(name))).await.map_err(closed)?),
        false => None,
    };
    let reply = client
        .call(REGISTER_TOPIC, registration.encode_to_vec(), REGISTER_TIMEOUT)
        .await
        .map_err(|error| format!("cannot register: {}", told(&error)))?;
    let reply = RegisterReply::decode(&reply[..]).map_err(|error| format!("the registration's reply: {error}"))?;
    let committed = reply
        .committed
        .iter()
        .filter_map(|committed| Some((Epoch::try_from(committed.epoch.as_slice()).ok()?, committed.sequence)))
        .collect();
    let (sending, starved, since) = (None, false, Instant::now());
    let session =
        Session { client, acknowledgements, shutdown, instructions, tasks, agent_uid, sending, starved, since };
    Ok((session, Welcomed { committed, instructions: reply.instructions }))
}

/// The agent's own words where it refused.
fn told(error: &CallError) -> String {
    match error {
        CallError::Failed(body) => match RequestError::decode(&body[..]) {
            Ok(refusal) => refusal.message,
            Err(_) => error.to_string(),
        },
        error => error.to_string(),
    }
}

fn read_ack(message: EventBusMessage) -> Option<(Epoch, u64)> {
    let ack = control::<BatchAck>(message)?;
    Some((Epoch::try_from(ack.epoch.as_slice()).ok()?, ack.through_sequence))
}

/// The domain message on a control topic.
fn control<M: Message + Default>(message: EventBusMessage) -> Option<M> {
    match message.payload? {
        Payload::Control(ControlPayload { control: Some(Control::Message(bytes)) }) => M::decode(&bytes[..]).ok(),
        _ => None,
    }
}
