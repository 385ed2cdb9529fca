//! How often to scan: as often as wanted, and no oftener than the share of a core allows.

use daemoneye_lib::config::Config;
use std::time::Duration;

/// What is configured of the rhythm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wanted {
    /// At least so long from scan to scan.
    pub(crate) least: Duration,
    /// At least so long where events are told between the scans.
    pub(crate) beside_events: Duration,
    /// For which share of a core.
    pub(crate) max_cpu_per_cent: f64,
    /// From snapshot to snapshot; zero for none.
    pub(crate) snapshots_every: Duration,
}

impl From<&Config> for Wanted {
    fn from(config: &Config) -> Self {
        Self {
            least: Duration::from_millis(config.app.scan_interval_ms),
            beside_events: Duration::from_millis(config.procmond.reconcile_interval_ms),
            max_cpu_per_cent: config.app.max_scan_cpu,
            snapshots_every: Duration::from_millis(config.procmond.snapshot_interval_ms),
        }
    }
}

impl Wanted {
    /// At least so long from scan to scan where events are told between them, unless a snapshot is wanted sooner.
    pub(crate) fn beside_events(&self) -> Duration {
        let snapshots = if self.snapshots_every.is_zero() { self.beside_events } else { self.snapshots_every };
        self.beside_events.min(snapshots).max(self.least)
    }
}

/// The interval between the starts of two scans.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    least: Duration,
    /// Of a core, 1 for all of it.
    share: f64,
    /// What a scan costs of late.
    usual: Option<Duration>,
}

impl Pace {
    /// At least `least`, and longer as long as scanning would use more than so many per cent of a core.
    pub(crate) fn new(least: Duration, max_cpu_per_cent: f64) -> Self {
        Self { least, share: max_cpu_per_cent / 100.0, usual: None }
    }

    /// The same bounds as [`Pace::new`] takes, from now on; what scans cost of late stays known.
    pub(crate) fn limit(&mut self, least: Duration, max_cpu_per_cent: f64) {
        (self.least, self.share) = (least, max_cpu_per_cent / 100.0);
    }

    /// Takes note of what a scan has cost. One dear scan counts for a quarter, so that a single burst of new processes
    /// does not blind the next minute; several in a row do slow down.
    pub(crate) fn spent(&mut self, cost: Duration) {
        self.usual = Some(self.usual.map_or(cost, |usual| (usual * 3 + cost) / 4));
    }

    /// The interval in force.
    pub(crate) fn interval(&self) -> Duration {
        let usual = self.usual.unwrap_or_default().as_secs_f64();
        let stretched = Duration::try_from_secs_f64(usual / self.share).unwrap_or(self.least);
        self.least.max(stretched)
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_interval_stretches_to_keep_the_share() {
        for (cost, interval) in [(1, 1000), (30, 1000), (60, 2000), (300, 10_000)] {
            let mut pace = Pace::new(1000 * MS, 3.0);
            assert_eq!(pace.interval(), 1000 * MS);
            pace.spent(cost * MS);
            assert_eq!(pace.interval().as_millis(), interval, "{cost} ms");
        }
    }

    #[test]
    fn other_bounds_keep_what_is_known_of_the_cost() {
        let mut pace = Pace::new(1000 * MS, 3.0);
        pace.spent(60 * MS);
        pace.limit(500 * MS, 6.0);
        assert_eq!(pace.interval().as_millis(), 1000);
        pace.limit(1500 * MS, 6.0);
        assert_eq!(pace.interval().as_millis(), 1500);
    }

    #[test]
    fn a_single_dear_scan_slows_less_than_many() {
        let mut pace = Pace::new(1000 * MS, 3.0);
        pace.spent(20 * MS);
        pace.spent(300 * MS);
        assert_eq!(pace.interval().as_millis(), 3000);
        (0..50).for_each(|_| pace.spent(300 * MS));
        assert!(pace.interval() > 9900 * MS);
        (0..50).for_each(|_| pace.spent(20 * MS));
        assert_eq!(pace.interval(), 1000 * MS);
    }
}
