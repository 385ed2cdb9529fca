//! How long after its exec the alert about a program is read from the agent's standard output, while others are started.

use super::{Bench, Rate, daemoneye};
use crate::measure::listened::{Listened, alert_on};
use crate::measure::wait;
use daemoneye_lib::models::time;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use testkit::Failure;

/// Starts a second beside those that the rule matches.
pub(super) const RATE: u32 = 100;
/// Programs that the rule matches are started so far apart, and a little more or less, lest they keep step with anything.
const APART: Duration = Duration::from_millis(100);
const JITTER: [u32; 7] = [0, 13, 5, 29, 2, 17, 37];
/// An alert that is not there by then does not come.
const LAST_ONE: Duration = Duration::from_secs(20);
const CONFIG: &str = "[sinks.measured]\ntype = \"stdout\"\nformat = \"jsonl\"\n";
/// The shipped rule that the programs match; it takes each file for another alert.
const RULE: &str = "linux-hidden-executable-in-temp";

/// How many alerts there should have been, and how long those took that came.
pub(super) struct Latencies {
    pub(super) asked: u32,
    pub(super) times: Vec<Duration>,
}

impl Bench<'_> {
    pub(super) fn alerts(&self) -> Result<Latencies, Failure> {
        let site = daemoneye::site(self.programs.as_deref())?.with_config(CONFIG)?;
        let agent = Listened::start(site, self.interrupt)?;
        self.interrupt.idle(Duration::from_secs(5))?;
        let asked = self.options.alerts;
        // Some longer than the programs need, so that none of them is without company.
        let seconds = (APART * 2 * asked).as_secs() + 2;
        let rate = NonZeroU32::new(RATE).map_or(Rate::Full, Rate::Fixed);
        let _load = self.spawn_load(&self.next_run(), rate, u32::try_from(seconds).unwrap_or(u32::MAX))?;
        let mut started = BTreeMap::new();
        let mut times = Vec::new();
        for (number, jitter) in (0..asked).zip(JITTER.into_iter().cycle()) {
            let (pid, at) = start_hidden(agent.site().root(), number)?;
            started.insert(pid, at);
            let next = Instant::now() + APART + Duration::from_millis(u64::from(jitter));
            while let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                self.interrupt.check()?;
                take(&agent, left, &mut started, &mut times)?;
            }
        }
        let last = Instant::now() + LAST_ONE;
        wait("the last alerts", self.interrupt, || {
            take(&agent, APART, &mut started, &mut times)?;
            Ok((started.is_empty() || Instant::now() > last).then_some(()))
        })?;
        Ok(Latencies { asked, times })
    }
}

/// Takes the next line, should it come in time, and if it is an alert about one of them, how long it took.
fn take(
    agent: &Listened,
    within: Duration,
    started: &mut BTreeMap<u32, i64>,
    times: &mut Vec<Duration>,
) -> Result<(), Failure> {
    let Some((read, line)) = agent.line(within)? else { return Ok(()) };
    let about = started.keys().copied().find(|pid| alert_on(&line, RULE, *pid).is_some());
    if let Some(at) = about.and_then(|pid| started.remove(&pid)) {
        times.push(Duration::from_nanos(u64::try_from(read - at).unwrap_or(0)));
    }
    Ok(())
}

/// Runs a program whose name is hidden and that nobody has run yet, to its end. The time is that before its start.
fn start_hidden(dir: &Path, number: u32) -> Result<(u32, i64), Failure> {
    let (original, hidden) = (dir.join("program"), dir.join(format!(".{number}")));
    let failed = |error: std::io::Error| Failure::new(format!("cannot run {}: {error}", hidden.display()));
    if !original.exists() {
        std::fs::copy(super::PROGRAM, &original).map_err(failed)?;
    }
    std::fs::hard_link(&original, &hidden).map_err(failed)?;
    let at = time::now_ns();
    let mut process = Command::new(&hidden).stdout(Stdio::null()).spawn().map_err(failed)?;
    process.wait().map_err(failed)?;
    Ok((process.id(), at))
}
