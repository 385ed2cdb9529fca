//! So many bytes a second, over all threads that read.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that may be read.
pub(super) struct Budget {
    bytes_per_second: u64,
    /// When everything that was taken so far is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Budget {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), paid: Mutex::new(None) }
    }

    /// Takes bytes that were read at `now`; how long to wait before more are.
    pub(super) fn take(&self, bytes: usize, now: Instant) -> Duration {
        let cost = Duration::from_nanos(
            u64::try_from(bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second)).unwrap_or(u64::MAX),
        );
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not used is gone: nothing is saved up for a burst.
        let until = paid.map_or(now, |until| until.max(now)) + cost;
        *paid = Some(until);
        until - now
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;
    use std::time::{Duration, Instant};

    #[test]
    fn all_readers_share_the_budget_and_none_saves_up() {
        let (budget, start) = (Budget::new(1000), Instant::now());
        let ms = Duration::from_millis;
        assert_eq!(budget.take(100, start), ms(100));
        assert_eq!(budget.take(100, start), ms(200), "the second reader waits behind the first");
        assert_eq!(budget.take(100, start + ms(150)), ms(150));
        assert_eq!(budget.take(100, start + ms(60_000)), ms(100));
    }
}
