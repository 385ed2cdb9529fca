//! A budget that fills up again as time passes.

use std::time::{Duration, Instant};

/// So many units at once, and so many a second from then on. What is spent beyond is owed, and comes back first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// What one unit takes to come back.
    each: Duration,
    /// What all of it takes to come back.
    all: Duration,
    /// When all of it will be there, if no more is spent.
    whole_at: Instant,
}

impl Budget {
    /// Nothing of it is spent yet.
    pub(crate) fn new(at_once: u32, a_second: u32, now: Instant) -> Self {
        let each = Duration::from_secs(1) / a_second.max(1);
        Self { each, all: each.saturating_mul(at_once), whole_at: now }
    }

    /// Spends so many, whether they are there or not.
    pub(crate) fn spend(&mut self, units: u32, now: Instant) {
        self.whole_at = self.whole_at.max(now) + self.each.saturating_mul(units);
    }

    /// Forgives what is owed beyond so much time.
    pub(crate) fn forgive(&mut self, beyond: Duration, now: Instant) {
        self.whole_at = self.whole_at.min(now + self.all + beyond);
    }

    /// How long it takes until nothing is owed.
    pub(crate) fn owed(&self, now: Instant) -> Duration {
        self.whole_at.saturating_duration_since(now).saturating_sub(self.all)
    }

    /// When all of it will be there.
    pub(crate) fn whole_at(&self) -> Instant {
        self.whole_at
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Budget;

    #[test]
    fn what_is_there_can_be_spent_at_once_and_comes_back() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut budget = Budget::new(10, 100, start);
        budget.spend(10, start);
        assert_eq!(budget.owed(start), Duration::ZERO, "all of it");
        budget.spend(1, start);
        assert_eq!(budget.owed(start), Duration::from_millis(10), "one more is owed");
        assert_eq!(budget.owed(after(9)), Duration::from_millis(1));
        assert_eq!(budget.owed(after(10)), Duration::ZERO);
        budget.spend(1, after(20));
        assert_eq!(budget.owed(after(20)), Duration::ZERO, "one had come back");
        budget.spend(10, after(1_000_000));
        assert_eq!(budget.owed(after(1_000_000)), Duration::ZERO, "never more than all of it is saved up");
        budget.spend(1, after(1_000_000));
        assert!(budget.owed(after(1_000_000)) > Duration::ZERO);
    }

    #[test]
    fn debt_can_be_bounded() {
        let start = Instant::now();
        let mut budget = Budget::new(10, 100, start);
        budget.spend(u32::MAX, start);
        budget.forgive(Duration::from_secs(1), start);
        assert_eq!(budget.owed(start), Duration::from_secs(1));
    }

    #[test]
    fn without_a_bound_nothing_is_ever_owed() {
        let start = Instant::now();
        let mut budget = Budget::new(u32::MAX, u32::MAX, start);
        for _ in 0..1000 {
            budget.spend(1_000_000, start);
        }
        assert_eq!(budget.owed(start), Duration::ZERO);
    }
}
