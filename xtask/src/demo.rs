//! `cargo xtask demo`: the whole line at work in a temporary place, each step checked and told.
//!
//! What it refuses to trust: the pid and the process key that an alert must carry are taken from the kernel, not from the
//! programs. What it starts ends with it: the agent, its collector and the suspicious program.

use crate::interrupt::Interrupt;
use crate::programs;
use daemoneye_lib::models::key::process_key;
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::{Child, Failure, Monitor, Site, start_ticks, workspace_root};

/// The verb under which this program plays the suspicious one: a copy of itself runs on every host, a copy of the host's
/// `sleep` does not where that is one program of many names.
pub(crate) const SLEEP_VERB: &str = "__sleep";

/// One scan interval is promised; the rest is for a machine that is busy with building.
const ALERT_LIMIT: Duration = Duration::from_secs(10);

const COMPONENTS: [&str; 4] = ["agent", "store", "rules", "collector"];

pub(crate) fn run(
    build: bool,
    watch_for: Duration,
    rules_dir: Option<PathBuf>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if build {
        programs::build(None)?;
    }
    let rules_dir = rules_dir.unwrap_or_else(|| workspace_root().join("rules"));
    let rules_dir = rules_dir
        .canonicalize()
        .map_err(|error| Failure::new(format!("no rules directory {}: {error}", rules_dir.display())))?;
    let interrupt = Interrupt::watch()?;
    let mut steps = Steps { out, interrupt };
    let begun = Instant::now();

    let mut monitor = Monitor::spawn(Site::new()?.with_rules(&rules_dir).seeing_by("auto"))?;
    steps.wait("the agent runs and the first scan is stored", Duration::from_secs(60), || ready(&mut monitor))?;
    let procmond = monitor.procmond_pid();
    steps.check("procmond runs", procmond.ok_or_else(|| Failure::new("no process of that name")))?;

    let suspect = start_suspect(monitor.site())?;
    let key = key_of(suspect.pid())?;
    let alert = steps.wait("an alert carries the pid of the suspicious program", ALERT_LIMIT, || {
        Ok(alerts_on(&monitor, suspect.pid())?.into_iter().next())
    })?;
    let carried = text(&alert, "process_key");
    steps.check("the alert carries its process key", same("process_key", carried, &key))?;
    steps.check("a query by that key finds it", found_by_key(&monitor, &key, suspect.pid()))?;

    steps.interrupt.idle(watch_for.saturating_sub(begun.elapsed()))?;
    steps.check("it caused one alert and no more", one_alert(&monitor, suspect.pid()))?;
    steps.check("procmond still runs, and it is the same one", same("pid", monitor.procmond_pid(), procmond))?;
    steps.check("nothing was missed, apart from what this host cannot show", no_gaps(&monitor))?;
    steps.check("health is right", healthy(&monitor))?;
    steps.check("the agent ends within three seconds of SIGTERM, and its collector with it", monitor.stop())?;
    Ok(())
}

/// Tells each step as it passes; the first that does not ends the demo.
struct Steps<'a, W> {
    out: &'a mut W,
    interrupt: Interrupt,
}

impl<W: Write> Steps<'_, W> {
    fn check<T>(&mut self, what: &str, outcome: Result<T, Failure>) -> Result<T, Failure> {
        self.interrupt.check()?;
        let value = outcome.map_err(|failure| Failure::new(format!("failed: {what}: {failure}")))?;
        writeln!(self.out, "ok: {what}").map_err(|error| Failure::new(format!("cannot write: {error}")))?;
        Ok(value)
    }

    fn wait<T>(
        &mut self,
        what: &str,
        limit: Duration,
        ask: impl FnMut() -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let answer = self.interrupt.wait(limit, ask);
        self.check(what, answer)
    }
}

fn ready(monitor: &mut Monitor) -> Result<Option<()>, Failure> {
    if let Some(status) = monitor.agent().exited()? {
        return Err(Failure::new(format!("the agent ended with {status}:\n{}", monitor.agent().stderr())));
    }
    Ok(matches!(monitor.cli(&["health"])?.status, 0 | 3).then_some(()))
}

/// Starts a harmless program whose file is hidden in a directory for temporary files.
fn start_suspect(site: &Site) -> Result<Child, Failure> {
    let path = site.root().join(".x");
    programs::copy_of_this(&path)?;
    let mut command = Command::new(&path);
    command.args([SLEEP_VERB, "600"]);
    Child::spawn(command)
}

fn key_of(pid: u32) -> Result<String, Failure> {
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    let boot_id =
        std::fs::read_to_string(BOOT_ID).map_err(|error| Failure::new(format!("cannot read {BOOT_ID}: {error}")))?;
    Ok(process_key(&boot_id, pid, start_ticks(pid)?))
}

fn alerts_on(monitor: &Monitor, pid: u32) -> Result<Vec<Value>, Failure> {
    let mut alerts = monitor.alerts()?;
    alerts.retain(|alert| alert.get("pid").and_then(Value::as_u64) == Some(u64::from(pid)));
    Ok(alerts)
}

fn one_alert(monitor: &Monitor, pid: u32) -> Result<(), Failure> {
    match alerts_on(monitor, pid)?.as_slice() {
        [_] => Ok(()),
        alerts => Err(Failure::new(format!("{} alerts: {alerts:?}", alerts.len()))),
    }
}

fn found_by_key(monitor: &Monitor, key: &str, pid: u32) -> Result<(), Failure> {
    const SQL: &str = "SELECT pid FROM processes WHERE process_key = ?";
    let rows = monitor.rows(&["query", SQL, "--param", key])?;
    let pids: Vec<_> = rows.iter().map(|row| row.get("pid").and_then(Value::as_u64)).collect();
    same("pids", pids, vec![Some(u64::from(pid))])
}

fn no_gaps(monitor: &Monitor) -> Result<(), Failure> {
    let gaps =
        monitor.rows(&["query", "SELECT * FROM system.gaps WHERE kind <> 'polling' AND kind NOT LIKE 'without%'"])?;
    if gaps.is_empty() { Ok(()) } else { Err(Failure::new(format!("{gaps:?}"))) }
}

fn healthy(monitor: &Monitor) -> Result<(), Failure> {
    let rows = monitor.rows(&["health"])?;
    for component in COMPONENTS {
        if !rows.iter().any(|row| text(row, "component").starts_with(component)) {
            return Err(Failure::new(format!("nothing about `{component}` in {rows:?}")));
        }
    }
    match rows.iter().find(|row| !is_well(row)) {
        Some(row) => Err(Failure::new(row.to_string())),
        None => Ok(()),
    }
}

/// Whether a component works as well as it can where processes are found by polling.
fn is_well(row: &Value) -> bool {
    match text(row, "status") {
        "ok" => true,
        "degraded" => text(row, "detail").contains("poll"),
        _ => false,
    }
}

fn same<A: PartialEq<B> + std::fmt::Debug, B: std::fmt::Debug>(what: &str, is: A, should: B) -> Result<(), Failure> {
    if is == should { Ok(()) } else { Err(Failure::new(format!("{what} is {is:?} and should be {should:?}"))) }
}

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_polling_excuses_a_degraded_component() {
        assert!(is_well(&json!({"component": "store", "status": "ok", "detail": ""})));
        assert!(is_well(&json!({"component": "collector", "status": "degraded", "detail": "mode poll: …"})));
        assert!(!is_well(&json!({"component": "collector", "status": "degraded", "detail": "restarted 3 times"})));
        assert!(!is_well(&json!({"component": "rules", "status": "failed", "detail": "poll"})));
        assert!(!is_well(&json!({})));
    }
}
