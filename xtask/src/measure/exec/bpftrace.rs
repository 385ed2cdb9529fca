//! bpftrace as a watcher: the probe and the output of its own `execsnoop.bt`.
//!
//! It looks for tracepoints in tracefs. Where nobody has mounted that, it gets a mount of its own, in a mount namespace that
//! ends with it.

use super::watcher::{Watcher, count_starts, find};
use std::path::Path;
use std::process::Command;
use testkit::{Child, Failure};

const PACKAGE: &str = "bpftrace";
/// As `execsnoop.bt` has it, but for the time, which costs and tells nothing here.
pub(super) const PROBE: &str = "tracepoint:syscalls:sys_enter_exec* { printf(\"%d \", pid); join(args->argv); }";
/// Any of them will do.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing/available_events", "/sys/kernel/debug/tracing/available_events"];

pub(super) struct Bpftrace(Child);

impl Bpftrace {
    pub(super) fn start() -> Result<Self, Failure> {
        let bpftrace = find("bpftrace", PACKAGE)?;
        let mounted = TRACEFS.iter().any(|path| Path::new(path).exists());
        let mut command = if mounted {
            Command::new(bpftrace)
        } else {
            let mut command = Command::new(find("unshare", "util-linux")?);
            command.args(["--mount", "sh", "-c", "mount -t tracefs tracefs /sys/kernel/tracing && exec \"$@\"", "sh"]);
            command.arg(bpftrace);
            command
        };
        command.args(["-e", PROBE]);
        Ok(Self(Child::spawn(command)?))
    }

    /// Shown when it ends by itself.
    fn last_words(&self) -> String {
        self.0.stderr().lines().last().unwrap_or("it says nothing").to_owned()
    }
}

impl Watcher for Bpftrace {
    fn pids(&self) -> Vec<u32> {
        vec![self.0.pid()]
    }

    fn captured(&self, run: &str) -> Result<u64, Failure> {
        if !Path::new(&format!("/proc/{}/exe", self.0.pid())).exists() {
            return Err(Failure::new(format!("bpftrace has ended: {}", self.last_words())));
        }
        let told = self.0.stdout();
        Ok(count_starts(told.split_ascii_whitespace().map(str::as_bytes), run))
    }

    fn lost(&self) -> Result<u64, Failure> {
        Ok(lost(&self.0.stdout()) + lost(&self.0.stderr()))
    }
}

/// Of its messages `Lost N events`.
fn lost(said: &str) -> u64 {
    let count = |line: &str| line.trim().strip_prefix("Lost ")?.strip_suffix(" events")?.parse::<u64>().ok();
    said.lines().filter_map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_lost_is_the_sum_of_what_it_says() {
        assert_eq!(lost("Attaching 2 probes...\nLost 17 events\n1234 /bin/true Lost 5 events x\nLost 3 events"), 20);
        assert_eq!(lost(""), 0);
    }
}
