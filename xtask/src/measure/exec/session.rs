//! One watcher beside one task: what both have used meanwhile.

use super::cpu::Machine;
use super::watcher::{Kind, Watcher, resident, used_by};
use super::{Bench, Rate};
use crate::measure::wait;
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::{Child, Failure};

/// What a starting watcher does for a while is not what it costs later.
const SETTLING: Duration = Duration::from_secs(5);
/// It is over when the watcher uses less of a processor than this over some seconds: DaemonEye hashes what runs, to begin with.
const CALM: f64 = 0.03;
const CALM_OVER: Duration = Duration::from_secs(2);
const LONGEST_SETTLING: Duration = Duration::from_secs(60);
/// After a load a watcher is watched for so long at least, and until it has settled, and for so long at the most.
const TAIL: Duration = Duration::from_secs(2);
const LONGEST_TAIL: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(500);
/// What a watcher may use in a step, beyond twice what it uses at rest, that still is rest.
const UNREST: Duration = Duration::from_millis(10);
/// A start is captured when it is told at all; so long is waited for another one to be.
const LAST_ONE: Duration = Duration::from_secs(5);

/// Both, at a moment.
struct Meter {
    watcher: Duration,
    machine: Machine,
}

/// What was used for each second while nothing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rest {
    /// Of one processor.
    pub(super) watcher: f64,
    pub(super) machine: f64,
    pub(super) resident: u64,
}

/// What came of a load.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) spawned: u64,
    pub(super) late: u64,
    /// Starts of the plan that this host was too slow for.
    pub(super) left_out: u64,
    pub(super) duration: Duration,
    /// The watcher's processes.
    pub(super) watcher: Duration,
    /// The started processes and the one that started them: what the kernel does for a watcher while they run is theirs.
    pub(super) watched: Duration,
    /// Everything, whoever used it.
    pub(super) machine: Duration,
    pub(super) captured: u64,
    pub(super) lost: u64,
    pub(super) resident: u64,
    /// It was still at work when nobody waited any longer.
    pub(super) unfinished: bool,
}

impl Meter {
    fn read(watcher: &dyn Watcher) -> Result<Self, Failure> {
        Ok(Self { watcher: used_by(watcher)?, machine: Machine::now()? })
    }

    /// The watcher's and the machine's use, and the time.
    fn since(&self, before: &Self) -> (Duration, Duration, Duration) {
        let watcher = self.watcher.saturating_sub(before.watcher);
        (watcher, self.machine.busy_since(&before.machine), self.machine.since(&before.machine))
    }
}

impl Bench<'_> {
    /// Starts the watcher, waits until it tells what is started, and lets it settle.
    pub(super) fn begin(&self, kind: Kind) -> Result<Box<dyn Watcher>, Failure> {
        let watcher = kind.start(self.programs.as_deref(), self.interrupt)?;
        if kind != Kind::Nothing {
            let run = self.next_run();
            let mut number = 0;
            wait("the first start that it tells", self.interrupt, || {
                let own = format!("{run}.{number}");
                number += 1;
                let status = Command::new(super::PROGRAM).arg(own).status();
                status.map_err(|error| Failure::new(format!("cannot run {}: {error}", super::PROGRAM)))?;
                Ok((watcher.captured(&run)? > 0).then_some(()))
            })?;
        }
        self.interrupt.idle(SETTLING)?;
        let (began, mut last) = (Instant::now(), used_by(watcher.as_ref())?);
        while began.elapsed() < LONGEST_SETTLING {
            self.interrupt.idle(CALM_OVER)?;
            let now = used_by(watcher.as_ref())?;
            if now.saturating_sub(last) < CALM_OVER.mul_f64(CALM) {
                break;
            }
            last = now;
        }
        Ok(watcher)
    }

    /// What it uses while this does nothing.
    pub(super) fn rest(&self, watcher: &dyn Watcher) -> Result<Rest, Failure> {
        let before = Meter::read(watcher)?;
        self.interrupt.idle(self.time())?;
        let (watcher_used, machine, time) = Meter::read(watcher)?.since(&before);
        let for_each_second = |used: Duration| used.as_secs_f64() / time.as_secs_f64();
        Ok(Rest {
            watcher: for_each_second(watcher_used),
            machine: for_each_second(machine),
            resident: resident(watcher),
        })
    }

    /// What a load costs; what the watcher uses at rest is known.
    pub(super) fn load(&self, watcher: &dyn Watcher, rate: Rate, rest: &Rest) -> Result<Cost, Failure> {
        let run = self.next_run();
        let lost = watcher.lost()?;
        let before = Meter::read(watcher)?;
        let mut load = self.spawn_load(&run, rate, self.options.seconds)?;
        let told = self.end_of(&mut load)?;
        let after = Meter::read(watcher)?;
        let (end, unfinished) = self.tail(watcher, rest)?;
        let (watcher_used, machine, _) = end.since(&before);
        let tail = end.since(&after).2;
        let resident = resident(watcher);
        let spawned = told.number("spawned")?;
        Ok(Cost {
            spawned,
            late: told.number("late")?,
            left_out: told.number("left_out")?,
            duration: Duration::from_micros(told.number("duration_us")?),
            watcher: without(watcher_used, rest.watcher, tail),
            watched: Duration::from_micros(told.number("own_cpu_us")? + told.number("children_cpu_us")?),
            machine: without(machine, rest.machine, tail),
            captured: self.all_captured(watcher, &run, spawned)?,
            lost: watcher.lost()?.saturating_sub(lost),
            resident,
            unfinished,
        })
    }

    /// Starts the load as a process of its own.
    pub(super) fn spawn_load(&self, run: &str, rate: Rate, seconds: u32) -> Result<Child, Failure> {
        // Also when building has put another program in this one's place.
        let mut command = Command::new("/proc/self/exe");
        command.args(["spawn", "--run", run, "--seconds", &seconds.to_string()]);
        if let Rate::Fixed(rate) = rate {
            command.args(["--rate", &rate.to_string()]);
        }
        command.arg(super::PROGRAM);
        Child::spawn(command)
    }

    /// Waits for the load's end and reads what it says.
    pub(super) fn end_of(&self, load: &mut Child) -> Result<Told, Failure> {
        let limit = self.time() * 2 + LONGEST_TAIL;
        let status = self.interrupt.wait(limit, || load.exited())?;
        let said = load.stdout();
        match serde_json::from_str(said.trim()) {
            Ok(told) if status.success() => Ok(Told(told)),
            _ => Err(Failure::new(format!("the load ended with {status}: {said}{}", load.stderr()))),
        }
    }

    /// Watches until the watcher has nothing left to do.
    fn tail(&self, watcher: &dyn Watcher, rest: &Rest) -> Result<(Meter, bool), Failure> {
        let began = Instant::now();
        let mut last = used_by(watcher)?;
        loop {
            self.interrupt.idle(STEP)?;
            let now = used_by(watcher)?;
            let allowed = STEP.mul_f64(2.0 * rest.watcher) + UNREST;
            let quiet = now.saturating_sub(last) <= allowed;
            last = now;
            if quiet && began.elapsed() >= TAIL || began.elapsed() >= LONGEST_TAIL {
                return Ok((Meter::read(watcher)?, !quiet));
            }
        }
    }

    /// How many of them it tells in the end.
    fn all_captured(&self, watcher: &dyn Watcher, run: &str, spawned: u64) -> Result<u64, Failure> {
        let (mut most, mut since) = (watcher.captured(run)?, Instant::now());
        while most > 0 && most < spawned && since.elapsed() < LAST_ONE {
            self.interrupt.idle(STEP)?;
            let now = watcher.captured(run)?;
            if now > most {
                (most, since) = (now, Instant::now());
            }
        }
        Ok(most)
    }
}

/// What was used over a time, without what is used at rest in a part of it.
fn without(used: Duration, at_rest: f64, part: Duration) -> Duration {
    used.saturating_sub(part.mul_f64(at_rest))
}

/// What the load says of itself.
pub(super) struct Told(Value);

impl Told {
    pub(super) fn number(&self, name: &str) -> Result<u64, Failure> {
        let number = self.0.get(name).and_then(Value::as_u64);
        number.ok_or_else(|| Failure::new(format!("the load does not say {name}: {}", self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_tail_is_not_the_loads() {
        let [used, tail] = [Duration::from_millis(500), Duration::from_secs(4)];
        assert_eq!(without(used, 0.05, tail), Duration::from_millis(300));
        assert_eq!(without(used, 0.5, tail), Duration::ZERO);
    }
}
