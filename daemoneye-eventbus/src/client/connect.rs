//! Coming in: the socket and the opening handshake, from the client's side.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use interprocess::local_socket::tokio::Stream;
use prost::Message as _;
use tokio::time::{sleep, timeout};

use super::{Client, credit::Purse, drive};
use crate::{
    auth::PROTOCOL,
    broker::write_message,
    frame::{self, MAX_FRAME},
    keys::{KeyError, Keys, Owner},
    line::Line,
    message,
    noise::{Initiator, Seal},
    os,
    proto::{
        ControlPayload, EventBusMessage, Goodbye, Hello, Role, Welcome, control_payload::Control,
        event_bus_message::Payload, goodbye::Kind,
    },
    queue::Room,
    secret::{SessionKey, Token},
};

/// How long the agent may take to let us in.
const WELCOME_PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for a place in the listener's backlog before trying again: whoever fills it tries all the time.
const BACKLOG_PAUSE: Duration = Duration::from_millis(2);

/// What may be queued towards the broker; beyond it, sending waits.
const QUEUED_MESSAGES: usize = 1024;
const QUEUED_BYTES: usize = 2 * MAX_FRAME;

/// Who comes in.
#[derive(Debug, Clone)]
pub enum Identity {
    /// The agent's own user, or root.
    Operator,
    /// A collector.
    Collector {
        /// Its name.
        name: String,
        /// What it proves itself with.
        credential: Credential,
    },
}

/// What a collector proves itself with.
#[derive(Debug, Clone)]
pub enum Credential {
    /// For the first time.
    Token(Token),
    /// On its return.
    Session(SessionKey),
}

/// A client that was let in.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub client: Client,
    /// For a collector that came with a token: what to return with. Absent where the agent could not keep it.
    pub session_key: Option<SessionKey>,
    /// The uid of whoever listens on the socket, where the system tells it.
    pub agent_uid: Option<u32>,
}

/// Why nobody let us in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens.
    #[error("no agent listens on {}; start daemoneye-agent, or point --runtime-dir at the one that runs", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// This user may not use the socket.
    #[error("this user may not use {}; run as the agent's user or as root", path.display())]
    PermissionDenied {
        /// The socket.
        path: PathBuf,
    },
    /// The system has no room for the socket's path.
    #[error("the socket path {} is longer than the {limit} bytes that the system allows; choose a shorter --runtime-dir", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// The most bytes.
        limit: usize,
    },
    /// The agent has no room at present. What we showed is not used up.
    #[error("the agent has no room for this connection now: {reason}")]
    Busy {
        /// What there are too many of.
        reason: String,
    },
    /// The agent does not let this identity in.
    #[error("the agent refused the connection: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The agent and this program do not agree on the encryption, or on the keys.
    #[error(
        "no agreement on the bus's encryption: {reason}; app.bus_encryption and app.bus_keys must mean the same for both sides"
    )]
    Encryption {
        /// What differs.
        reason: String,
    },
    /// A key that the encryption needs cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Whatever listens does not speak the bus's protocol, or does not speak at all.
    #[error("what listens on {} does not answer as an agent: {reason}", path.display())]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What it did.
        reason: String,
    },
    /// The socket could not be used.
    #[error("cannot connect to {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Client {
    /// Connects to the agent's socket and says who we are. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// See [`ConnectError`]; each says what the operator can do.
    pub async fn connect(path: &Path, identity: Identity) -> Result<Connected, ConnectError> {
        Self::connect_with(path, identity, None).await
    }

    /// Like [`connect`](Self::connect), encrypted where there are keys: our own, and the agent's that we expect.
    ///
    /// # Errors
    /// See [`ConnectError`]; each says what the operator can do.
    pub async fn connect_with(
        path: &Path,
        identity: Identity,
        encryption: Option<&Keys>,
    ) -> Result<Connected, ConnectError> {
        if let Some(limit) = os::over_path_limit(path) {
            return Err(ConnectError::PathTooLong { path: path.to_owned(), limit });
        }
        let protocol = |reason: String| ConnectError::Protocol { path: path.to_owned(), reason };
        let is_collector = matches!(identity, Identity::Collector { .. });
        let shaken = async {
            let stream = Arc::new(open(path).await.map_err(|source| io_error(path, source))?);
            let agent_uid = os::peer_ids(&stream).ok().and_then(|ids| ids.uid);
            let mut line = match encryption {
                Some(keys) => Line::sealed(&stream, agree(path, &stream, keys, Owner::from(&identity)).await?),
                None => Line::plain(&stream),
            };
            // The agent may refuse us before it has read this; its reason is then in what we read.
            let written = write_message(&mut line.writer, &message::control(Control::Hello(hello(identity)))).await;
            match frame::read(&mut line.reader, MAX_FRAME).await {
                Ok(Some(payload)) => match control_in(&payload) {
                    Some(Control::Welcome(welcome)) => Ok((line, welcome, agent_uid)),
                    Some(Control::Goodbye(goodbye)) => Err(turned_away(path, goodbye)),
                    _ => Err(protocol("its first message is neither a Welcome nor a Goodbye".into())),
                },
                Ok(None) => Err(written
                    .map_or_else(|source| io_error(path, source), |()| protocol("it closed the connection".into()))),
                Err(error) => Err(protocol(error.to_string())),
            }
        };
        let (line, welcome, agent_uid) = timeout(WELCOME_PATIENCE, shaken)
            .await
            .unwrap_or_else(|_| Err(protocol("nothing came within 5 s".into())))?;
        if welcome.protocol != PROTOCOL {
            return Err(protocol(format!("it speaks protocol {}, not {PROTOCOL}", welcome.protocol)));
        }
        let purse = if is_collector { Purse::empty() } else { Purse::unlimited() };
        let (client, outgoing) = Self::new(Room::new(QUEUED_MESSAGES, QUEUED_BYTES), purse);
        let (shared, handle) = client.for_driver();
        tokio::spawn(drive::socket(shared, handle, line, outgoing));
        Ok(Connected { client, session_key: session_key(&welcome), agent_uid })
    }
}

/// The encryption's handshake.
async fn agree(path: &Path, stream: &Arc<Stream>, keys: &Keys, owner: Owner<'_>) -> Result<Seal, ConnectError> {
    let disagreed = |reason: &str| ConnectError::Encryption { reason: reason.to_owned() };
    let protocol = |reason: String| ConnectError::Protocol { path: path.to_owned(), reason };
    let begun = Initiator::begin(&keys.private(owner)?, &keys.public(Owner::Agent)?);
    let (initiator, first) = begun.map_err(|_| disagreed("the keys cannot be used"))?;
    let mut plain = Line::plain(stream);
    let written = write_message(&mut plain.writer, &message::control(Control::Noise(first))).await;
    match frame::read(&mut plain.reader, MAX_FRAME).await {
        Ok(Some(payload)) => match control_in(&payload) {
            Some(Control::Noise(answer)) => {
                initiator.finish(&answer).map_err(|_| disagreed("what answers does not have the key in agent.pub"))
            }
            Some(Control::Goodbye(goodbye)) => Err(turned_away(path, goodbye)),
            _ => Err(protocol("it does not answer the encryption's handshake".into())),
        },
        Ok(None) => {
            Err(written.map_or_else(|source| io_error(path, source), |()| protocol("it closed the connection".into())))
        }
        Err(error) => Err(protocol(error.to_string())),
    }
}

/// Connects; while the listener's backlog is full, tries again (the caller limits for how long).
async fn open(path: &Path) -> io::Result<Stream> {
    loop {
        match os::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(BACKLOG_PAUSE).await,
            outcome => return outcome,
        }
    }
}

fn io_error(path: &Path, source: io::Error) -> ConnectError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ConnectError::NotRunning { path },
        io::ErrorKind::PermissionDenied => ConnectError::PermissionDenied { path },
        _ => ConnectError::Io { path, source },
    }
}

fn turned_away(path: &Path, goodbye: Goodbye) -> ConnectError {
    let kind = goodbye.kind();
    let Goodbye { reason, .. } = goodbye;
    match kind {
        Kind::Busy => ConnectError::Busy { reason },
        Kind::Denied => ConnectError::Refused { reason },
        Kind::Encryption => ConnectError::Encryption { reason },
        Kind::Other => ConnectError::Protocol { path: path.to_owned(), reason },
    }
}

fn hello(identity: Identity) -> Hello {
    let hello = Hello { protocol: PROTOCOL, ..Hello::default() };
    match identity {
        Identity::Operator => Hello { role: Role::Operator.into(), ..hello },
        Identity::Collector { name, credential } => {
            let (token, session_key) = match credential {
                Credential::Token(token) => (token.to_bytes(), Vec::new()),
                Credential::Session(key) => (Vec::new(), key.to_bytes()),
            };
            Hello { role: Role::Collector.into(), name, token, session_key, ..hello }
        }
    }
}

fn control_in(payload: &[u8]) -> Option<Control> {
    match EventBusMessage::decode(payload).ok()?.payload? {
        Payload::Control(ControlPayload { control }) => control,
        _ => None,
    }
}

fn session_key(welcome: &Welcome) -> Option<SessionKey> {
    SessionKey::from_bytes(&welcome.session_key)
}
