//! SHA-256 of executables, beside the collection.
//!
//! A scan asks for the hash of the file that a process was loaded from, and goes on at once with what is known: the hash,
//! why there is none, or that it waits. One thread takes what waits and hashes it, so many bytes a second, and the next
//! scan sees what came of it.
//!
//! ```text
//!  scan ── ask(version, pid) ──► cache ── known ──► the record
//!                                  │ not known
//!                                  ▼
//!                                queue (bounded; full: the scan asks again later) ──► thread ──► cache
//! ```
//!
//! A file is known by its [`Version`]: device, inode, size, and the times of its last change. Whatever file is opened to be
//! hashed must be of that version before and after it was read; so a pid that was recycled, a path that leads elsewhere by
//! now, or a file that is written meanwhile never gives the hash of something else.
//!
//! Events name a file as the kernel's structures do ([`Hashes::ask_for_image`]), and on some file systems stat(2) gives another
//! device. Such a file is looked for by the thread as well, since a file system may let who asks wait: another device counts
//! only where the mount that the file was found on is of the device that the kernel named.
//!
//! The state is one lock over cache and pending versions, held for look-ups alone, never while a file is read. The cache
//! holds so many versions and drops the one that was asked for least recently; the queue bounds the pending ones. What failed
//! for now is tried again whenever somebody asks, who is told meanwhile what came of it the last time.

mod budget;
mod cache;
mod file;
mod fuzzy;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::held_back;

pub(crate) use cache::Cache;
pub(crate) use file::{FileDigester, Handle, Source};
pub(crate) use fuzzy::similarity;

use crate::reader::FileId;
use std::collections::HashSet;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is hashed with.
pub(crate) const ALGORITHM: &str = "sha256";

/// A file in one state of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) modified: (i64, u32),
    pub(crate) changed: (i64, u32),
}

impl Version {
    /// Whether it is the same file in the same state, if the devices are two numbers of one.
    pub(crate) fn is_same_but_for_device(&self, other: &Self) -> bool {
        Self { device: other.device, ..*self } == *other
    }
}

impl From<&FileId> for Version {
    fn from(file: &FileId) -> Self {
        let FileId { device, inode, size, modified, changed, .. } = *file;
        Self { device, inode, size, modified, changed }
    }
}

/// More different executables than run on a host between two looks at them; about half a megabyte, and as much again
/// with fuzzy hashes.
const MAX_VERSIONS: usize = 4096;
/// Of so many files it is known that they could not be hashed.
const MAX_TRIED: usize = 512;

/// The hashes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hashed {
    pub(crate) sha256: [u8; 32],
    /// Where fuzzy hashes are wanted.
    pub(crate) fuzzy: Option<Arc<str>>,
}

/// What came of hashing a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its hashes.
    Hash(Hashed),
    /// It is larger than what is hashed.
    TooLarge,
    /// It may be run, and not read.
    Denied,
    /// It is a directory, a device, a pipe.
    NotRegular,
    /// It is not there in this version any more.
    Gone,
    /// It was written while it was read.
    Changed,
    /// Reading failed.
    Failed,
    /// Who asked wants it no more.
    GivenUp,
}

impl Outcome {
    /// Whether it holds as long as the file is in this version.
    fn is_lasting(&self) -> bool {
        matches!(self, Self::Hash(_) | Self::TooLarge | Self::Denied | Self::NotRegular)
    }
}

/// Lower-case hex digits.
pub(crate) fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What hashes the file of a version, from wherever it is still to be had.
pub(crate) trait Digester: Send + Sync {
    /// The file that the kernel's structures name so, as stat(2) does; `None` where it is not found.
    fn resolve(&self, image: Version, source: &Source) -> Option<Version>;

    /// Asks now and then whether to give up.
    fn digest(&self, version: Version, source: &Source, give_up: &mut dyn FnMut() -> bool) -> Outcome;

    /// Whether it makes fuzzy hashes as well.
    fn is_fuzzy(&self) -> bool;
}

/// What is known when a scan asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// What came of it.
    Known(Outcome),
    /// It will be known.
    Waits,
    /// This came of it the last time, and it is tried again.
    Again(Outcome),
    /// There is no room for one more to wait.
    Full,
    /// Nothing is hashed.
    Off,
    /// The thread that hashes has ended.
    Broken,
}

struct Job {
    version: Version,
    /// It is named as the kernel's structures do.
    is_image: bool,
    source: Source,
}

struct State {
    cache: Cache<Version, Outcome>,
    /// What failed for now.
    tried: Cache<Version, Outcome>,
    /// Files as the kernel's structures name them, and as stat(2) does.
    names: Cache<Version, Version>,
    /// What is in the queue or at work.
    pending: HashSet<Version>,
}

/// A handle on what is hashed; clones share it.
#[derive(Clone)]
pub(crate) struct Hashes {
    queue: Option<SyncSender<Job>>,
    state: Arc<Mutex<State>>,
    digester: Arc<dyn Digester>,
}

impl Hashes {
    /// Starts the thread; `queue` versions may wait for it.
    ///
    /// It ends with the last handle, or with the process: nothing of it is to be saved.
    pub(crate) fn start(queue: usize, digester: Arc<dyn Digester>) -> io::Result<Self> {
        let (sender, jobs) = sync_channel(queue);
        let hashes = Self { queue: Some(sender), ..Self::on_demand(digester) };
        let (state, digester) = (Arc::clone(&hashes.state), Arc::clone(&hashes.digester));
        std::thread::Builder::new()
            .name("procmond-hashes".to_owned())
            .spawn(move || work(&jobs, &state, &*digester))?;
        Ok(hashes)
    }

    /// Hashes for tasks alone: scans are told that hashing is off.
    pub(crate) fn on_demand(digester: Arc<dyn Digester>) -> Self {
        let (cache, tried, names) = (Cache::new(MAX_VERSIONS), Cache::new(MAX_TRIED), Cache::new(MAX_VERSIONS));
        let state = State { cache, tried, names, pending: HashSet::new() };
        Self { queue: None, state: Arc::new(Mutex::new(state)), digester }
    }

    /// What is known of the file; when nothing is, it is put into the queue.
    pub(crate) fn ask(&self, version: Version, source: impl FnOnce() -> Source) -> Answer {
        self.ask_as(version, false, source)
    }

    /// The same of a file that is named as the kernel's structures do, and how stat(2) names it, as far as that is known. No file
    /// is asked about here.
    pub(crate) fn ask_for_image(&self, image: Version, source: impl FnOnce() -> Source) -> (Answer, Version) {
        let named = self.lock().names.get(&image).copied();
        let version = named.unwrap_or(image);
        (self.ask_as(version, named.is_none(), source), version)
    }

    fn ask_as(&self, version: Version, is_image: bool, source: impl FnOnce() -> Source) -> Answer {
        let Some(queue) = &self.queue else { return Answer::Off };
        let mut state = self.lock();
        if let Some(outcome) = state.cache.get(&version) {
            return Answer::Known(outcome.clone());
        }
        let waits = state.tried.get(&version).cloned().map_or(Answer::Waits, Answer::Again);
        if state.pending.contains(&version) {
            return waits;
        }
        match queue.try_send(Job { version, is_image, source: source() }) {
            Ok(()) => {
                state.pending.insert(version);
                waits
            }
            Err(TrySendError::Full(_)) => Answer::Full,
            Err(TrySendError::Disconnected(_)) => Answer::Broken,
        }
    }

    /// Whether there is something to say about the file.
    pub(crate) fn knows(&self, version: Version) -> bool {
        self.outcome(version).is_some()
    }

    /// What came of hashing the file, if it is known by now; it is not asked for.
    pub(crate) fn outcome(&self, version: Version) -> Option<Outcome> {
        let mut state = self.lock();
        state.cache.get(&version).cloned().or_else(|| state.tried.get(&version).cloned())
    }

    /// The same of a file that is named as the kernel's structures do.
    pub(crate) fn outcome_of_image(&self, image: Version) -> Option<Outcome> {
        let version = self.lock().names.get(&image).copied().unwrap_or(image);
        self.outcome(version)
    }

    /// Whether there are fuzzy hashes as well.
    pub(crate) fn is_fuzzy(&self) -> bool {
        self.queue.is_some() && self.digester.is_fuzzy()
    }

    /// Hashes the file on this thread unless its hash is known.
    pub(crate) fn now(&self, version: Version, source: &Source, give_up: &mut dyn FnMut() -> bool) -> Outcome {
        if let Some(outcome) = self.lock().cache.get(&version) {
            return outcome.clone();
        }
        let outcome = self.digester.digest(version, source, give_up);
        if outcome.is_lasting() {
            self.lock().cache.put(version, outcome.clone());
        }
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing that can panic runs under the lock.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn work(jobs: &Receiver<Job>, state: &Mutex<State>, digester: &dyn Digester) {
    // Of a thread of ours alone, so that whatever else runs comes first; without it hashing is no worse than before.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
    while let Ok(Job { version: asked, is_image, source }) = jobs.recv() {
        let found = if is_image { digester.resolve(asked, &source) } else { Some(asked) };
        let known = found.and_then(|version| lock(state).cache.get(&version).cloned());
        let digest = |version| digester.digest(version, &source, &mut || false);
        let outcome = known.unwrap_or_else(|| found.map_or(Outcome::Gone, digest));
        tracing::debug!(?outcome, source = ?source, "hashed");
        let mut state = lock(state);
        state.pending.remove(&asked);
        let version = found.unwrap_or(asked);
        if is_image && found.is_some() {
            state.names.put(asked, version);
        }
        if outcome.is_lasting() {
            state.tried.remove(&version);
            state.cache.put(version, outcome);
        } else {
            state.tried.put(version, outcome);
        }
    }
}
