//! What a process has used, as the kernel counts it.

use rustix::param::clock_ticks_per_second;
use std::time::Duration;
use testkit::Failure;

/// What a process has used so far.
#[derive(Clone, Copy)]
pub(super) struct Usage {
    /// Of all its threads, in user and kernel mode; to a clock tick.
    pub(super) cpu: Duration,
    /// Bytes that are resident now (VmRSS).
    pub(super) resident: u64,
    /// Those of them that are no file's (RssAnon).
    pub(super) anonymous: u64,
    /// The most that ever were resident (VmHWM).
    pub(super) peak: u64,
}

impl Usage {
    pub(super) fn of(pid: u32) -> Result<Self, Failure> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read_to_string(&path).map_err(|error| Failure::new(format!("cannot read {path}: {error}")))
        };
        let (status, stat) = (read("status")?, read("stat")?);
        let bytes = |key| kib(&status, key).map(|kib| kib * 1024);
        let parsed = || {
            let ms = cpu_ticks(&stat)?.checked_mul(1000)?.checked_div(clock_ticks_per_second())?;
            let (resident, anonymous, peak) = (bytes("VmRSS:")?, bytes("RssAnon:")?, bytes("VmHWM:")?);
            Some(Self { cpu: Duration::from_millis(ms), resident, anonymous, peak })
        };
        parsed().ok_or_else(|| Failure::new(format!("process {pid} has ended, or /proc/{pid} reads otherwise here")))
    }
}

fn kib(status: &str, key: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(key))?.trim().strip_suffix(" kB")?.parse().ok()
}

/// Fields 14 and 15.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // Field 3 follows the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    user.parse::<u64>().ok()?.checked_add(system.parse().ok()?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.peak >= usage.resident && usage.resident > usage.anonymous && usage.anonymous > 0);
        assert!(Usage::of(0).is_err());
    }

    #[test]
    fn cpu_is_user_and_system_time() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(kib("VmHWM:\t  12 kB\nVmRSS:\t   8 kB\n", "VmRSS:"), Some(8));
    }
}
