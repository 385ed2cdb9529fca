//! Where the time goes for one event: from the start of a process to the line about it on the agent's stdout.
//!
//! Each stage ends with a time that one of the programs has noted, in a column or in a debug log; all of them are of the
//! host's clock. Processes start at moments spread evenly over the scan interval, because what follows an alert
//! immediately always waits for a whole one.

use super::listened::{Listened, alert_on};
use super::table::{Table, ms, percentile};
use super::wait;
use crate::demo::SLEEP_VERB;
use crate::interrupt::Interrupt;
use crate::programs;
use daemoneye_lib::models::time;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use testkit::{Child, Failure, Site, workspace_root};

/// Held however much the scans cost; the starts are spread over it.
const INTERVAL: Duration = Duration::from_secs(1);
const CONFIG: &str = r#"
[app]
scan_interval_ms = 1000
max_scan_cpu = 100.0
log_level = "debug"
log_format = "json"
[sinks.measured]
type = "stdout"
format = "jsonl"
"#;
/// The shipped rule that the processes match; it takes each file for another alert.
const RULE: &str = "linux-hidden-executable-in-temp";

/// What ends at each moment of an event's way.
const STAGES: [&str; 6] = [
    "the scan sees the process",
    "procmond has spooled the event and publishes it",
    "the agent has stored it",
    "the rule has found it",
    "the alert is stored and goes to its sink",
    "the line has been read from the agent's stdout",
];

/// The moments: the process's start, then the end of each stage.
type Way = [i64; STAGES.len() + 1];

pub(super) fn measure(alerts: u32, interrupt: &Interrupt) -> Result<Table, Failure> {
    let agent = Agent::start(interrupt)?;
    let mut told = Vec::new();
    for number in 0..alerts {
        interrupt.idle(INTERVAL * number / alerts)?;
        told.push(agent.alert_on_new_process(number, interrupt)?);
    }
    let ways = agent.ways(&told)?;

    let mut table = Table::new(&[&format!("until … ({alerts} processes, a scan each second)"), "median", "p99"]);
    for (index, stage) in STAGES.iter().enumerate() {
        table.row(spread(stage, &ways, index, index + 1));
    }
    table.row(spread("in all, since the start of the process", &ways, 0, STAGES.len()));
    table.row(spread("in all, since the scan saw it", &ways, 1, STAGES.len()));
    Ok(table)
}

fn spread(what: &str, ways: &[Way], from: usize, to: usize) -> [String; 3] {
    let nanoseconds = |way: &Way| Duration::from_nanos(u64::try_from(way[to] - way[from]).unwrap_or(0));
    let times: Vec<_> = ways.iter().map(nanoseconds).collect();
    [what.to_owned(), ms(percentile(&times, 50)), ms(percentile(&times, 99))]
}

/// An alert as it came out of the agent.
struct Told {
    started: i64,
    read: i64,
    alert: Value,
    /// When its rule matched lately: asked at once, because only the newest runs are kept.
    runs: Vec<i64>,
}

/// The agent that tells of them.
struct Agent(Listened);

impl Agent {
    fn start(interrupt: &Interrupt) -> Result<Self, Failure> {
        let site = Site::new()?.with_rules(&workspace_root().join("rules")).with_config(CONFIG)?;
        Listened::start(site, interrupt).map(Self)
    }

    /// Starts a process whose file nobody has run yet, and waits for the line about it.
    fn alert_on_new_process(&self, number: u32, interrupt: &Interrupt) -> Result<Told, Failure> {
        let mut command = Command::new(hidden_program(self.0.site().root(), number)?);
        command.args([SLEEP_VERB, "600"]);
        let process = Child::spawn(command)?;
        let started = time::now_ns();
        let (read, alert) = wait("an alert", interrupt, || {
            let line = self.0.line(Duration::from_millis(100))?;
            Ok(line.and_then(|(read, line)| alert_on(&line, RULE, process.pid()).map(|alert| (read, alert))))
        })?;
        let runs =
            self.0.rows(&format!("SELECT run_time FROM detection.runs WHERE rule_id = '{RULE}' AND matches > 0"))?;
        Ok(Told { started, read, alert, runs: runs.iter().filter_map(|run| moment(run, "run_time")).collect() })
    }

    /// The way of each alert's event, pieced together from what the programs have noted by now.
    fn ways(&self, told: &[Told]) -> Result<Vec<Way>, Failure> {
        let log: Vec<Value> = self.0.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let seen = self.0.rows("SELECT event_id, event_time FROM processes.events WHERE event_type = 'seen'")?;
        let way = |told: &Told| {
            let event_id = told.alert.get("event_ids")?.get(0)?.as_str()?;
            let (epoch, sequence) = event_id.rsplit_once('-')?;
            let sequence: u64 = sequence.parse().ok()?;
            let seen = seen.iter().find(|row| text(row, "event_id") == event_id)?;
            let logged = |message: &str, is_it: &dyn Fn(&Value) -> bool| {
                let line = log.iter().find(|line| text(line, "message") == message && is_it(line))?;
                moment(line, "timestamp")
            };
            let published = logged("published", &|line| {
                let (first, count) = (number(line, "first"), number(line, "count"));
                text(line, "epoch") == epoch && (first..first + count).contains(&sequence)
            })?;
            let stored =
                logged("committed", &|line| text(line, "epoch") == epoch && number(line, "through") >= sequence)?;
            let handed = logged("delivering", &|line| text(line, "alert") == text(&told.alert, "alert_id"))?;
            let evaluated = told.runs.iter().copied().find(|run| (stored..=handed).contains(run))?;
            Some([told.started, moment(seen, "event_time")?, published, stored, evaluated, handed, told.read])
        };
        let all = told.iter().map(|told| {
            way(told)
                .ok_or_else(|| Failure::new(format!("its way cannot be followed: {}\n{}", told.alert, self.0.log())))
        });
        all.collect()
    }
}

/// This program under a hidden name that no other process has.
fn hidden_program(dir: &Path, number: u32) -> Result<PathBuf, Failure> {
    let (original, path) = (dir.join("idle"), dir.join(format!(".{number}")));
    if !original.exists() {
        programs::copy_of_this(&original)?;
    }
    std::fs::hard_link(&original, &path)
        .map_err(|error| Failure::new(format!("cannot link this program to {}: {error}", path.display())))?;
    Ok(path)
}

fn moment(row: &Value, column: &str) -> Option<i64> {
    time::parse(text(row, column))
}

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

fn number(row: &Value, column: &str) -> u64 {
    row.get(column).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_the_time_between_two_moments() {
        let ways = [[0, 500, 501, 510, 511, 515, 520].map(|ms| ms * 1_000_000); 3];
        assert_eq!(spread("stored", &ways, 2, 3), ["stored", "9.00 ms", "9.00 ms"]);
        assert_eq!(spread("all", &ways, 0, STAGES.len()), ["all", "520 ms", "520 ms"]);
    }
}
