//! A boot of the host: its id, and how its clock ticks become times.

/// What identifies a boot and dates its processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// The kernel's random id of this boot, where it gives one.
    pub id: String,
    /// When the host booted, in nanoseconds since 1970-01-01 UTC, as its clock was set when this value was taken.
    pub time_ns: i64,
    /// Clock ticks in a second.
    pub ticks_per_second: u64,
    /// Bytes in a page of memory.
    pub page_size: u64,
}

impl Boot {
    /// The time of a clock tick of this boot.
    pub(crate) fn time_of(&self, ticks: u64) -> i64 {
        self.time_ns.saturating_add(i64::try_from(self.duration_ns(ticks)).unwrap_or(i64::MAX))
    }

    #[cfg(target_os = "linux")]
    /// The clock tick of a moment so many nanoseconds after the boot.
    pub(crate) fn ticks_of(&self, ns: u64) -> u64 {
        let ticks = u128::from(ns) * u128::from(self.ticks_per_second) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// A moment within the clock tick, in nanoseconds after the boot: its middle, so that it is in the same tick in whatever way it
    /// is rounded.
    #[cfg(target_os = "linux")]
    pub(crate) fn within(&self, ticks: u64) -> u64 {
        self.duration_ns(ticks).saturating_add(self.duration_ns(1) / 2)
    }

    /// So many clock ticks in nanoseconds.
    pub(crate) fn duration_ns(&self, ticks: u64) -> u64 {
        let ns = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_times() {
        let boot = Boot { id: "b".into(), time_ns: 1_000, ticks_per_second: 100, page_size: 4096 };
        assert_eq!(boot.time_of(0), 1_000);
        assert_eq!(boot.time_of(150), 1_500_001_000);
        assert_eq!(boot.time_of(u64::MAX), i64::MAX);
    }
}
