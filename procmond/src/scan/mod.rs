//! One enumeration of all processes.
//!
//! Each process is looked at twice at most. The first look ([`Glance`]) reads what can be had cheaply and tells the
//! visitor; only when the visitor wants the whole record is everything else read, through the same open directory. So a
//! scan of processes that all are as they were costs a handful of system calls each, and never holds more than one
//! record.

mod awaited;
mod details;
mod draft;
mod glance;
mod image;
pub(crate) mod image_hash;
mod observe;
mod parents;
mod predecessors;
mod roll_call;

pub(crate) use image_hash::ImageHashes;
pub use observe::{Glance, Interrupted, Observed, ProcessCollector, ScanCounts, ScanError, Visitor};
pub(crate) use observe::{Look, UNLIKE, look_digest, usage};
pub(crate) use predecessors::Predecessors;

use crate::hashing::Hashes;
use crate::kernel;
use crate::kernel::ebpf::{KernelTypes, Roster};
use crate::mask::Masker;
use crate::procfs::boot::Boot;
use crate::procfs::users::Users;
use crate::procfs::{cgroup, link};
use crate::reader::{ProcFs, Unreadable};
use awaited::Awaited;
use daemoneye_lib::config::keys;
use details::Details;
use draft::Draft;
use image::Files;
use parents::Parents;
use roll_call::Stop;
use rustix::io::Errno;
use std::error::Error;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// The environment variables that records carry, where they are set, as they are configured at the moment.
pub type VariableNames = watch::Receiver<Arc<[String]>>;

/// What records are made with beside the process itself.
struct Aids {
    boot: Boot,
    users: Users,
    files: Files,
    masker: Masker,
    hashes: Option<Hashes>,
    awaited: Awaited,
    predecessors: Option<Arc<Mutex<Predecessors>>>,
    variables: VariableNames,
    /// What records say that they come from.
    source: &'static str,
}

/// Reads processes from a process table, with buffers that live as long as it does.
pub struct Scanner<P> {
    proc: P,
    max_command_line: usize,
    pids: Vec<u32>,
    stat: Vec<u8>,
    command_line: Vec<u8>,
    program: Vec<u8>,
    details: Details,
    parents: Parents,
    aids: Aids,
    /// What gives the first look, where the kernel can.
    roster: Option<Box<Roster>>,
}

impl<P: ProcFs> Scanner<P> {
    /// A scanner of this boot's processes that reads at most so many bytes of a command line and masks the secrets in it.
    /// It hashes nothing, and takes the usual variables.
    pub fn new(proc: P, boot: Boot, max_command_line: usize) -> Self {
        Self {
            proc,
            max_command_line,
            pids: Vec::new(),
            stat: Vec::new(),
            command_line: Vec::new(),
            program: Vec::new(),
            details: Details::default(),
            parents: Parents::default(),
            aids: Aids {
                boot,
                users: Users::new("/etc/passwd"),
                files: Files::default(),
                masker: Masker::new(&[]),
                hashes: None,
                awaited: Awaited::default(),
                predecessors: None,
                variables: watch::channel(keys::ENVIRONMENT.iter().map(ToString::to_string).collect()).1,
                source: "poll",
            },
            roster: None,
        }
    }

    /// The same with another way to mask secrets.
    #[must_use]
    pub fn masking(mut self, masker: Masker) -> Self {
        self.aids.masker = masker;
        self
    }

    /// The same with other variables of the environment.
    #[must_use]
    pub fn collecting(mut self, variables: VariableNames) -> Self {
        self.aids.variables = variables;
        self
    }

    /// The same, with the first look at every process from the kernel's iterators: what it sees is the same, and costs no system
    /// calls for each process.
    ///
    /// # Errors
    /// Where no eBPF program can be loaded; it says what is missing.
    pub fn with_iterators(self) -> io::Result<Self> {
        let pid_namespace = kernel::pid_namespace()?;
        let types = KernelTypes::default();
        let roster = types.get().and_then(|types| Roster::load(types, pid_namespace));
        let roster = roster.map_err(io::Error::other)?;
        Ok(self.calling(Some(Box::new(roster))))
    }

    /// The same, with what gives the first look at every process.
    #[must_use]
    pub(crate) fn calling(mut self, mut roster: Option<Box<Roster>>) -> Self {
        self.details.groups_root = roster.as_mut().and_then(|roster| groups_root(roster));
        self.roster = roster;
        self
    }

    /// The same with the hashes of executables.
    #[must_use]
    pub(crate) fn hashing(mut self, hashes: Hashes) -> Self {
        self.aids.hashes = Some(hashes);
        self
    }

    /// The same, which tells where an image with a fuzzy hash is unlike the one before it at its path.
    ///
    /// For the scanner of the collection alone: each image is new once.
    #[must_use]
    pub(crate) fn comparing(mut self, predecessors: Arc<Mutex<Predecessors>>) -> Self {
        self.aids.predecessors = Some(predecessors);
        self
    }

    /// Another process table from now on.
    #[cfg(test)]
    pub(crate) fn replace(&mut self, proc: P) {
        self.proc = proc;
    }

    /// True when something of the process was denied.
    fn visit(&mut self, pid: u32, visitor: &mut dyn Visitor) -> Result<bool, Miss> {
        let Self { proc, stat, command_line, program, aids, .. } = self;
        let process = proc.open(pid)?;
        let mut glance = Glance::take(proc, &process, pid, self.max_command_line, [stat, command_line, program])?;
        glance.news = aids.awaited.has_come(pid, aids.hashes.as_ref());
        if visitor.wants(&glance)? {
            let (details, parents) = (&mut self.details, &mut self.parents);
            Whole { proc, aids, details, parents }.show(&process, &glance, visitor)?;
        }
        Ok(glance.is_denied())
    }
}

/// The root of our cgroup namespace, where it is one of our own.
fn groups_root(roster: &mut Roster) -> Option<cgroup::Root> {
    /// The inode number of the first one.
    const INITIAL: u64 = 0xEFFF_FFFB;
    let namespace = std::fs::read_link("/proc/self/ns/cgroup").ok()?;
    if link::namespace(namespace.as_os_str().as_bytes()) == Some(INITIAL) {
        return None;
    }
    let own = roster.own_group().ok()??;
    cgroup::Root::of(&own, cgroup::path(&std::fs::read("/proc/self/cgroup").ok()?)?)
}

impl<P: ProcFs> ProcessCollector for Scanner<P> {
    fn enumerate_processes(&mut self, visitor: &mut dyn Visitor) -> Result<ScanCounts, ScanError> {
        self.aids.users.refresh();
        self.aids.files.forget();
        self.aids.awaited.begin();
        self.parents.forget();
        let counts = match self.roster.take() {
            None => self.all_pids(visitor)?,
            Some(mut roster) => match self.roll_call(&mut roster, visitor) {
                Ok(counts) => {
                    self.roster = Some(roster);
                    counts
                }
                Err(Stop::Scan(error)) => {
                    self.roster = Some(roster);
                    return Err(error);
                }
                Err(Stop::Broken(error)) => {
                    tracing::warn!(error = &error as &dyn Error, "processes are listed by /proc from now on");
                    self.all_pids(visitor)?
                }
            },
        };
        self.aids.awaited.end();
        Ok(counts)
    }

    fn hides(&self, pid: u32) -> bool {
        // The kernel's iterators hide nobody.
        self.roster.is_none() && self.proc.hides(pid)
    }
}

impl<P: ProcFs> Scanner<P> {
    /// Every process that `/proc` lists.
    fn all_pids(&mut self, visitor: &mut dyn Visitor) -> Result<ScanCounts, ScanError> {
        let mut pids = std::mem::take(&mut self.pids);
        self.proc.pids(&mut pids).map_err(ScanError::List)?;
        let mut counts = ScanCounts::default();
        for pid in &pids {
            let met = self.visit(*pid, visitor);
            count(*pid, met, visitor, &mut counts)?;
        }
        self.pids = pids;
        Ok(counts)
    }
}

/// What reads the rest of a process whose whole record is wanted.
struct Whole<'a, P> {
    proc: &'a P,
    aids: &'a mut Aids,
    details: &'a mut Details,
    parents: &'a mut Parents,
}

impl<P: ProcFs> Whole<'_, P> {
    fn show(self, process: &P::Process, glance: &Glance<'_>, visitor: &mut dyn Visitor) -> Result<(), Miss> {
        let Self { proc, aids, details, parents } = self;
        let mut draft = Draft::begin(glance, aids);
        details.read(proc, process, glance, aids, &mut draft)?;
        let parent_start = parents.describe(proc, glance, aids, &mut draft);
        Ok(visitor.observed(Observed { record: draft.finish(), glance, parent_start })?)
    }
}

/// Counts what came of a visit.
fn count(
    pid: u32,
    met: Result<bool, Miss>,
    visitor: &mut dyn Visitor,
    counts: &mut ScanCounts,
) -> Result<(), ScanError> {
    match met {
        Ok(denied) => {
            counts.processes += 1;
            counts.denied += u32::from(denied);
        }
        Err(Miss::Unreadable(Unreadable::Gone)) => counts.vanished += 1,
        Err(Miss::Unreadable(Unreadable::Failed(errno))) if is_ours(errno) => {
            return Err(ScanError::Exhausted { pid, errno });
        }
        Err(Miss::Unreadable(_)) => {
            counts.processes += 1;
            counts.denied += 1;
            visitor.unreadable(pid);
        }
        Err(Miss::Interrupted) => return Err(ScanError::Interrupted),
    }
    Ok(())
}

impl<P: ProcFs> Look for Scanner<P> {
    fn look(&mut self, pid: u32, visitor: &mut dyn Visitor) -> Result<(), Interrupted> {
        self.aids.files.forget();
        self.parents.forget();
        match self.visit(pid, visitor) {
            Err(Miss::Interrupted) => Err(Interrupted),
            // One that ended meanwhile, or cannot be read, has nothing to show.
            Ok(_) | Err(Miss::Unreadable(_)) => Ok(()),
        }
    }

    fn speak_for(&mut self, source: &'static str) {
        self.aids.source = source;
    }
}

/// Whether the failure is a shortage of ours, not a property of the process.
fn is_ours(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

/// Why a process was not shown to the end.
#[derive(Debug)]
enum Miss {
    Unreadable(Unreadable),
    Interrupted,
}

impl From<Unreadable> for Miss {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable)
    }
}

impl From<Interrupted> for Miss {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

#[cfg(test)]
mod tests;
