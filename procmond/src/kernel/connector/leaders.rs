//! Ends of first threads, which are not always those of their processes: a process goes on while another of its threads does,
//! and so does one in which another thread runs a program, which takes the first one's place.
//!
//! What the connector tells is the end of each thread. So `/proc/PID/stat` is looked at when a first thread has ended, and where
//! there are others the end waits for theirs. Of a process that `/proc` hides nothing can be looked at: its first thread's end
//! counts as its own.

use crate::kernel::{Act, Noticed};
use crate::procfs::stat;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// So many ends wait; that of another one is left to scans, which miss it.
const MAX_WAITING: usize = 256;
/// A thread's end is told before it is seen in `/proc`: who waits is looked at so often, whatever is told.
const AGAIN: Duration = Duration::from_millis(100);

/// The processes whose first thread has ended, and which have others.
pub(super) struct Leaders {
    waiting: HashMap<u32, Waiting>,
    looked: Instant,
    ticks_per_second: u64,
}

/// A process whose end waits.
struct Waiting {
    /// When a thread of it was last told to have ended, and with which status.
    last: (u64, i32),
    /// How the first one ended.
    first: i32,
    /// One has ended since it was looked at.
    is_due: bool,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Its first thread has ended, or is about to.
    ending: bool,
    threads: u32,
    start_ticks: u64,
}

impl Standing {
    /// Of the process with this pid; `None` when it is gone.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let line = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let (stat, threads) = (stat::parse(&line)?, stat::threads(&line)?);
        Some(Self { ending: stat.is_ending(), threads, start_ticks: stat.start_ticks })
    }
}

/// What has become of a process whose first thread has ended.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Ended,
    /// Other threads of it are there.
    GoesOn,
    /// Another thread has taken the place of the first.
    Replaced,
}

impl Leaders {
    pub(super) fn new(ticks_per_second: u64) -> Self {
        Self { waiting: HashMap::new(), looked: Instant::now(), ticks_per_second: ticks_per_second.max(1) }
    }

    /// The first thread of a process has ended; the end of the process, if that is it.
    pub(super) fn ended(&mut self, pid: u32, at: u64, status: i32, look: Option<Standing>) -> Option<Noticed> {
        self.waiting.remove(&pid);
        match self.fate(at, look) {
            Fate::Ended => return Some(Noticed { at, pid, act: Act::Exit { status } }),
            Fate::GoesOn if self.waiting.len() < MAX_WAITING => {
                self.waiting.insert(pid, Waiting { last: (at, 0), first: status, is_due: false });
            }
            Fate::GoesOn | Fate::Replaced => {}
        }
        None
    }

    /// Another thread has ended.
    pub(super) fn another(&mut self, pid: u32, at: u64, status: i32) {
        if let Some(waiting) = self.waiting.get_mut(&pid) {
            (waiting.last, waiting.is_due) = ((at, status), true);
        }
    }

    /// The process runs a program, in whichever of its threads there is.
    pub(super) fn executed(&mut self, pid: u32) {
        self.waiting.remove(&pid);
    }

    /// The ends that have come about.
    pub(super) fn due(&mut self, now: Instant, look: impl Fn(u32) -> Option<Standing>) -> Vec<Noticed> {
        let all = now.saturating_duration_since(self.looked) >= AGAIN;
        if all {
            self.looked = now;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut ends = Vec::new();
        waiting.retain(|pid, waiting| {
            if !all && !waiting.is_due {
                return true;
            }
            waiting.is_due = false;
            let fate = self.fate(waiting.last.0, look(*pid));
            if fate == Fate::Ended {
                let (at, last) = waiting.last;
                // Who ends the whole process ends its last thread with that status; a thread that only returns has none.
                let status = if last == 0 { waiting.first } else { last };
                ends.push(Noticed { at, pid: *pid, act: Act::Exit { status } });
            }
            fate == Fate::GoesOn
        });
        self.waiting = waiting;
        ends.sort_unstable_by_key(|end| end.at);
        ends
    }

    fn fate(&self, at: u64, look: Option<Standing>) -> Fate {
        let ticks = u128::from(at) * u128::from(self.ticks_per_second) / 1_000_000_000;
        match look {
            None => Fate::Ended,
            // Somebody else has the pid.
            Some(standing) if u128::from(standing.start_ticks) > ticks => Fate::Ended,
            Some(Standing { ending: false, .. }) => Fate::Replaced,
            Some(standing) if standing.threads > 1 => Fate::GoesOn,
            Some(_) => Fate::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn standing(ending: bool, threads: u32) -> Option<Standing> {
        Some(Standing { ending, threads, start_ticks: 100 })
    }

    fn exit(pid: u32, at: u64, status: i32) -> Noticed {
        Noticed { at, pid, act: Act::Exit { status } }
    }

    #[test]
    fn the_end_of_the_only_thread_is_that_of_the_process() {
        let mut leaders = Leaders::new(100);
        for look in [None, standing(true, 1), Some(Standing { ending: false, threads: 9, start_ticks: 301 })] {
            assert_eq!(leaders.ended(7, 3 * SECOND, 256, look), Some(exit(7, 3 * SECOND, 256)), "{look:?}");
        }
    }

    #[test]
    fn a_process_ends_with_its_last_thread() {
        for (last, expected) in [(0, 512), (768, 768)] {
            let mut leaders = Leaders::new(100);
            let now = leaders.looked;
            assert_eq!(leaders.ended(7, 3 * SECOND, 512, standing(true, 3)), None);
            assert_eq!(leaders.due(now, |pid| panic!("nothing was told of {pid}")), []);
            leaders.another(7, 4 * SECOND, 0);
            leaders.another(8, 4 * SECOND, 0);
            assert_eq!(leaders.due(now, |_| standing(true, 2)), []);
            leaders.another(7, 5 * SECOND, last);
            assert_eq!(leaders.due(now, |_| standing(true, 1)), [exit(7, 5 * SECOND, expected)]);
            assert_eq!(leaders.due(now + AGAIN, |pid| panic!("{pid} has ended")), []);
        }
    }

    #[test]
    fn who_waits_is_looked_at_again_though_nothing_is_told() {
        let mut leaders = Leaders::new(100);
        let now = leaders.looked;
        assert_eq!(leaders.ended(7, 3 * SECOND, 9, standing(true, 2)), None);
        assert_eq!(leaders.due(now + AGAIN / 2, |pid| panic!("{pid} is looked at later")), []);
        assert_eq!(leaders.due(now + AGAIN, |_| None), [exit(7, 3 * SECOND, 9)]);
    }

    #[test]
    fn a_process_in_which_another_thread_runs_a_program_goes_on() {
        let mut leaders = Leaders::new(100);
        let now = leaders.looked;
        assert_eq!(leaders.ended(7, 3 * SECOND, 0, standing(false, 1)), None, "it has already taken the place");
        assert_eq!(leaders.ended(8, 3 * SECOND, 0, standing(true, 2)), None);
        leaders.executed(8);
        assert_eq!(leaders.ended(9, 3 * SECOND, 0, standing(true, 2)), None);
        assert_eq!(leaders.due(now + AGAIN, |_| standing(false, 1)), []);
        assert_eq!(leaders.due(now + 2 * AGAIN, |pid| panic!("{pid} goes on")), []);
    }

    #[test]
    fn ends_that_wait_are_bounded() {
        let mut leaders = Leaders::new(100);
        for pid in 0..1000 {
            assert_eq!(leaders.ended(pid, 3 * SECOND, 0, standing(true, 2)), None);
        }
        assert_eq!(leaders.waiting.len(), MAX_WAITING);
    }

    #[test]
    fn this_process_goes_on() {
        let own = Standing::of(std::process::id()).unwrap();
        assert!(!own.ending && own.threads > 1, "{own:?}");
        assert_eq!(Standing::of(u32::MAX), None);
    }
}
