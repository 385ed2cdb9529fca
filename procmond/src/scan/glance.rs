//! The first look at a process: what can be had cheaply, and tells whether anything is different.

use super::Glance;
use crate::procfs::stat;
use crate::reader::{ProcFs, Unreadable};
use daemoneye_lib::models::time::now_ns;
use rustix::io::Errno;

/// More than the longest line that the kernel writes.
const MAX_STAT: usize = 4096;

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
            exec_id: None,
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

    /// Whether something of it was denied.
    pub(super) fn is_denied(&self) -> bool {
        let denied = Some(Unreadable::Denied);
        self.program.err() == denied || self.command_line.err() == denied
    }
}
