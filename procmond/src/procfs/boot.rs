//! This boot of the host: its id, and how its clock ticks become times.

pub(crate) use crate::boot::Boot;

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::path::Path;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why nothing is known of this boot.
#[derive(Debug, thiserror::Error)]
#[error("cannot read this boot's id from {path}", path = BOOT_ID)]
pub struct BootError(#[source] std::io::Error);

impl Boot {
    /// Asks the kernel. The time of the boot is taken once: were it taken for each process, its start would move with
    /// every adjustment of the clock.
    pub fn current() -> Result<Self, BootError> {
        let id = std::fs::read_to_string(Path::new(BOOT_ID)).map_err(BootError)?;
        Ok(Self {
            id: id.trim().to_owned(),
            time_ns: daemoneye_lib::models::time::now_ns().saturating_sub_unsigned(since_boot()),
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
            page_size: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
        })
    }
}

/// Nanoseconds since the boot, time asleep included, as the kernel dates processes and its events.
pub(crate) fn since_boot() -> u64 {
    nanoseconds(clock_gettime(ClockId::Boottime))
}

/// How long this host was suspended since its boot.
pub(crate) fn asleep() -> u64 {
    let awake = nanoseconds(clock_gettime(ClockId::Monotonic));
    since_boot().saturating_sub(awake)
}

fn nanoseconds(time: Timespec) -> u64 {
    let ns = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
    // Neither of these clocks was ever before the boot.
    u64::try_from(ns).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemoneye_lib::models::time::now_ns;

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
