//! What processors did: for one process, for its threads that have ended too, and for the whole machine.

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use rustix::param::clock_ticks_per_second;
use std::time::{Duration, Instant};
use testkit::Failure;

/// What a process has used so far, to the nanosecond: its own clock, which `/proc` shows in ticks only. Threads of the
/// kernel have one too.
pub(super) fn used_by(pid: u32) -> Result<Duration, Failure> {
    let failed = |error: nix::Error| Failure::new(format!("cannot read the clock of process {pid}: {error}"));
    let id = i32::try_from(pid).map_err(|_| Failure::new(format!("{pid} is no pid")))?;
    let clock = clock_getcpuclockid(Pid::from_raw(id)).map_err(failed)?;
    Ok(Duration::from(clock_gettime(clock).map_err(failed)?))
}

/// A moment of the whole machine.
pub(super) struct Machine {
    at: Instant,
    processors: u32,
    /// For so long, all processors together, the machine did nothing, or its host had taken a processor away.
    idle: Duration,
}

impl Machine {
    pub(super) fn now() -> Result<Self, Failure> {
        const PATH: &str = "/proc/stat";
        let text = std::fs::read_to_string(PATH);
        let text = text.map_err(|error| Failure::new(format!("cannot read {PATH}: {error}")))?;
        let (processors, ticks) = parse(&text).ok_or_else(|| Failure::new(format!("{PATH} reads otherwise here")))?;
        let idle = Duration::from_millis(ticks.saturating_mul(1000) / clock_ticks_per_second().max(1));
        Ok(Self { at: Instant::now(), processors, idle })
    }

    /// Processor time that was used since then, by whomever. What is idle is measured by the kernel, what is used only
    /// sampled at its ticks, which short processes fall between: so it is what is left of the time that passed.
    pub(super) fn busy_since(&self, before: &Self) -> Duration {
        let passed = self.at.duration_since(before.at) * self.processors;
        passed.saturating_sub(self.idle.saturating_sub(before.idle))
    }

    pub(super) fn since(&self, before: &Self) -> Duration {
        self.at.duration_since(before.at)
    }
}

/// How many processors there are, and the ticks of `idle`, `iowait` and `steal` of them all (proc(5), `/proc/stat`).
fn parse(stat: &str) -> Option<(u32, u64)> {
    let mut lines = stat.lines();
    let all = lines.next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = all.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let processors = lines.take_while(|line| line.starts_with("cpu")).count();
    let of = |index: usize| ticks.get(index).copied();
    // Kernels before 2.6.11 have no `steal`.
    Some((u32::try_from(processors).ok().filter(|count| *count > 0)?, of(3)? + of(4)? + of(7).unwrap_or(0)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn what_is_idle_waiting_or_taken_away_is_not_used() {
        let stat = "cpu  100 1 50 1000 20 3 4 7 0 0\ncpu0 50 0 25 500 10 1 2 3 0 0\ncpu1 50 1 25 500 10 2 2 4 0 0\n\
                    intr 1 2 3\nctxt 5\n";
        assert_eq!(parse(stat), Some((2, 1027)));
        assert_eq!(parse("cpu 1 2 3 4 5\ncpu0 1 2 3 4 5\n"), Some((1, 9)));
        for broken in ["", "cpu", "cpu 1 2 x 4 5\ncpu0 1\n", "cpu  1 2 3 4 5 6 7 8\nintr 0\n", "intr 1\n"] {
            assert_eq!(parse(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn used_time_is_what_passed_without_what_was_idle() {
        let at = Instant::now();
        let before = Machine { at, processors: 2, idle: Duration::from_secs(5) };
        let after = Machine { at: at + Duration::from_secs(10), processors: 2, idle: Duration::from_secs(22) };
        assert_eq!(after.busy_since(&before), Duration::from_secs(3));
    }

    #[test]
    fn a_process_has_a_clock_that_goes_and_no_process_has_none() {
        let own = std::process::id();
        let before = used_by(own).unwrap();
        let digits: usize = (0..100_000_u32).map(|number| number.to_string().len()).sum();
        assert!(used_by(own).unwrap() > before, "{digits}");
        assert!(used_by(u32::MAX).is_err());
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        assert!(used_by(ended.id()).is_err());
        assert!(Machine::now().unwrap().processors > 0);
    }
}
