//! The share of a core that all tasks have together, however many they are.

use crate::pace::Wanted;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What scans of tasks have cost and is not made up for by waiting.
pub(crate) struct Share {
    wanted: watch::Receiver<Wanted>,
    debt: Mutex<Debt>,
}

#[derive(Default)]
struct Debt {
    /// In seconds of a core.
    cpu: f64,
    at: Option<Instant>,
}

impl Share {
    /// The share that is configured, as large again as that of the collection.
    pub(crate) fn new(wanted: watch::Receiver<Wanted>) -> Self {
        Self { wanted, debt: Mutex::default() }
    }

    /// Takes note of what a scan has cost.
    pub(super) fn spent(&self, cost: Duration, now: Instant) {
        self.settled(now).cpu += cost.as_secs_f64();
    }

    /// How long until whatever was spent, by any task, keeps within the share as it is configured now.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let wait = self.settled(now).cpu / self.rate();
        Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX)
    }

    fn settled(&self, now: Instant) -> MutexGuard<'_, Debt> {
        let rate = self.rate();
        // Nothing that can panic runs under the lock.
        let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = debt.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        debt.cpu = (debt.cpu - passed.as_secs_f64() * rate).max(0.0);
        debt.at = debt.at.max(Some(now));
        debt
    }

    fn rate(&self) -> f64 {
        self.wanted.borrow().max_cpu_per_cent / 100.0
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// So many per cent of a core.
    pub(in super::super) fn share(max_cpu_per_cent: f64) -> (watch::Sender<Wanted>, Share) {
        let least = Duration::from_secs(1);
        let (wanted, receiver) =
            watch::channel(Wanted { least, max_cpu_per_cent, snapshots_every: least, beside_events: least });
        (wanted, Share::new(receiver))
    }

    #[test]
    fn all_tasks_wait_for_what_any_has_spent_as_is_configured_now() {
        let (wanted, share) = share(2.0);
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let wait = |at: Instant| share.wait(at).as_millis();
        assert_eq!(wait(start), 0);
        share.spent(ms(10), start);
        assert_eq!(wait(start), 500);
        share.spent(ms(10), start + ms(100));
        assert_eq!(wait(start + ms(100)), 900, "the second waits for the first as well");
        assert_eq!(wait(start + ms(500)), 500);
        wanted.send_modify(|wanted| wanted.max_cpu_per_cent = 20.0);
        assert_eq!(wait(start + ms(500)), 50, "without a restart");
        assert_eq!(wait(start + ms(9_000)), 0);
        share.spent(ms(20), start + ms(10_000));
        assert_eq!(wait(start + ms(10_000)), 100, "nothing was saved up");
    }
}
