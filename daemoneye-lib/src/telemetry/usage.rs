//! What this process uses.

use crate::os;
use std::time::Duration;

/// What a process uses, as the system tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory (VmRSS), in bytes; none where the system does not tell.
    pub resident_bytes: Option<u64>,
    /// Processor time of all its threads so far; 0 where the system is not asked.
    pub cpu_time: Duration,
}

impl Usage {
    /// That of this process now.
    pub fn of_this_process() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self { resident_bytes: resident(&status), cpu_time: os::cpu_time() }
    }
}

fn resident(status: &str) -> Option<u64> {
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        let before = Usage::of_this_process();
        assert!(before.resident_bytes.is_some_and(|bytes| bytes > 100_000), "{before:?}");
        let mut spent = 0u64;
        while Usage::of_this_process().cpu_time <= before.cpu_time {
            spent = spent.wrapping_add(1);
        }
        assert!(before.cpu_time > Duration::ZERO);
    }

    #[test]
    fn a_status_without_memory_is_unknown() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2052 kB\n"), Some(2052 * 1024));
        assert_eq!(resident("Name:\tkthreadd\n"), None);
        assert_eq!(resident("VmRSS:\tmany kB\n"), None);
    }
}
