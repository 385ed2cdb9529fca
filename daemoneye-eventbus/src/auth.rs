//! Who may come in.
//!
//! An operator is let in by the uid at the other end of the socket: the agent's own, or root. A collector shows a one-time
//! token that the agent handed it at spawn, and gets a session key for it; with the key, the same name and the same uid it
//! may come back, also to a later agent, because both sides keep the key in a file of mode 0600.
//!
//! The [`Gate`] owns the outstanding tokens, the session files, and the memory of whose connections failed. It does not decide who may do what: that is the policy's.

use std::{
    collections::VecDeque,
    fmt, fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    keys::{KeyError, Keys, Owner, PublicKey},
    os,
    proto::{Hello, Role, Sender},
    secret::{SecretError, SessionKey, Token},
    standing::Standing,
    topic,
};

/// The version of the protocol that this crate speaks.
pub(crate) const PROTOCOL: u32 = 1;

/// The longest name of a collector, in bytes.
pub(crate) const MAX_NAME: usize = 64;

/// Tokens that may be outstanding; one more forgets the oldest.
const MAX_TOKENS: usize = 16;

/// How long a token can be redeemed.
const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// Refusals that are logged in a minute; the others are only counted.
const LOGGED_A_MINUTE: u32 = 10;

/// What the system says about the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerIds {
    pub(crate) uid: Option<u32>,
    pub(crate) pid: Option<u32>,
}

impl fmt::Display for PeerIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, self.uid) {
            (Some(pid), Some(uid)) => write!(f, "pid {pid}, uid {uid}"),
            _ => write!(f, "a process that the system does not name"),
        }
    }
}

/// Somebody who came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What it came in as.
    pub role: Role,
    /// A collector's name; empty for operators.
    pub name: String,
    /// The uid at the other end, where the system tells it.
    pub uid: Option<u32>,
    /// The pid at the other end, where the system tells it.
    pub pid: Option<u32>,
    /// Unique for the broker's life.
    pub connection: u64,
}

impl Peer {
    pub(crate) fn to_sender(&self) -> Sender {
        let Self { role, name, uid, pid, connection } = self.clone();
        Sender { role: role.into(), name, uid, pid, connection }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}, connection {}", self.role.as_str_name(), self.name, self.connection)?;
        self.pid.map_or(Ok(()), |pid| write!(f, ", pid {pid}"))?;
        self.uid.map_or(Ok(()), |uid| write!(f, ", uid {uid}"))
    }
}

/// Somebody whom the gate lets in.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) role: Role,
    pub(crate) name: String,
    /// For a collector that came with a token.
    pub(crate) session_key: Option<SessionKey>,
}

/// Decides who may come in, and tells who is there. Clones are handles to the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sessions: PathBuf,
    own_uid: Option<u32>,
    /// By which keys everybody is known, where the bus is encrypted.
    keys: Option<Keys>,
    tokens: Mutex<VecDeque<Outstanding>>,
    peers: watch::Sender<Vec<Peer>>,
    refused: AtomicU64,
    standing: Mutex<Standing>,
    log: Mutex<LogBudget>,
}

#[derive(Debug)]
struct Outstanding {
    token: Token,
    collector: String,
    issued: Instant,
}

#[derive(Debug)]
struct LogBudget {
    since: Instant,
    used: u32,
}

impl Gate {
    pub(crate) fn new(sessions: PathBuf, own_uid: Option<u32>, keys: Option<Keys>, standing: Standing) -> Self {
        Self(Arc::new(Inner {
            sessions,
            own_uid,
            keys,
            tokens: Mutex::default(),
            peers: watch::Sender::default(),
            refused: AtomicU64::new(0),
            standing: Mutex::new(standing),
            log: Mutex::new(LogBudget { since: Instant::now(), used: 0 }),
        }))
    }

    /// Makes a token that lets this collector in once, within 60 seconds. At most 16 are outstanding; one more forgets the
    /// oldest. Where the bus is encrypted, a collector without a key gets one.
    ///
    /// # Errors
    /// The name cannot be a collector's, the system gives no random bytes, or the key cannot be made.
    pub fn issue_token(&self, collector: &str) -> Result<Token, SecretError> {
        if !is_name(collector) {
            return Err(SecretError::Name { name: collector.to_owned() });
        }
        if let Some(keys) = &self.0.keys {
            keys.ensure(Owner::Collector(collector))?;
        }
        let token = Token::random()?;
        let mut tokens = lock(&self.0.tokens);
        if tokens.len() >= MAX_TOKENS {
            tokens.pop_front();
        }
        tokens.push_back(Outstanding { token: token.clone(), collector: collector.to_owned(), issued: Instant::now() });
        Ok(token)
    }

    /// Who is there through the socket, kept up to date.
    pub fn connected(&self) -> watch::Receiver<Vec<Peer>> {
        self.0.peers.subscribe()
    }

    /// Connections that were refused or cut off so far.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn own_uid(&self) -> Option<u32> {
        self.0.own_uid
    }

    pub(crate) fn show(&self, peers: Vec<Peer>) {
        self.0.peers.send_replace(peers);
    }

    /// Has a process answer for a connection that failed.
    pub(crate) fn blame(&self, process: Option<u32>, cost: u32) {
        lock(&self.0.standing).blame(process, cost, Instant::now());
    }

    /// Whether so many connections of a process have failed that the next has to wait.
    pub(crate) fn owes(&self, process: Option<u32>, now: Instant) -> bool {
        lock(&self.0.standing).owes(process, now)
    }

    /// Counts a refusal, and logs it unless there were many lately.
    pub(crate) fn note_refusal(&self, who: &dyn fmt::Display, reason: &str) {
        let total = self.0.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut log = lock(&self.0.log);
        if log.since.elapsed() >= Duration::from_secs(60) {
            *log = LogBudget { since: Instant::now(), used: 0 };
        }
        log.used = log.used.saturating_add(1);
        if log.used <= LOGGED_A_MINUTE {
            tracing::warn!(peer = %who, reason, total, "closed a connection to the bus");
        }
    }

    /// Whether somebody came with the key that is pinned for what it says it is; without encryption everybody does.
    pub(crate) fn check_key(&self, hello: &Hello, shown: Option<&PublicKey>) -> Result<(), String> {
        let Some(keys) = &self.0.keys else { return Ok(()) };
        let owner = match hello.role() {
            Role::Collector if is_name(&hello.name) => Owner::Collector(&hello.name),
            Role::Collector => return Err("that cannot be a collector's name".into()),
            _ => Owner::Operator,
        };
        match keys.public(owner) {
            Ok(pinned) if shown == Some(&pinned) => Ok(()),
            Ok(_) => Err(format!("its key is not the one that the agent has pinned in {owner}.pub")),
            Err(KeyError::Missing { .. }) => {
                Err(format!("the agent has pinned no key for it: there is no {owner}.pub"))
            }
            Err(error) => {
                tracing::error!(%owner, %error, "cannot read a pinned key");
                Err("the pinned key cannot be read".into())
            }
        }
    }

    /// Decides on the first message of a connection. Reads and writes session files.
    pub(crate) fn admit(&self, hello: &Hello, ids: PeerIds) -> Result<Admission, String> {
        if hello.protocol != PROTOCOL {
            return Err(format!("bus protocol {} is not spoken here, only {PROTOCOL}", hello.protocol));
        }
        match hello.role() {
            Role::Operator => self.admit_operator(ids),
            Role::Collector => self.admit_collector(hello, ids),
            Role::Agent | Role::Unspecified => Err("only collectors and operators come in through the socket".into()),
        }
    }

    fn admit_operator(&self, ids: PeerIds) -> Result<Admission, String> {
        if ids.uid.is_none() || (ids.uid != self.0.own_uid && ids.uid != Some(0)) {
            return Err("only the agent's own user and root may operate it".into());
        }
        Ok(Admission { role: Role::Operator, name: String::new(), session_key: None })
    }

    fn admit_collector(&self, hello: &Hello, ids: PeerIds) -> Result<Admission, String> {
        let name = hello.name.as_str();
        if !is_name(name) {
            return Err("that cannot be a collector's name".into());
        }
        let session_key = if hello.token.is_empty() {
            self.resume(name, &hello.session_key, ids)?;
            None
        } else {
            self.redeem(name, &hello.token, Instant::now())?;
            self.open_session(name, ids)
        };
        Ok(Admission { role: Role::Collector, name: name.to_owned(), session_key })
    }

    /// A token that was shown is used up, also by the wrong collector or too late.
    fn redeem(&self, name: &str, token: &[u8], now: Instant) -> Result<(), String> {
        let mut tokens = lock(&self.0.tokens);
        let place = tokens.iter().position(|outstanding| outstanding.token.is(token));
        match place.and_then(|place| tokens.remove(place)) {
            Some(found) if found.collector == name && now.duration_since(found.issued) <= TOKEN_LIFE => Ok(()),
            _ => Err("the token is unknown, used or too old; let the agent start the collector".into()),
        }
    }

    /// Makes a session key and keeps it. Where it cannot be kept the collector comes in all the same, but cannot return.
    fn open_session(&self, name: &str, ids: PeerIds) -> Option<SessionKey> {
        let path = self.0.sessions.join(name);
        let kept = SessionKey::random().and_then(|key| {
            let uid = ids.uid.map(|uid| uid.to_string()).unwrap_or_default();
            os::write_private(&path, format!("{uid}\n{key}\n").as_bytes())
                .map_err(|source| SecretError::Io { path: path.clone(), source })?;
            Ok(key)
        });
        kept.inspect_err(|error| tracing::error!(collector = name, %error, "the collector will not be able to return"))
            .ok()
    }

    fn resume(&self, name: &str, key: &[u8], ids: PeerIds) -> Result<(), String> {
        let path = self.0.sessions.join(name);
        let file = match fs::read_to_string(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err("there is no session to return to".into());
            }
            Err(error) => {
                tracing::error!(collector = name, path = %path.display(), %error, "cannot read the collector's session");
                return Err("the session cannot be read".into());
            }
        };
        let (uid, kept) = file.split_once('\n').unwrap_or_default();
        let known = kept.parse().is_ok_and(|kept: SessionKey| kept.is(key));
        if known && uid.parse().ok() == ids.uid {
            return Ok(());
        }
        Err("the session key is not the one that was given to this collector and user".into())
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME && topic::is_segment(text)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Gate, MAX_TOKENS, PROTOCOL, PeerIds, TOKEN_LIFE};
    use crate::{
        proto::{Hello, Role},
        secret::{SessionKey, Token},
        standing::Standing,
    };

    const US: PeerIds = PeerIds { uid: Some(1000), pid: Some(7) };

    fn gate(dir: &tempfile::TempDir) -> Gate {
        Gate::new(dir.path().to_owned(), US.uid, None, Standing::new(1, 1))
    }

    fn hello(role: Role, name: &str) -> Hello {
        Hello { protocol: PROTOCOL, role: role.into(), name: name.into(), ..Hello::default() }
    }

    fn with_token(name: &str, token: &Token) -> Hello {
        Hello { token: token.to_bytes(), ..hello(Role::Collector, name) }
    }

    fn with_key(name: &str, key: &SessionKey) -> Hello {
        Hello { session_key: key.to_bytes(), ..hello(Role::Collector, name) }
    }

    #[test]
    fn operators_are_the_agents_user_and_root() {
        let dir = tempfile::tempdir().unwrap();
        let gate = gate(&dir);
        for (uid, may) in [(Some(1000), true), (Some(0), true), (Some(1001), false), (None, false)] {
            assert_eq!(gate.admit(&hello(Role::Operator, ""), PeerIds { uid, pid: None }).is_ok(), may, "{uid:?}");
        }
    }

    #[test]
    fn nobody_becomes_the_agent_or_speaks_another_protocol() {
        let dir = tempfile::tempdir().unwrap();
        let gate = gate(&dir);
        assert!(gate.admit(&hello(Role::Agent, "x"), US).is_err());
        assert!(gate.admit(&hello(Role::Unspecified, "x"), US).is_err());
        let newer = Hello { protocol: PROTOCOL + 1, ..hello(Role::Operator, "") };
        assert!(gate.admit(&newer, US).unwrap_err().contains("protocol 2"));
    }

    #[test]
    fn a_token_works_once_for_its_collector() {
        let dir = tempfile::tempdir().unwrap();
        let gate = gate(&dir);
        let token = gate.issue_token("procmond").unwrap();
        assert!(gate.admit(&hello(Role::Collector, "procmond"), US).is_err(), "no credential");
        assert!(gate.admit(&with_token("procmond", &Token::random().unwrap()), US).is_err(), "another token");
        assert!(gate.admit(&with_token("procmond", &token), US).unwrap().session_key.is_some());
        assert!(gate.admit(&with_token("procmond", &token), US).is_err(), "used");

        let token = gate.issue_token("procmond").unwrap();
        assert!(gate.admit(&with_token("other", &token), US).is_err());
        assert!(gate.admit(&with_token("procmond", &token), US).is_err(), "used up by the wrong collector");
    }

    #[test]
    fn a_token_grows_old_and_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let gate = gate(&dir);
        let token = gate.issue_token("procmond").unwrap();
        let late = Instant::now() + TOKEN_LIFE + Duration::from_secs(1);
        assert!(gate.redeem("procmond", &token.to_bytes(), late).is_err());

        let forgotten = gate.issue_token("procmond").unwrap();
        let kept: Vec<_> = (0..MAX_TOKENS).map(|_| gate.issue_token("procmond").unwrap()).collect();
        assert!(gate.redeem("procmond", &forgotten.to_bytes(), Instant::now()).is_err());
        for token in kept {
            assert!(gate.redeem("procmond", &token.to_bytes(), Instant::now()).is_ok());
        }
    }

    #[test]
    fn names_cannot_leave_the_sessions_directory() {
        let dir = tempfile::tempdir().unwrap();
        let gate = gate(&dir);
        for name in ["", "..", "a/b", "a.b", "A", &"x".repeat(65)] {
            assert!(gate.issue_token(name).is_err(), "{name}");
            assert!(gate.admit(&hello(Role::Collector, name), US).is_err(), "{name}");
        }
    }

    #[test]
    fn a_session_needs_its_key_its_name_and_its_user() {
        let dir = tempfile::tempdir().unwrap();
        let first = gate(&dir);
        let token = first.issue_token("procmond").unwrap();
        let key = first.admit(&with_token("procmond", &token), US).unwrap().session_key.unwrap();

        let later = gate(&dir);
        assert!(later.admit(&with_key("procmond", &key), US).unwrap().session_key.is_none());
        assert!(later.admit(&with_key("procmond", &key), US).is_ok(), "again and again");
        assert!(later.admit(&with_key("other", &key), US).is_err(), "another name");
        assert!(later.admit(&with_key("procmond", &SessionKey::random().unwrap()), US).is_err(), "another key");
        for uid in [Some(0), Some(1001), None] {
            assert!(later.admit(&with_key("procmond", &key), PeerIds { uid, pid: None }).is_err(), "{uid:?}");
        }
        std::fs::write(dir.path().join("procmond"), "").unwrap();
        assert!(later.admit(&with_key("procmond", &key), US).is_err(), "an emptied file lets nobody in");
        let nothing = Hello { session_key: Vec::new(), ..with_key("procmond", &key) };
        assert!(later.admit(&nothing, US).is_err(), "an empty key is no key");
    }
}
