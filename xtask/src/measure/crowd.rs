//! Many idle processes, in a process group of their own.

use crate::interrupt::Interrupt;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use testkit::Failure;

/// They end by themselves after so many seconds, should nobody be left to end them.
const LIFETIME_S: &str = "1800";

/// Running processes that do nothing; dropping it ends them.
pub(super) struct Crowd {
    members: Vec<Child>,
}

impl Crowd {
    /// Starts so many processes; where the system gives fewer there is no crowd at all.
    pub(super) fn gather(count: u32, interrupt: &Interrupt) -> Result<Self, Failure> {
        let mut crowd = Self { members: Vec::new() };
        for number in 1..=count {
            interrupt.check()?;
            let mut command = Command::new("sleep");
            command.arg(LIFETIME_S).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // The first becomes the leader; a leader that has not been waited for keeps its group.
            command.process_group(crowd.group().map_or(0, |leader| leader.as_raw_nonzero().get()));
            let member = command.spawn().map_err(|error| refused(number, count, &error))?;
            crowd.members.push(member);
        }
        Ok(crowd)
    }

    fn group(&self) -> Option<Pid> {
        self.members.first().map(Pid::from_child)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(group) = self.group() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        for member in &mut self.members {
            let _ = member.wait();
        }
    }
}

fn refused(number: u32, count: u32, error: &io::Error) -> Failure {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let limits = read("/proc/self/limits");
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max processes")).unwrap_or_default();
    let soft = limit.split_whitespace().next().unwrap_or("unknown");
    Failure::new(format!(
        "cannot start `sleep`, process {number} of {count}: {error}; the limit of processes is {soft} (ulimit -u), that of \
         pids {}\nhint: raise what is too low, or measure with fewer: --processes N",
        read("/proc/sys/kernel/pid_max").trim()
    ))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_one_group_and_leaves_nothing_behind() {
        let crowd = Crowd::gather(3, &Interrupt::watch().unwrap()).unwrap();
        let pids: Vec<_> = crowd.members.iter().map(Pid::from_child).collect();
        for pid in &pids {
            assert_eq!(rustix::process::getpgid(Some(*pid)).ok(), crowd.group());
        }
        drop(crowd);
        for pid in pids {
            assert_eq!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH));
        }
    }
}
