//! One connection through the socket: the opening handshake, then frames to the router and frames from its queue.
//!
//! The peer's bytes are hostile. Whatever is not a frame, not a message or not in order ends the connection, with the reason
//! in a Goodbye where the peer still reads; nobody else notices.

use std::{
    collections::HashMap,
    fmt, io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use interprocess::local_socket::tokio::Stream;
use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    BrokerConfig, Event, GRACE, Member,
    allowance::Allowance,
    credit::Account,
    fair::{Entrance, Lane},
    room::{Place, Places, Waiting},
    router::IN_A_ROW,
};
use crate::{
    auth::{Admission, Gate, PROTOCOL, Peer, PeerIds},
    frame::{self, MAX_FRAME, ReadError},
    keys::{PrivateKey, PublicKey},
    line::Line,
    message::{self, STAMP},
    noise, os,
    proto::{
        ControlPayload, Credit, EventBusMessage, Hello, Role, Welcome, control_payload::Control,
        event_bus_message::Payload, goodbye::Kind,
    },
    queue::{Delivery, Outbox, Permit, Room},
    standing::TURNED_AWAY,
};

/// How long a new connection may take to say who it is.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// The longest first message, in bytes.
const MAX_HELLO: usize = 4096;

/// Everything that a connection needs of the broker.
pub(super) struct Door {
    pub(super) connection: u64,
    pub(super) gate: Gate,
    /// The agent's, where the bus is encrypted.
    pub(super) key: Option<Arc<PrivateKey>>,
    pub(super) places: Places,
    pub(super) config: Arc<BrokerConfig>,
    /// What each collector may have on its way to the agent's own parts. By name and not by connection: coming back does not
    /// make room.
    pub(super) senders: Arc<Mutex<HashMap<String, Room>>>,
    /// What waits to be written to this connection.
    pub(super) queue: (Outbox, mpsc::UnboundedReceiver<Delivery>),
    pub(super) events: Entrance,
}

/// Why a connection is turned away.
type Refusal = (Kind, String);

/// A connection that is turned away before it has a name.
struct Stranger {
    connection: u64,
    ids: Option<PeerIds>,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.connection)?;
        self.ids.map_or(Ok(()), |ids| write!(f, ", {ids}"))
    }
}

impl Door {
    /// Serves a connection until it ends.
    pub(super) async fn serve(self, stream: Stream, waiting: Waiting) {
        let stream = Arc::new(stream);
        let mut line = Line::plain(&stream);
        let greeted = self.greet(&stream, &mut line, waiting.dismissed).await;
        let (Admission { role, name, session_key }, ids, _place) = match greeted {
            Ok(admitted) => admitted,
            Err((kind, reason)) => return self.turn_away(&stream, line, kind, &reason).await,
        };
        let Line { reader, writer } = line;
        drop(waiting.room);
        let peer = Peer { role, name: name.clone(), uid: ids.uid, pid: ids.pid, connection: self.connection };
        let welcome = message::control(Control::Welcome(Welcome {
            protocol: PROTOCOL,
            session_key: session_key.map(|key| key.to_bytes()).unwrap_or_default(),
            max_frame: MAX_FRAME as u32,
        }));
        let (alive, mut closed) = oneshot::channel();
        let (outbox, deliveries) = self.queue;
        let (window, granted) = watch::channel(Credit::default());
        let member = Member::remote(peer, outbox, alive, welcome, window);
        let events = self.events.lane();
        if events.send(Event::Joined(Box::new(member))).await.is_err() {
            return;
        }

        let room = match role {
            Role::Collector => self
                .senders
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(name)
                .or_insert_with(|| self.config.room())
                .clone(),
            _ => self.config.room(),
        };
        let account = (role == Role::Collector).then(|| Account::new(room.clone(), granted));
        let reading = Reading { connection: self.connection, room, account: account.as_ref(), events: &events };
        let mut read = pin!(reading.run(reader));
        let mut write = pin!(write_all(writer, deliveries, account.as_ref()));
        let (violation, written) = tokio::select! {
            violation = &mut read => (violation, false),
            _ = &mut closed => (None, false),
            () = &mut write => {
                // Nobody reads at the other end any more, but what it sent before that may still be on its way.
                let violation = tokio::select! {
                    violation = read => violation,
                    _ = closed => None,
                };
                (violation, true)
            }
        };
        // The router may be gone already, when the broker stops.
        let _ = events.send(Event::Left { connection: self.connection, violation }).await;
        if !written {
            let _ = timeout(GRACE, write).await;
        }
    }

    /// Refuses a connection that has no name yet.
    async fn turn_away(&self, stream: &Stream, mut line: Line, kind: Kind, reason: &str) {
        let ids = os::peer_ids(stream).ok();
        self.gate.blame(ids.and_then(|ids| ids.pid), TURNED_AWAY);
        self.gate.note_refusal(&Stranger { connection: self.connection, ids }, reason);
        // A fresh socket's buffer has room, so this waits for nobody who behaves.
        let _ = timeout(GRACE / 4, write_message(&mut line.writer, &message::goodbye(kind, reason))).await;
    }

    /// Hears who it is, finds it a place, and only then has the gate decide, which may use a token up.
    async fn greet(
        &self,
        stream: &Arc<Stream>,
        line: &mut Line,
        mut dismissed: oneshot::Receiver<()>,
    ) -> Result<(Admission, PeerIds, Place), Refusal> {
        let deadline = Instant::now() + HELLO_PATIENCE;
        let other = |reason: String| (Kind::Other, reason);
        let ids =
            os::peer_ids(stream).map_err(|error| other(format!("the peer's credentials cannot be read: {error}")))?;
        let (hello, shown) = tokio::select! {
            biased;
            heard = timeout_at(deadline, self.hear_hello(stream, line)) => {
                heard.unwrap_or_else(|_| Err(other("no Hello within 5 s".to_owned())))?
            }
            _ = &mut dismissed => return Err((Kind::Busy, "too many connections that have not said Hello".to_owned())),
        };
        drop(dismissed);
        let place = self.places.take(hello.role()).map_err(|reason| (Kind::Busy, reason.to_owned()))?;
        let gate = self.gate.clone();
        let decide = move || {
            gate.check_key(&hello, shown.as_ref()).map_err(|reason| (Kind::Encryption, reason))?;
            gate.admit(&hello, ids).map_err(|reason| (Kind::Denied, reason))
        };
        match timeout_at(deadline, tokio::task::spawn_blocking(decide)).await {
            Ok(Ok(Ok(admission))) => Ok((admission, ids, place)),
            Ok(Ok(Err(refusal))) => Err(refusal),
            Ok(Err(error)) => Err(other(format!("the gate failed: {error}"))),
            Err(_) => Err(other("the gate did not decide within 5 s".to_owned())),
        }
    }
}

impl Door {
    /// The `Hello`, after the encryption's handshake where there is one, and the key that was shown in that.
    async fn hear_hello(&self, stream: &Arc<Stream>, line: &mut Line) -> Result<(Hello, Option<PublicKey>), Refusal> {
        let other = |reason: String| (Kind::Other, reason);
        let disagreed = |reason: &str| (Kind::Encryption, reason.to_owned());
        let first = match (hear(line).await.map_err(other)?, &self.key) {
            (Control::Hello(hello), None) => return Ok((hello, None)),
            (Control::Noise(first), Some(own)) => noise::respond(&first, own),
            (Control::Hello(_), Some(_)) => return Err(disagreed("the agent's is encrypted, this connection is not")),
            (Control::Noise(_), None) => return Err(disagreed("this connection is encrypted, the agent's is not")),
            _ => return Err(other("the first message is not a Hello".to_owned())),
        };
        let Ok((answer, seal, shown)) = first else {
            return Err(disagreed("the agent's key is not the one that is pinned in this program's agent.pub"));
        };
        write_message(&mut line.writer, &message::control(Control::Noise(answer)))
            .await
            .map_err(|error| other(error.to_string()))?;
        *line = Line::sealed(stream, seal);
        match hear(line).await.map_err(other)? {
            Control::Hello(hello) => Ok((hello, shown)),
            _ => Err(other("the first sealed message is not a Hello".to_owned())),
        }
    }
}

/// One of the first messages of a connection.
async fn hear(line: &mut Line) -> Result<Control, String> {
    match frame::read(&mut line.reader, MAX_HELLO).await {
        Ok(Some(payload)) => control_in(&payload).ok_or_else(|| "the first message is not a Hello".to_owned()),
        Ok(None) => Err("the connection ended before a Hello".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn control_in(payload: &[u8]) -> Option<Control> {
    match EventBusMessage::decode(payload).ok()?.payload? {
        Payload::Control(ControlPayload { control }) => control,
        _ => None,
    }
}

/// The reading half of a connection.
struct Reading<'a> {
    connection: u64,
    /// What the peer may have on its way.
    room: Room,
    account: Option<&'a Account>,
    events: &'a Lane,
}

impl Reading<'_> {
    /// Hands messages to the router until the stream ends; returns what the peer did wrong, if that is why.
    async fn run(self, mut reader: impl AsyncRead + Unpin) -> Option<String> {
        let mut allowance = Allowance::new(Instant::now().into_std());
        for number in 1_usize.. {
            if number.is_multiple_of(IN_A_ROW) {
                tokio::task::yield_now().await;
            }
            let payload = match frame::read(&mut reader, MAX_FRAME - STAMP).await {
                Ok(Some(payload)) => payload,
                Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return Some(error.to_string());
                }
                Ok(None) | Err(ReadError::Io(_)) => return None,
                Err(error) => return Some(error.to_string()),
            };
            let message = match EventBusMessage::decode(payload.as_slice()) {
                Ok(message) => message,
                Err(error) => return Some(format!("a frame holds no message: {error}")),
            };
            let account = self.account.filter(|_| matches!(message.payload, Some(Payload::CollectionEvent(_))));
            if account.is_some_and(|account| !account.covers_one()) {
                return Some("it published events without credit".to_owned());
            }
            let pause = match allowance.charge(&message, payload.len(), Instant::now().into_std()) {
                Ok(pause) => pause,
                Err(excess) => return Some(excess),
            };
            // Not reading on is how a sender without a credit of its own learns that the agent is slow.
            let permit = self.room.acquire(payload.len()).await?;
            if let Some(account) = account {
                account.count(payload.len());
            }
            drop(payload);
            self.events.send(Event::Message { connection: self.connection, message, permit }).await.ok()?;
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        None
    }
}

/// Writes what the router queued, and the credit that there is news of, until the router closes the queue or the peer is gone.
async fn write_all(
    mut stream: impl AsyncWrite + Unpin,
    mut deliveries: mpsc::UnboundedReceiver<Delivery>,
    account: Option<&Account>,
) {
    let news = async || match account {
        Some(account) => account.due().await,
        None => std::future::pending().await,
    };
    loop {
        // The Welcome is in the queue before there is any credit. News that the peer does not read wait here, once.
        let (message, permit) = tokio::select! {
            biased;
            delivery = deliveries.recv() => match delivery {
                Some(Delivery { message, permit, .. }) => (message, permit),
                None => return,
            },
            credit = news() => (message::control(Control::Credit(credit)), Permit::free()),
        };
        if write_message(&mut stream, &message).await.is_err() {
            return;
        }
        drop(permit);
    }
}

/// Writes one message as one frame.
pub(crate) async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &EventBusMessage) -> io::Result<()> {
    let frame = frame::encode(&message.encode_to_vec()).map_err(io::Error::other)?;
    stream.write_all(&frame).await?;
    stream.flush().await
}
