//! `cargo xtask soak`: the whole line under a steady load for minutes, and whether its memory stays what it is.
//!
//! A collector makes up events, an agent with the shipped rules stores and judges them, and its store is so small that retention
//! has to remove some after two minutes. Every minute the memory of both is read from the kernel. The soak fails when an event
//! was lost, when the agent fell behind, or when in the last minute it has over a twentieth more than in the third.

use super::table::{Table, mb};
use super::usage::Usage;
use super::{from_profile, note};
use crate::interrupt::Interrupt;
use crate::programs;
use serde_json::Value;
use std::io::Write;
use std::time::{Duration, Instant};
use testkit::{Failure, Monitor, Site, workspace_root};

const MINUTE: Duration = Duration::from_secs(60);
/// The minute whose memory the last one is compared with: the store is full, and everything has run.
const SETTLED: usize = 3;
const MAX_STORE_BYTES: u64 = 16 << 20;
/// How long after the last minute all events must be stored.
const PATIENCE: Duration = Duration::from_secs(20);

const NEWEST: &str = "SELECT max(event_time) AS newest FROM processes.events WHERE source = 'ebpf' AND event_time > datetime('now', '-2 minutes')";
const GAPS: &str = "SELECT kind, reason FROM system.gaps WHERE collector = 'load' AND kind <> 'retention'";

/// How long, how much, and with which programs.
pub(crate) struct Soak {
    pub(crate) rate: u64,
    pub(crate) minutes: usize,
    pub(crate) profile: String,
    /// Whether to build them first.
    pub(crate) build: bool,
}

pub(crate) fn run(soak: &Soak, out: &mut impl Write) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| Failure::new(format!("cannot write: {error}"));
    if soak.build {
        programs::build(Some(&soak.profile))?;
    }
    if !programs::is_built_in(&soak.profile)? {
        let arguments = [soak.rate.to_string(), soak.minutes.to_string()];
        let [rate, minutes] = arguments.each_ref().map(String::as_str);
        return Err(from_profile(&soak.profile, &["soak", "--rate", rate, "--minutes", minutes])?);
    }
    let interrupt = Interrupt::watch()?;
    let program = programs::in_profile(&soak.profile, "daemoneye-load")?;
    let config = format!(
        "[agent]\nmax_store_bytes = {MAX_STORE_BYTES}\n[collectors.load]\ncommand = [\"{}\"]\n[collectors.load.settings]\nrate = {}\n",
        program.display(),
        soak.rate
    );
    let site = Site::new()?.with_rules(&workspace_root().join("rules")).with_config(&config)?;
    let mut monitor = Monitor::start(site)?;
    let pid = |name: &str| {
        monitor.site().pid_of(name).ok_or_else(|| Failure::new(format!("no {name} runs:\n{}", monitor.log())))
    };
    let [agent, load] = [pid("daemoneye-agent")?, pid("daemoneye-load")?];
    note(&format!("{} events a second for {} minutes", soak.rate, soak.minutes));
    let mut table =
        Table::new(&["minute", "stored", "file", "agent (of it anonymous)", "its CPU", "collector", "behind"]);
    let (began, mut used) = (Instant::now(), Usage::of(agent)?);
    let mut resident = Vec::new();
    for minute in 1..=soak.minutes {
        interrupt.idle((MINUTE * u32::try_from(minute).unwrap_or(u32::MAX)).saturating_sub(began.elapsed()))?;
        let now = Usage::of(agent)?;
        let stored = monitor.rows(&["data", "stats"])?;
        table.row([
            minute.to_string(),
            sum(&stored, "rows", "processes.events").to_string(),
            mb(sum(&stored, "bytes", "the file")),
            format!("{} ({})", mb(now.resident), mb(now.anonymous)),
            format!("{:.1} %", (now.cpu - used.cpu).as_secs_f64() / MINUTE.as_secs_f64() * 100.0),
            mb(Usage::of(load)?.resident),
            behind(&monitor)?.map_or_else(|| "?".to_owned(), |behind| format!("{} ms", behind.as_millis())),
        ]);
        resident.push(now.resident);
        used = now;
    }
    writeln!(out, "\n{table}").map_err(wrong)?;
    interrupt
        .wait(PATIENCE, || Ok(behind(&monitor)?.filter(|behind| *behind < Duration::from_secs(2))))
        .map_err(|failure| Failure::new(format!("the agent fell behind: {failure}")))?;
    let gaps = monitor.rows(&["query", GAPS])?;
    monitor.stop()?;
    if !gaps.is_empty() {
        return Err(Failure::new(format!("something was lost: {gaps:?}")));
    }
    let (Some(settled), Some(last)) = (resident.get(SETTLED - 1), resident.last()) else { return Ok(()) };
    let growth = (*last as f64 / *settled as f64 - 1.0) * 100.0;
    writeln!(out, "From minute {SETTLED} to the last the agent's memory changed by {growth:+.1} %.").map_err(wrong)?;
    if growth > 5.0 { Err(Failure::new("the agent's memory grows")) } else { Ok(()) }
}

fn sum(rows: &[Value], column: &str, table: &str) -> u64 {
    let of = |row: &&Value| row.get("table").and_then(Value::as_str).is_some_and(|name| name.starts_with(table));
    rows.iter().filter(of).filter_map(|row| row.get(column).and_then(Value::as_u64)).sum()
}

/// How old the newest stored event is; nothing while none is as young as two minutes.
fn behind(monitor: &Monitor) -> Result<Option<Duration>, Failure> {
    let rows = monitor.rows(&["query", NEWEST])?;
    let newest = rows.first().and_then(|row| row.get("newest")).and_then(Value::as_str);
    let age = newest.and_then(daemoneye_lib::models::time::parse).map(|at| daemoneye_lib::models::time::now_ns() - at);
    Ok(age.map(|ns| Duration::from_nanos(ns.max(0).unsigned_abs())))
}
