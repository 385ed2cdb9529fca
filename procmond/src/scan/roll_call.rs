//! A scan by the kernel's own iterators: the first look at every process costs no system call of its own. Only of those whose
//! whole record is wanted, and of what the iterators do not give, is anything read in `/proc`.

use super::{Glance, Miss, ScanCounts, ScanError, Scanner, Visitor, Whole};
use crate::kernel::ebpf::{Member, Roster};
use crate::reader::{Owner, ProcFs, Unreadable};
use crate::stat::{KERNEL_THREAD, Stat};
use daemoneye_lib::models::time::now_ns;
use std::io;

/// The longest name of a task (`TASK_COMM_LEN`, without its NUL).
const MAX_NAME: usize = 15;

/// Why a roll call ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The iterators cannot be read.
    Broken(io::Error),
    /// What any scan can end with.
    Scan(ScanError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl<P: ProcFs> Scanner<P> {
    pub(super) fn roll_call(&mut self, roster: &mut Roster, visitor: &mut dyn Visitor) -> Result<ScanCounts, Stop> {
        let mut counts = ScanCounts::default();
        roster.each(|member| self.meet(&member, visitor, &mut counts).map_err(Stop::Scan))?;
        Ok(counts)
    }

    fn meet(
        &mut self,
        member: &Member<'_>,
        visitor: &mut dyn Visitor,
        counts: &mut ScanCounts,
    ) -> Result<(), ScanError> {
        let pid = member.who.pid;
        // Names of the kernel's threads may be longer than a task has room for: `/proc` tells them whole.
        let cut = member.flags & KERNEL_THREAD != 0 && member.who.name.len() >= MAX_NAME;
        let met = match member.cpu {
            Some(cpu) if !cut => self.present(member, cpu, visitor),
            // Or it has more threads than the iterator counts.
            _ => self.visit(pid, visitor),
        };
        super::count(pid, met, visitor, counts)
    }

    fn present(&mut self, member: &Member<'_>, cpu: u64, visitor: &mut dyn Visitor) -> Result<bool, Miss> {
        let Self { proc, command_line, aids, .. } = self;
        let who = &member.who;
        let stat = Stat {
            comm: who.name,
            state: member.state,
            ppid: who.parent,
            session: who.session,
            tty: who.tty,
            flags: member.flags,
            cpu_ticks: aids.boot.ticks_of(cpu),
            start_ticks: aids.boot.ticks_of(who.start),
            resident_pages: member.resident_pages,
        };
        let mut glance = Glance {
            pid: who.pid,
            at: now_ns(),
            stat,
            owner: Owner { euid: who.euid, egid: who.egid },
            command_line: Ok(&[]),
            command_line_cut: false,
            program: Err(Unreadable::Gone),
            news: aids.awaited.has_come(who.pid, aids.hashes.as_ref()),
            exec_id: Some(who.exec_id),
        };
        if let Some(program) = &member.program
            && stat.flags & KERNEL_THREAD == 0
        {
            glance.program = Ok(&program.link);
            match program.arguments {
                Some(whole) => {
                    let taken = &whole[..whole.len().min(self.max_command_line)];
                    (glance.command_line, glance.command_line_cut) = (Ok(taken), taken.len() < whole.len());
                }
                None => {
                    let process = proc.open(who.pid)?;
                    match proc.read(&process, c"cmdline", self.max_command_line, command_line) {
                        Ok(cut) => (glance.command_line, glance.command_line_cut) = (Ok(command_line.as_slice()), cut),
                        Err(Unreadable::Gone) => return Err(Unreadable::Gone.into()),
                        Err(other) => glance.command_line = Err(other),
                    }
                }
            }
        }
        if visitor.wants(&glance)? {
            let (details, parents) = (&mut self.details, &mut self.parents);
            Whole { proc, aids, details, parents }.show(&proc.open(who.pid)?, &glance, visitor)?;
        }
        Ok(glance.is_denied())
    }
}

#[cfg(test)]
#[path = "roll_call_tests.rs"]
mod tests;
