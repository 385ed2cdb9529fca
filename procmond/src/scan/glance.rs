//! The first look at a process: what can be had cheaply, and tells whether anything is different.

use crate::digest::Digest;
use crate::procfs::stat::{self, Stat};
use crate::reader::{Owner, ProcFs, Unreadable};
use daemoneye_lib::models::time::now_ns;
use rustix::io::Errno;

/// More than the longest line that the kernel writes.
const MAX_STAT: usize = 4096;

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
}

impl<'a> Glance<'a> {
    pub(super) fn take<P: ProcFs>(
        proc: &P,
        process: &P::Process,
        pid: u32,
        max_command_line: usize,
        [stat, command_line, program]: [&'a mut Vec<u8>; 3],
    ) -> Result<Self, Unreadable> {
        let at = now_ns();
        // Of a process that has ended the directory belongs to root, without an error: the owner comes before the first
        // read that would notice.
        let owner = proc.owner(process)?;
        proc.read(process, c"stat", MAX_STAT, stat)?;
        let stat = stat::parse(stat).ok_or(Unreadable::Failed(Errno::BADMSG))?;
        command_line.clear();
        program.clear();
        let mut glance = Self {
            pid,
            at,
            stat,
            owner,
            command_line: Ok(&[]),
            command_line_cut: false,
            program: Err(Unreadable::Gone),
            news: false,
        };
        if !stat.is_kernel_thread() {
            match proc.read(process, c"cmdline", max_command_line, command_line) {
                Ok(cut) => (glance.command_line, glance.command_line_cut) = (Ok(command_line.as_slice()), cut),
                Err(Unreadable::Gone) => return Err(Unreadable::Gone),
                Err(other) => glance.command_line = Err(other),
            }
            glance.program = proc.link(process, c"exe", program).map(|()| program.as_slice());
        }
        Ok(glance)
    }

    /// Whether the process has ended, or is so far that what belonged to it is gone.
    pub fn is_ending(&self) -> bool {
        let empty = self.program == Err(Unreadable::Gone) && self.command_line == Ok(&[]);
        self.stat.is_ending() || (empty && !self.stat.is_kernel_thread())
    }

    /// Whether something of it was denied.
    pub(super) fn is_denied(&self) -> bool {
        let denied = Some(Unreadable::Denied);
        self.program.err() == denied || self.command_line.err() == denied
    }

    /// When it differs from that of an earlier look at the process, the process may be different.
    pub(crate) fn digest(&self) -> u64 {
        let mut digest = Digest::new();
        for numbers in [self.stat.session, self.stat.tty, self.owner.euid, self.owner.egid] {
            digest.number(numbers.into());
        }
        digest.bytes(self.stat.name());
        for text in [self.command_line, self.program] {
            match text {
                Ok(text) => digest.number(0).bytes(text),
                Err(_) => digest.number(1),
            };
        }
        digest.finish()
    }
}
