//! Which processes' connections have failed so often of late that the next ones have to wait.
//!
//! Each connection that is turned away or cut off costs the process at its other end some of a budget. A process that has
//! used its budget up *owes*: the broker puts its further connections behind everybody else's. It is never shut out, because
//! a process is all that there is to tell peers apart by (whoever can reach the socket at all is the agent's own user or
//! root), and an honest part of it may come too. A process that starts others, to come as somebody else each time, pays for
//! those itself.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::budget::Budget;

/// What a connection costs that was turned away before it was let in, and one that waited because its process owed.
pub(crate) const TURNED_AWAY: u32 = 1;

/// What a connection costs that was let in and then cut off.
pub(crate) const CUT_OFF: u32 = 8;

/// The longest that a process owes after the last of its failures.
const MEMORY: Duration = Duration::from_secs(1);

/// Processes that are remembered. One more, and the one that owes least is forgotten.
const MAX_PROCESSES: usize = 1024;

/// Who has failed how often.
#[derive(Debug)]
pub(crate) struct Standing {
    at_once: u32,
    a_second: u32,
    /// By pid; those whose pid the system does not tell are one.
    processes: HashMap<Option<u32>, Budget>,
}

impl Standing {
    /// Each process may fail so often at once, and so often a second.
    pub(crate) fn new(at_once: u32, a_second: u32) -> Self {
        Self { at_once, a_second, processes: HashMap::new() }
    }

    /// Notes a failure that costs so much.
    pub(crate) fn blame(&mut self, process: Option<u32>, cost: u32, now: Instant) {
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&process) {
            self.processes.retain(|_, budget| budget.whole_at() > now);
            if self.processes.len() >= MAX_PROCESSES
                && let Some(least) =
                    self.processes.iter().min_by_key(|(_, budget)| budget.whole_at()).map(|(pid, _)| *pid)
            {
                self.processes.remove(&least);
            }
        }
        let budget = self.processes.entry(process).or_insert_with(|| Budget::new(self.at_once, self.a_second, now));
        budget.spend(cost, now);
        budget.forgive(MEMORY, now);
    }

    /// Whether a process has used its budget up.
    pub(crate) fn owes(&self, process: Option<u32>, now: Instant) -> bool {
        self.processes.get(&process).is_some_and(|budget| !budget.owed(now).is_zero())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{CUT_OFF, MAX_PROCESSES, MEMORY, Standing, TURNED_AWAY};

    #[test]
    fn a_process_owes_after_many_failures_and_for_a_short_time() {
        let start = Instant::now();
        let mut standing = Standing::new(16, 8);
        for _ in 0..16 {
            standing.blame(Some(7), TURNED_AWAY, start);
        }
        assert!(!standing.owes(Some(7), start));
        standing.blame(Some(7), TURNED_AWAY, start);
        assert!(standing.owes(Some(7), start));
        assert!(!standing.owes(Some(8), start) && !standing.owes(None, start), "nobody else");
        for _ in 0..1000 {
            standing.blame(Some(7), CUT_OFF, start);
        }
        assert!(standing.owes(Some(7), start + MEMORY - Duration::from_millis(1)));
        assert!(!standing.owes(Some(7), start + MEMORY));
    }

    #[test]
    fn those_that_owe_most_are_remembered_longest() {
        let start = Instant::now();
        let mut standing = Standing::new(4, 1);
        for _ in 0..5 {
            standing.blame(Some(1), TURNED_AWAY, start);
        }
        for pid in 2..10 * u32::try_from(MAX_PROCESSES).unwrap_or_default() {
            standing.blame(Some(pid), TURNED_AWAY, start);
        }
        assert!(standing.owes(Some(1), start));
        assert_eq!(standing.processes.len(), MAX_PROCESSES);
    }
}
