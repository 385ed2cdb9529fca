//! What an enumeration of processes gives, whatever system it reads: who collects, who looks, and at what.

use crate::digest::Digest;
use crate::reader::{Errno, Owner, Unreadable};
use crate::stat::Stat;
use daemoneye_lib::proto::common::ProcessRecord;

/// Enumerates the processes of a host.
pub trait ProcessCollector {
    /// Shows every process to the visitor, each once.
    ///
    /// # Errors
    ///
    /// After an error nothing is known about the processes that were not shown.
    fn enumerate_processes(&mut self, visitor: &mut dyn Visitor) -> Result<ScanCounts, ScanError>;

    /// Whether a process with this pid may run that was not shown.
    fn hides(&self, _pid: u32) -> bool {
        false
    }
}

/// Looks at single processes.
#[cfg(target_os = "linux")]
pub(crate) trait Look {
    /// Shows the process to the visitor, if it is there and can be read.
    ///
    /// # Errors
    ///
    /// When the visitor wants to see no more.
    fn look(&mut self, pid: u32, visitor: &mut dyn Visitor) -> Result<(), Interrupted>;

    /// Records come from this source from now on.
    fn speak_for(&mut self, source: &'static str);
}

/// What looks at the processes of a scan.
pub trait Visitor {
    /// Whether the whole record of this process is wanted.
    fn wants(&mut self, glance: &Glance<'_>) -> Result<bool, Interrupted>;

    /// Takes the record that was wanted.
    fn observed(&mut self, observed: Observed<'_>) -> Result<(), Interrupted>;

    /// A process has this pid, and nothing of it can be read.
    fn unreadable(&mut self, pid: u32);
}

/// A process with everything that a scan can know of it.
pub struct Observed<'a> {
    /// All of it.
    pub record: ProcessRecord,
    /// The first look that it was made from.
    pub glance: &'a Glance<'a>,
    /// When the parent that the record names started, in clock ticks since boot.
    pub parent_start: Option<u64>,
}

/// The visitor wants to see no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// What a scan met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanCounts {
    /// Processes that were there.
    pub processes: u32,
    /// Those that ended while they were being read.
    pub vanished: u32,
    /// Those of which something could not be read for want of permission.
    pub denied: u32,
}

/// Why a scan ended before its time.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The visitor ended it.
    #[error("the scan was interrupted")]
    Interrupted,
    /// The list of processes cannot be read.
    #[error("cannot list the processes in /proc: {0}")]
    List(Unreadable),
    /// The system has no room for a file descriptor, or no memory, to read a process.
    #[error("cannot read process {pid}: {errno}")]
    Exhausted {
        /// Which one.
        pid: u32,
        /// What the system said.
        errno: Errno,
    },
}

impl From<Interrupted> for ScanError {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

/// The first look.
pub struct Glance<'a> {
    /// The process.
    pub pid: u32,
    /// When it was looked at, in nanoseconds since 1970-01-01 UTC.
    pub at: i64,
    /// What the kernel says of it.
    pub stat: Stat<'a>,
    /// Who it acts as.
    pub owner: Owner,
    /// Its arguments as they are in its memory.
    pub command_line: Result<&'a [u8], Unreadable>,
    /// Whether the command line is longer than that.
    pub command_line_cut: bool,
    /// The text of its link to the program that it runs.
    pub program: Result<&'a [u8], Unreadable>,
    /// Whether something has come to be known of it that its last record could not say.
    pub news: bool,
    /// Which of its programs it runs, where the kernel says: grows with every program that the process begins.
    pub exec_id: Option<u64>,
}

impl Glance<'_> {
    /// Whether the process has ended, or is so far that what belonged to it is gone.
    pub fn is_ending(&self) -> bool {
        let empty = self.program == Err(Unreadable::Gone) && self.command_line == Ok(&[]);
        self.stat.is_ending() || (empty && !self.stat.is_kernel_thread())
    }

    /// When it differs from that of an earlier look at the process, the process may be different.
    pub(crate) fn digest(&self) -> u64 {
        let texts = [self.command_line.ok(), self.program.ok()];
        look_digest([self.stat.session, self.stat.tty, self.owner.euid, self.owner.egid], self.stat.name(), texts)
    }
}

/// The digest of what a first look finds: session, terminal, effective ids; the name; command line and link to the program,
/// where they can be read.
pub(crate) fn look_digest(numbers: [u32; 4], name: &[u8], texts: [Option<&[u8]>; 2]) -> u64 {
    let mut digest = Digest::new();
    for number in numbers {
        digest.number(number.into());
    }
    digest.bytes(name);
    for text in texts {
        match text {
            Some(text) => digest.number(0).bytes(text),
            None => digest.number(1),
        };
    }
    digest.finish()
}

/// The notes in `platform_data` about an image that is unlike the one that was at its path before.
pub(crate) const UNLIKE: [&str; 2] = ["fuzzy_similarity", "fuzzy_previous"];

/// Per cent of one core; `None` for no time.
#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than 53 bits")]
pub(crate) fn usage(cpu_ns: u64, elapsed_ns: i64) -> Option<f64> {
    (elapsed_ns > 0).then(|| cpu_ns as f64 * 100.0 / elapsed_ns as f64)
}
