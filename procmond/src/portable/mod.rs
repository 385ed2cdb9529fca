//! Processes through `sysinfo`, for systems other than Linux; on Linux for the tests that compare it with what we read.
//!
//! What the system does not say is not made up: its columns are NULL, and `provenance` says `not available on this system`.
//! `sysinfo` holds what it knows of all processes at once, so memory grows with them; nothing of it is kept here.

mod record;
#[cfg(test)]
mod tests;

use crate::boot::Boot;
use crate::mask::Masker;
use crate::reader::{Owner, Unreadable};
use crate::scan::{Glance, Observed, ProcessCollector, ScanCounts, ScanError, Visitor};
use crate::stat::Stat;
use daemoneye_lib::models::time::now_ns;
use std::ops::Deref;
use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

/// Who has no number here.
const NOBODY: u32 = u32::MAX;

/// The process table of this host.
pub(crate) struct Portable {
    system: System,
    boot: Boot,
    masker: Masker,
    max_command_line: usize,
    command_line: Vec<u8>,
}

/// Start times here count from 1970, so that they need no boot to tell processes apart; a tick is a millisecond.
pub(crate) fn boot() -> Boot {
    Boot { id: String::new(), time_ns: 0, ticks_per_second: 1000, page_size: 1 }
}

/// What a spool takes for the boot's id: it may change more often than the host boots, and a boot never has an earlier one's.
#[cfg_attr(test, expect(dead_code, reason = "Linux has a better one"))]
pub(crate) fn boot_id() -> String {
    format!("booted at {}", System::boot_time())
}

impl Portable {
    /// Reads at most so many bytes of a command line, and masks the secrets in it.
    pub(crate) fn new(max_command_line: usize, masker: Masker) -> Self {
        Self { system: System::new(), boot: boot(), masker, max_command_line, command_line: Vec::new() }
    }
}

impl ProcessCollector for Portable {
    fn enumerate_processes(&mut self, visitor: &mut dyn Visitor) -> Result<ScanCounts, ScanError> {
        let Self { system, boot, masker, max_command_line, command_line } = self;
        let always = UpdateKind::Always;
        let kind = ProcessRefreshKind::nothing().with_memory().with_cpu().without_tasks();
        let kind = kind.with_user(always).with_cwd(always).with_cmd(always).with_exe(always);
        if system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind) == 0 {
            // This process itself is one.
            return Err(ScanError::List(Unreadable::Denied));
        }
        let mut counts = ScanCounts::default();
        for (pid, process) in system.processes().iter().filter(|(_, process)| process.thread_kind().is_none()) {
            let cut = gather(process, *max_command_line, command_line);
            let glance = glance(pid.as_u32(), process, command_line, cut);
            counts.processes += 1;
            counts.denied += u32::from(glance.command_line.is_err() && glance.program.is_err());
            if !visitor.wants(&glance)? {
                continue;
            }
            let parent = process.parent().and_then(|pid| system.process(pid));
            // A process that started later has only the parent's pid.
            let parent = parent.filter(|parent| parent.start_time() <= process.start_time());
            let record = record::of((boot, masker), process, &glance, parent);
            visitor.observed(Observed { record, glance: &glance, parent_start: parent.map(start_ticks) })?;
        }
        Ok(counts)
    }
}

/// The arguments as Linux has them, a NUL after each; true when there are more than so many bytes.
fn gather(process: &Process, limit: usize, into: &mut Vec<u8>) -> bool {
    into.clear();
    for argument in process.cmd() {
        into.extend_from_slice(argument.as_encoded_bytes());
        into.push(0);
    }
    let cut = into.len() > limit;
    into.truncate(limit);
    cut
}

fn glance<'a>(pid: u32, process: &'a Process, command_line: &'a [u8], cut: bool) -> Glance<'a> {
    // None for want of permission, or because there is none: the system does not tell which.
    let known = |bytes: &'a [u8]| if bytes.is_empty() { Err(Unreadable::Denied) } else { Ok(bytes) };
    let program = process.exe().map_or(&[][..], |path| path.as_os_str().as_encoded_bytes());
    let owner = Owner {
        euid: number(process.effective_user_id().or(process.user_id()).cloned()).unwrap_or(NOBODY),
        egid: number(process.effective_group_id().or(process.group_id())).unwrap_or(NOBODY),
    };
    Glance {
        pid,
        at: now_ns(),
        stat: stat(process),
        owner,
        command_line: known(command_line),
        command_line_cut: cut,
        program: known(program),
        news: false,
        exec_id: None,
    }
}

fn stat(process: &Process) -> Stat<'_> {
    Stat {
        comm: process.name().as_encoded_bytes(),
        state: letter(process.status()),
        ppid: process.parent().map_or(0, Pid::as_u32),
        session: process.session_id().map_or(0, Pid::as_u32),
        tty: 0,
        flags: 0,
        cpu_ticks: process.accumulated_cpu_time(),
        start_ticks: start_ticks(process),
        resident_pages: process.memory(),
    }
}

fn start_ticks(process: &Process) -> u64 {
    process.start_time().saturating_mul(1000)
}

/// The state as Linux writes it.
fn letter(status: ProcessStatus) -> u8 {
    match status {
        ProcessStatus::Run => b'R',
        ProcessStatus::Sleep => b'S',
        ProcessStatus::Idle => b'I',
        ProcessStatus::Zombie => b'Z',
        ProcessStatus::Stop => b'T',
        ProcessStatus::Dead => b'X',
        ProcessStatus::UninterruptibleDiskSleep => b'D',
        _ => b'?',
    }
}

/// A user or group by number; Windows has none.
fn number<Id: Deref<Target: ToString>>(id: Option<Id>) -> Option<u32> {
    id?.deref().to_string().parse().ok()
}
