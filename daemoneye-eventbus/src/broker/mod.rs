//! The broker: one socket, one router, a task for each connection.
//!
//! ```text
//!  socket ──► connection ──┐                        ┌──► queue ──► connection ──► socket
//!                          ├──► router (all state) ─┤
//!  local client ───────────┘                        └──► queue ──► local client
//! ```
//!
//! The [`router`] owns who is there, who subscribed to what and which calls are under way. It is told by messages and waits
//! for nothing but the next message, so no reader, however slow, holds up anybody else; and it takes them from each
//! connection in [turns](fair), so no sender, however busy, does. What bounds the queues:
//!
//! - A collector publishes what it was given [`credit`] for, and no more.
//! - A queue towards a socket has its own room. A subscriber whose queue is full is cut off.
//! - A message to a part of this process holds the sender's room until that part takes it. A sender whose room is used
//!   up is not read from any further: a slow agent makes collectors wait, and so spool.
//! - An answer from a part of this process waits for room in the caller's queue before it is handed to the router. A slow
//!   reader of a large answer holds up that one answer.
//!
//! The broker knows no process and no alert: payloads are bytes to it.

mod allowance;
mod calls;
mod connection;
mod credit;
mod fair;
mod room;
mod router;
mod steps;

use std::{
    fs::{File, TryLockError},
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use interprocess::local_socket::{tokio::Listener, traits::tokio::Listener as _};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    auth::{Gate, Peer},
    client::Client,
    frame::MAX_FRAME,
    keys::{KeyError, Keys, Owner, PrivateKey},
    os,
    proto::Role,
    queue::{Outbox, Room},
    standing::Standing,
};
pub(crate) use connection::write_message;
pub(crate) use credit::is_within;
pub(crate) use fair::Lane;
use room::{Places, Porch};
pub(crate) use router::{Event, Member};
use steps::Steps;

/// How long accepting connections may fail without a break before the broker gives up.
const ACCEPT_PATIENCE: Duration = Duration::from_secs(10);

/// What a connection that is closed has to take what is left for it.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// Where the broker listens, and what bounds it.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// The socket.
    pub path: PathBuf,
    /// Where collectors' session keys are kept.
    pub sessions_dir: PathBuf,
    /// Connections through the socket at one time, a quarter of them for collectors alone; one more is told to come again.
    /// Those that have not said who they are have 16 places of their own.
    pub max_connections: usize,
    /// The keys of an encrypted bus: those without a pinned key are kept out. `None` for one that is not encrypted.
    pub encryption: Option<Keys>,
    /// Connections of one process that may fail at once before its next ones have to wait, and a second from then on. One that
    /// was let in and then cut off counts eight.
    pub failures_at_once: u32,
    /// See [`failures_at_once`](Self::failures_at_once).
    pub failures_a_second: u32,
    /// How long an operator may keep a connection on which it waits for nothing.
    pub operator_patience: Duration,
    /// Messages that may wait for one connection, and messages of one connection that may wait for the agent's own parts.
    pub queue_messages: usize,
    /// The same in bytes; at least one frame.
    pub queue_bytes: usize,
}

impl BrokerConfig {
    /// Not encrypted, 64 connections, 32 failures at once and 8 a second, 60 s of patience, 1,024 messages, 8 MiB.
    pub fn new(path: impl Into<PathBuf>, sessions_dir: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            sessions_dir: sessions_dir.into(),
            max_connections: 64,
            encryption: None,
            failures_at_once: 32,
            failures_a_second: 8,
            operator_patience: Duration::from_secs(60),
            queue_messages: 1024,
            queue_bytes: 2 * MAX_FRAME,
        }
    }

    /// The bound of one queue.
    fn room(&self) -> Room {
        Room::new(self.queue_messages, self.queue_bytes.max(MAX_FRAME))
    }
}

/// Why a broker cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The system has no room for the socket's path.
    #[error("the socket path {} is longer than the {limit} bytes that the system allows; choose a shorter --runtime-dir", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// The most bytes.
        limit: usize,
    },
    /// Another broker is there.
    #[error("another agent listens on {}; stop it, or choose another --runtime-dir", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is where the socket should be.
    #[error("{} is not a socket and will not be replaced; move it away, or choose another --runtime-dir", path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// There is no usable key for the encryption.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file or directory could not be accessed.
    #[error("cannot listen: {}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a broker ended by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The socket takes no connections any more.
    #[error("cannot accept connections on {}: {source}", path.display())]
    Accept {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The task that routes messages ended, which is a defect.
    #[error("the bus router ended by itself")]
    Router,
}

/// A bound socket and the state behind it. Nothing moves until [`run`](Self::run) is polled.
#[derive(Debug)]
pub struct Broker {
    config: BrokerConfig,
    listener: Listener,
    gate: Gate,
    connections: AtomicU64,
    locals: Mutex<Vec<Member>>,
    /// Our own, where the bus is encrypted.
    key: Option<Arc<PrivateKey>>,
    events: (fair::Entrance, fair::Inbox),
    _lock: File,
}

impl Broker {
    /// Creates the socket, mode 0600, in a directory that is created with mode 0700 if it is missing. Removes a socket that
    /// nobody listens on.
    ///
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// See [`BindError`]; each says what the operator can do.
    pub fn bind(config: BrokerConfig) -> Result<Self, BindError> {
        let path = &config.path;
        if let Some(limit) = os::over_path_limit(path) {
            return Err(BindError::PathTooLong { path: path.clone(), limit });
        }
        let runtime_dir = path.parent().unwrap_or(Path::new("."));
        os::create_private_dir(runtime_dir).map_err(at(runtime_dir))?;
        os::create_private_dir(&config.sessions_dir).map_err(at(&config.sessions_dir))?;

        // Two brokers that start at the same time would both take the other's fresh socket for a dead one.
        let lock = os::open_lock(path).map_err(at(path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BindError::InUse { path: path.clone() }),
            Err(TryLockError::Error(error)) => return Err(at(path)(error)),
        }
        match os::look_at(path).map_err(at(path))? {
            os::Place::Empty => {}
            os::Place::Dead => std::fs::remove_file(path).map_err(at(path))?,
            os::Place::Live => return Err(BindError::InUse { path: path.clone() }),
            os::Place::Other => return Err(BindError::NotASocket { path: path.clone() }),
        }
        let key = match &config.encryption {
            Some(keys) => {
                keys.ensure(Owner::Agent)?;
                keys.ensure(Owner::Operator)?;
                Some(Arc::new(keys.private(Owner::Agent)?))
            }
            None => None,
        };
        let listener = os::listen(path).map_err(at(path))?;
        Ok(Self {
            gate: Gate::new(
                config.sessions_dir.clone(),
                os::own_uid(),
                config.encryption.clone(),
                Standing::new(config.failures_at_once, config.failures_a_second),
            ),
            key,
            listener,
            connections: AtomicU64::new(0),
            locals: Mutex::default(),
            events: fair::queue(),
            config,
            _lock: lock,
        })
    }

    /// A client for a part of this process, which may do everything.
    ///
    /// Each part should have its own: what one of them does not take holds up whoever sends to it, never the other parts.
    /// Must be called within a Tokio runtime; what the client does waits until [`run`](Self::run) is polled.
    pub fn local(&self, name: &str) -> Client {
        let peer = Peer {
            role: Role::Agent,
            name: name.to_owned(),
            uid: self.gate.own_uid(),
            pid: Some(std::process::id()),
            connection: self.next_connection(),
        };
        let (outbox, inbox) = Outbox::new(self.config.room());
        let client = Client::local(peer.connection, self.config.room(), inbox, self.events.0.lane());
        self.locals.lock().unwrap_or_else(PoisonError::into_inner).push(Member::local(peer, outbox));
        client
    }

    /// The gate through which others come in.
    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// Serves until `stop` resolves, then says goodbye to everybody, gives them a second to take what is left for them, and
    /// removes the socket.
    ///
    /// # Errors
    /// The socket takes no connections any more.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { config, listener, gate, connections, locals, key, events: (events, inbox), _lock } = self;
        let locals = locals.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut router = JoinSet::new();
        router.spawn(router::Router::new(inbox, gate.clone(), locals, config.operator_patience).run());

        let config = Arc::new(config);
        let senders = Arc::default();
        let (mut steps, mut porch) = (Steps::new(gate.clone()), Porch::default());
        let places = Places::new(config.max_connections);
        let mut tasks = JoinSet::new();
        let mut stop = pin!(stop);
        let mut failing_since = None;
        let outcome = loop {
            let accepted = tokio::select! {
                () = &mut stop => break Ok(()),
                Some(_) = tasks.join_next() => continue,
                Some(_) = router.join_next() => break Err(RunError::Router),
                stream = steps.next() => Ok(Some(stream)),
                accepted = listener.accept() => match accepted {
                    Ok(stream) => Ok(steps.pass(stream).await),
                    Err(error) => Err(error),
                },
            };
            match accepted {
                Ok(stream) => {
                    failing_since = None;
                    let Some(stream) = stream else { continue };
                    let connection = connections.fetch_add(1, Ordering::Relaxed) + 1;
                    let door = connection::Door {
                        connection,
                        gate: gate.clone(),
                        key: key.clone(),
                        places: places.clone(),
                        config: Arc::clone(&config),
                        senders: Arc::clone(&senders),
                        queue: Outbox::new(config.room()),
                        events: events.clone(),
                    };
                    let waiting = porch.enter().await;
                    tasks.spawn(door.serve(stream, waiting));
                }
                Err(source) if failing_since.get_or_insert_with(Instant::now).elapsed() > ACCEPT_PATIENCE => {
                    break Err(RunError::Accept { path: config.path.clone(), source });
                }
                // Out of descriptors, most likely: connections that end make room.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        drop(listener);
        let _ = events.lane().send(Event::Stop).await;
        drop(events);
        let _ = tokio::time::timeout(2 * GRACE, async { while tasks.join_next().await.is_some() {} }).await;
        outcome
    }

    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> BindError {
    let path = path.to_owned();
    move |source| BindError::Io { path: path.clone(), source }
}
