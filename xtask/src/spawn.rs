//! `cargo xtask spawn`: a load of short-lived processes, at a fixed rate or as fast as this host starts them.
//!
//! The schedule is open: the start with number N is due N intervals after the first, whatever became of those before. One
//! that comes late is counted as late and made up for, so that a host which stumbles is not asked for less. Each start has
//! an argument of its own, `RUN.N`, by which whoever watched can be asked for each.
//!
//! The program is started as most programs start others (`posix_spawn`), by threads that wait for its end each: so many
//! processes run at a time at the most, and none is left behind.

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use testkit::Failure;

/// Processes that run at a time, at the most.
const AT_A_TIME: usize = 16;
/// At full speed, for each processor: one is being started while another runs.
const AT_A_TIME_AND_PROCESSOR: usize = 2;

/// What is started, how often and for how long.
pub(crate) struct Load {
    /// What each start's own argument begins with.
    pub(crate) run: String,
    /// Starts in a second; `None` for as many as there can be.
    pub(crate) rate: Option<NonZeroU32>,
    pub(crate) seconds: u32,
    pub(crate) program: PathBuf,
}

/// What came of it.
#[derive(Default)]
struct Tally {
    spawned: u64,
    /// Began when the next one was due already.
    late: u64,
    worst: Duration,
}

/// Starts it all and prints what came of it as one line of JSON.
pub(crate) fn run(load: &Load, out: &mut impl Write) -> Result<(), Failure> {
    let used = || Ok::<_, Failure>((used_by(UsageWho::RUSAGE_SELF)?, used_by(UsageWho::RUSAGE_CHILDREN)?));
    let before = used()?;
    let began = Instant::now();
    let tally = load.start_all(began)?;
    let duration = began.elapsed();
    let after = used()?;
    let told = json!({
        "run": load.run,
        "rate": load.rate,
        "spawned": tally.spawned,
        "late": tally.late,
        "left_out": load.due().map_or(0, |due| due.saturating_sub(tally.spawned)),
        "worst_late_us": micros(tally.worst),
        "duration_us": micros(duration),
        "own_cpu_us": micros(after.0.saturating_sub(before.0)),
        "children_cpu_us": micros(after.1.saturating_sub(before.1)),
    });
    writeln!(out, "{told}").map_err(|error| Failure::new(format!("cannot write: {error}")))
}

impl Load {
    /// How many starts there are to be.
    fn due(&self) -> Option<u64> {
        self.rate.map(|rate| u64::from(rate.get()) * u64::from(self.seconds))
    }

    fn start_all(&self, began: Instant) -> Result<Tally, Failure> {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
        let threads = if self.rate.is_some() { AT_A_TIME } else { processors * AT_A_TIME_AND_PROCESSOR };
        let next = AtomicU64::new(0);
        let tallies: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.start_some(began, &next))).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        let mut all = Tally::default();
        for tally in tallies {
            let tally = tally.map_err(|_| Failure::new("a thread that starts processes has panicked"))?;
            let tally =
                tally.map_err(|error| Failure::new(format!("cannot start {}: {error}", self.program.display())))?;
            all.spawned += tally.spawned;
            all.late += tally.late;
            all.worst = all.worst.max(tally.worst);
        }
        Ok(all)
    }

    /// One thread's part: the next number that nobody has taken, again and again.
    fn start_some(&self, began: Instant, next: &AtomicU64) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let time = Duration::from_secs(u64::from(self.seconds));
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if let (Some(rate), Some(due)) = (self.rate, self.due()) {
                // A host that needs twice the time for it is given up.
                if number >= due || began.elapsed() > time * 2 {
                    return Ok(tally);
                }
                let at = Duration::from_secs(number) / rate.get();
                std::thread::sleep(at.saturating_sub(began.elapsed()));
                let late = began.elapsed().saturating_sub(at);
                tally.late += u64::from(late > Duration::from_secs(1) / rate.get());
                tally.worst = tally.worst.max(late);
            } else if began.elapsed() >= time {
                return Ok(tally);
            }
            let mut command = Command::new(&self.program);
            command.arg(format!("{}.{number}", self.run)).stdout(Stdio::null());
            command.status()?;
            tally.spawned += 1;
        }
    }
}

fn used_by(who: UsageWho) -> Result<Duration, Failure> {
    let usage = getrusage(who).map_err(|error| Failure::new(format!("cannot read the use of {who:?}: {error}")))?;
    let micros = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().unsigned_abs()) + Duration::from_micros(time.tv_usec().unsigned_abs())
    };
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
