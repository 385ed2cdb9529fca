//! `cargo xtask storm`: millions of short-lived processes, and whether memory stays what it is.
//!
//! Processes are forked as fast as one program can, while procmond listens to the kernel and the agent stores what it tells. The
//! storm fails when either has over a twentieth more memory after all forks than after the first quarter, or when events are
//! missing that no gap counts.

use super::table::{Table, mb};
use super::usage::Usage;
use super::{from_profile, note};
use crate::interrupt::Interrupt;
use crate::programs;
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;
use testkit::{Child, Failure, Monitor, Site, workspace_root};

/// In the store's place is not what this is about.
const MAX_STORE_BYTES: u64 = 64 << 20;
/// A round of forks may take so long.
const ROUND: Duration = Duration::from_secs(3600);
/// How long the last events may be on their way.
const PATIENCE: Duration = Duration::from_secs(600);

const FORKS: &str =
    "my $left = shift; while ($left-- > 0) { my $pid = fork // die; exit 0 unless $pid; waitpid $pid, 0 }";
/// The end of the process that made the forks, which comes behind all of them.
const LAST: &str = "SELECT count(*) AS n FROM processes.events WHERE event_type = 'exit' AND pid = ";
const LOST: &str = "SELECT coalesce(sum(count), 0) AS n FROM system.gaps WHERE kind <> 'retention'";

/// How many, and with which programs.
pub(crate) struct Storm {
    pub(crate) forks: u64,
    pub(crate) profile: String,
    /// Whether to build them first.
    pub(crate) build: bool,
}

pub(crate) fn run(storm: &Storm, out: &mut impl Write) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| Failure::new(format!("cannot write: {error}"));
    if storm.build {
        programs::build(Some(&storm.profile))?;
    }
    if !programs::is_built_in(&storm.profile)? {
        return Err(from_profile(&storm.profile, &["storm", "--forks", &storm.forks.to_string()])?);
    }
    let interrupt = Interrupt::watch()?;
    let config = format!("[agent]\nmax_store_bytes = {MAX_STORE_BYTES}\n");
    let site = Site::new()?.with_rules(&workspace_root().join("rules")).with_config(&config)?.seeing_by("auto");
    let mut monitor = Monitor::start(site)?;
    let pid = |name: &str| {
        monitor.site().pid_of(name).ok_or_else(|| Failure::new(format!("no {name} runs:\n{}", monitor.log())))
    };
    let [agent, procmond] = [pid("daemoneye-agent")?, pid("procmond")?];
    let quarter = storm.forks / 4;
    note(&format!("{} forks", storm.forks));
    let mut table = Table::new(&["forks", "procmond", "its CPU", "agent", "its CPU", "not told, and counted"]);
    let mut resident = Vec::new();
    let accounted = |monitor: &Monitor| Ok::<_, Failure>(stored(monitor)? + count(monitor, LOST)?);
    for round in 1..=4 {
        let before = accounted(&monitor)?;
        let mut command = Command::new("perl");
        command.args(["-e", FORKS, &quarter.to_string()]).stdin(Stdio::null());
        let mut forks = Child::spawn(command)?;
        interrupt.wait(ROUND, || forks.exited())?;
        let last = format!("{LAST}{}", forks.pid());
        interrupt.wait(PATIENCE, || Ok((count(&monitor, &last)? > 0).then_some(())))?;
        let (of_procmond, of_agent) = (Usage::of(procmond)?, Usage::of(agent)?);
        table.row([
            (quarter * round).to_string(),
            mb(of_procmond.resident),
            format!("{:.1} s", of_procmond.cpu.as_secs_f64()),
            mb(of_agent.resident),
            format!("{:.1} s", of_agent.cpu.as_secs_f64()),
            count(&monitor, LOST)?.to_string(),
        ]);
        resident.push([of_procmond.resident, of_agent.resident]);
        // A fork and an exit each; what else goes on on this host comes on top.
        let (happened, told) = (2 * quarter, accounted(&monitor)?.saturating_sub(before));
        if told < happened {
            return Err(Failure::new(format!(
                "of {happened} events at least, {told} were told or counted as lost: {} are missing",
                happened - told
            )));
        }
    }
    writeln!(out, "\n{table}").map_err(wrong)?;
    monitor.stop()?;
    let (Some(first), Some(last)) = (resident.first(), resident.last()) else { return Ok(()) };
    for ((name, first), last) in ["procmond", "the agent"].into_iter().zip(first).zip(last) {
        let growth = (*last as f64 / *first as f64 - 1.0) * 100.0;
        writeln!(out, "From the first quarter to the last the memory of {name} changed by {growth:+.1} %.")
            .map_err(wrong)?;
        if growth > 5.0 {
            return Err(Failure::new(format!("the memory of {name} grows")));
        }
    }
    Ok(())
}

/// Events that were stored since the agent began, also those that retention has removed since.
fn stored(monitor: &Monitor) -> Result<u64, Failure> {
    let text = monitor.cli(&["metrics"])?.stdout;
    let line =
        text.lines().find_map(|line| line.strip_prefix("daemoneye_events_stored_total{collector=\"procmond\"} "));
    line.and_then(|number| number.parse().ok()).ok_or_else(|| Failure::new("metrics do not tell of procmond's events"))
}

fn count(monitor: &Monitor, sql: &str) -> Result<u64, Failure> {
    let rows = monitor.rows(&["query", sql])?;
    Ok(rows.first().and_then(|row| row.get("n")).and_then(Value::as_u64).unwrap_or_default())
}
