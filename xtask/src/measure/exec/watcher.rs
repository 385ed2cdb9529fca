//! Who watches while programs are started, and what all of them can be asked.

use super::auditd::Auditd;
use super::bpftrace::Bpftrace;
use super::cpu;
use super::daemoneye::DaemonEye;
use crate::interrupt::Interrupt;
use crate::measure::usage::Usage;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use testkit::Failure;

/// Something that tells of the programs that are started. Dropping it ends it, and leaves the host as it was.
pub(super) trait Watcher {
    /// Its processes, and the kernel's threads that work for nobody else.
    fn pids(&self) -> Vec<u32>;

    /// How many starts of this run it has told so far, each with its own argument.
    ///
    /// # Errors
    /// When it cannot be asked, which is the end of it.
    fn captured(&self, run: &str) -> Result<u64, Failure>;

    /// How many events it says that it has lost so far.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn lost(&self) -> Result<u64, Failure>;
}

/// The watchers, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Nothing,
    DaemonEye,
    Auditd,
    Bpftrace,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Nothing, Self::DaemonEye, Self::Auditd, Self::Bpftrace];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::DaemonEye => "DaemonEye",
            Self::Auditd => "auditd",
            Self::Bpftrace => "bpftrace",
        }
    }

    /// Starts it. What it cannot do here is said by the failure.
    pub(super) fn start(self, programs: Option<&Path>, interrupt: &Interrupt) -> Result<Box<dyn Watcher>, Failure> {
        Ok(match self {
            Self::Nothing => Box::new(Nobody),
            Self::DaemonEye => Box::new(DaemonEye::start(programs)?),
            Self::Auditd => Box::new(Auditd::start(interrupt)?),
            Self::Bpftrace => Box::new(Bpftrace::start()?),
        })
    }
}

/// What everything else is compared with.
struct Nobody;

impl Watcher for Nobody {
    fn pids(&self) -> Vec<u32> {
        Vec::new()
    }

    fn captured(&self, _: &str) -> Result<u64, Failure> {
        Ok(0)
    }

    fn lost(&self) -> Result<u64, Failure> {
        Ok(0)
    }
}

/// What all of a watcher's processes have used so far.
pub(super) fn used_by(watcher: &dyn Watcher) -> Result<Duration, Failure> {
    watcher.pids().into_iter().map(cpu::used_by).sum()
}

/// What of them is in memory now. The kernel's threads have none of their own.
pub(super) fn resident(watcher: &dyn Watcher) -> u64 {
    watcher.pids().into_iter().filter_map(|pid| Usage::of(pid).ok()).map(|usage| usage.resident).sum()
}

/// The number of a start, from the argument that it had.
pub(super) fn number(argument: &[u8], run: &str) -> Option<u64> {
    let digits = argument.strip_prefix(run.as_bytes())?.strip_prefix(b".")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// How many different starts these arguments belong to.
pub(super) fn count_starts<'a>(arguments: impl Iterator<Item = &'a [u8]>, run: &str) -> u64 {
    let numbers: BTreeSet<u64> = arguments.filter_map(|argument| number(argument, run)).collect();
    numbers.len() as u64
}

/// Where a program is; root's programs are not in everybody's path.
pub(super) fn find(program: &str, package: &str) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places.map(|dir| dir.join(program)).find(|path| path.is_file());
    found.ok_or_else(|| Failure::new(format!("{program} is not installed (Debian: apt-get install {package})")))
}

/// What a command prints, or what it says when it fails.
pub(super) fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command.output().map_err(|error| Failure::new(format!("cannot run {command:?}: {error}")))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!("{command:?} ended with {}: {}", output.status, said.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_counted_once_and_those_of_other_runs_are_not() {
        let told: [&[u8]; 8] = [b"/bin/true", b"r-1.0", b"r-1.7", b"r-1.7", b"r-10.7", b"r-1.", b"xr-1.8", b"r-1.9x"];
        assert_eq!(count_starts(told.into_iter(), "r-1"), 2);
    }

    #[test]
    fn what_is_not_installed_is_named_with_its_package() {
        assert!(find("sh", "dash").is_ok());
        let failure = find("no-such-program", "its-package").map(drop);
        assert!(failure.is_err_and(|failure| failure.to_string().contains("apt-get install its-package")));
    }
}
