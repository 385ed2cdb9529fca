//! This boot of the host: its id, and how its clock ticks become times.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::path::Path;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What identifies a boot and dates its processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's random id of this boot.
    pub id: String,
    /// When the host booted, in nanoseconds since 1970-01-01 UTC, as its clock was set when this value was taken.
    pub time_ns: i64,
    /// Clock ticks in a second.
    pub ticks_per_second: u64,
    /// Bytes in a page of memory.
    pub page_size: u64,
}

/// Why nothing is known of this boot.
#[derive(Debug, thiserror::Error)]
#[error("cannot read this boot's id from {path}", path = BOOT_ID)]
pub struct BootError(#[source] std::io::Error);

impl Boot {
    /// Asks the kernel. The time of the boot is taken once: were it taken for each process, its start would move with
    /// every adjustment of the clock.
    pub fn current() -> Result<Self, BootError> {
        let id = std::fs::read_to_string(Path::new(BOOT_ID)).map_err(BootError)?;
        let since_boot = nanoseconds(clock_gettime(ClockId::Boottime));
        Ok(Self {
            id: id.trim().to_owned(),
            time_ns: daemoneye_lib::models::time::now_ns().saturating_sub(since_boot),
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
            page_size: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
        })
    }

    /// The time of a clock tick of this boot.
    pub(crate) fn time_of(&self, ticks: u64) -> i64 {
        self.time_ns.saturating_add(i64::try_from(self.duration_ns(ticks)).unwrap_or(i64::MAX))
    }

    /// So many clock ticks in nanoseconds.
    pub(crate) fn duration_ns(&self, ticks: u64) -> u64 {
        let ns = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemoneye_lib::models::time::now_ns;

    #[test]
    fn ticks_become_times() {
        let boot = Boot { id: "b".into(), time_ns: 1_000, ticks_per_second: 100, page_size: 4096 };
        assert_eq!(boot.time_of(0), 1_000);
        assert_eq!(boot.time_of(150), 1_500_001_000);
        assert_eq!(boot.time_of(u64::MAX), i64::MAX);
    }

    #[test]
    fn this_host_has_booted_and_this_process_started_since() {
        let boot = Boot::current().unwrap();
        assert_eq!(boot.id.len(), 36);
        let stat = std::fs::read("/proc/self/stat").unwrap();
        let started = boot.time_of(super::super::stat::parse(&stat).unwrap().start_ticks);
        assert!(boot.time_ns < started && started <= now_ns());
        assert!(now_ns() - started < 3_600_000_000_000, "{started}");
    }
}
