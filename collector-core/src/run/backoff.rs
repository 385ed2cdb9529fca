//! How long to wait before the next try: exponential, with jitter, so that many who lost the same thing do not come
//! back together.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure.
    pub(super) fn next(&mut self) -> Duration {
        let mut bytes = [0; 4];
        // Without random bytes the wait is the longer one: still a wait.
        let random = getrandom::fill(&mut bytes).map_or(u32::MAX, |()| u32::from_le_bytes(bytes));
        let wait = delay(self.failures, random);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// The next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Between half and all of the doubled wait.
fn delay(failures: u32, random: u32) -> Duration {
    let full = FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST);
    full / 2 + (full / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_again() {
        assert_eq!(delay(0, u32::MAX), FIRST);
        assert_eq!(delay(0, 0), FIRST / 2);
        assert_eq!(delay(3, u32::MAX), FIRST * 8);
        assert_eq!(delay(200, u32::MAX), LONGEST);
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            backoff.next();
        }
        assert!(backoff.next() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
