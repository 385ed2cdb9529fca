//! What enumerating many processes costs, and how much memory it takes to know them all.

use super::crowd::Crowd;
use super::peer::{self, Costs};
use super::table::{Table, mb, ms, percentile};
use super::usage::Usage;
use super::{note, wait};
use crate::interrupt::Interrupt;
use daemoneye_lib::models::time;
use serde_json::Value;
use std::time::{Duration, Instant};
use testkit::{Failure, Monitor, Site, workspace_root};

/// Half a second between two scans, however much they cost.
const CONFIG: &str = "[app]\nscan_interval_ms = 500\nmax_scan_cpu = 100.0\n";
/// Processes younger than this are read whole at every scan.
const SETTLED: Duration = Duration::from_secs(4);
/// The whole record of each process is read again once in so many scans.
const STEADY_SCANS: usize = 16;
/// The scans that stand beside the storing of the first one.
const UNSTEADY_SCANS: usize = 2;

const SCANS: &str = "SELECT full, cpu_time_ns, start_time, end_time FROM system.scans ORDER BY scan_id";
const LAST_SCAN: &str = "SELECT max(scan_id) AS scan_id FROM system.scans";

/// Queries of different kinds, from the cheapest to all that there is.
const QUERIES: [&str; 20] = [
    "SELECT count(*) FROM processes",
    "SELECT * FROM processes WHERE pid = 1",
    "SELECT pid, name FROM processes WHERE name LIKE 'SLEEP%' LIMIT 100",
    "SELECT pid, name FROM processes WHERE executable_path GLOB '/usr/*' LIMIT 100",
    "SELECT pid FROM processes WHERE command_line REGEXP '^sleep [0-9]+$' LIMIT 100",
    "SELECT name, count(*) AS n FROM processes GROUP BY name HAVING count(*) > 1 ORDER BY n DESC",
    "SELECT user, sum(memory_usage), max(cpu_time_ns) FROM processes GROUP BY user",
    "SELECT pid, name, memory_usage FROM processes ORDER BY memory_usage DESC LIMIT 10",
    "SELECT pid, name, start_time FROM processes ORDER BY start_time DESC LIMIT 1000",
    "SELECT c.pid, p.name FROM processes c JOIN processes p ON c.parent_key = p.process_key WHERE p.pid = 1",
    "SELECT p.name, count(*) FROM processes c JOIN processes p ON c.parent_key = p.process_key GROUP BY p.name",
    "SELECT DISTINCT executable_path FROM processes",
    "SELECT pid FROM processes WHERE parent_key IN (SELECT process_key FROM processes WHERE name = 'procmond')",
    "WITH idle AS (SELECT * FROM processes WHERE cpu_usage < 1) SELECT count(*) FROM idle WHERE user = 'root'",
    "SELECT upper(name), substr(command_line, 1, 20) FROM processes WHERE name <> 'sleep' LIMIT 100",
    "SELECT CASE WHEN memory_usage > 1000000 THEN 'large' ELSE 'small' END AS size, count(*) FROM processes GROUP BY size",
    "SELECT event_type, count(*) FROM processes.events GROUP BY event_type",
    "SELECT * FROM processes.events WHERE event_time > datetime('now', '-1 minutes') LIMIT 1000",
    "SELECT rule_id, evaluations, matches FROM detection.rules",
    "SELECT * FROM processes",
];

/// Measures scans of the crowd and what becomes of memory, the end of the crowd included.
pub(super) fn measure(crowd: Crowd, interrupt: &Interrupt) -> Result<[Table; 2], Failure> {
    interrupt.idle(SETTLED)?;
    let peers = [("reused", peer::reused(interrupt)?), ("made anew", peer::fresh(interrupt)?)];

    note("an agent that finds them");
    let started = Instant::now();
    let monitor = Monitor::start(Site::new()?.with_rules(&workspace_root().join("rules")).with_config(CONFIG)?)?;
    let ready = started.elapsed();
    let pids = [pid_of(&monitor, "procmond")?, pid_of(&monitor, "daemoneye-agent")?];
    let first = usage(pids)?;
    note("scans");
    let scans = wait("scans", interrupt, || {
        let scans = monitor.rows(&["query", SCANS])?;
        Ok(Some(scans).filter(|scans| scans.len() > UNSTEADY_SCANS + STEADY_SCANS))
    })?;

    note("queries");
    for sql in QUERIES {
        interrupt.check()?;
        monitor.rows(&["query", sql])?;
    }
    let queried = usage(pids)?;
    note("the end of the processes");
    let seen = last_scan(&monitor)?;
    drop(crowd);
    // The scan after the last one may have begun before.
    wait("the end of the processes", interrupt, || Ok((last_scan(&monitor)? >= seen + 2).then_some(())))?;
    let ended = usage(pids)?;

    let mut costs = scan_table(&scans, &peers)?;
    for (program, usage) in ["procmond", "agent"].iter().zip(&first) {
        costs.row([format!("{program}, until the first scan was stored"), ms(usage.cpu), ms(ready)]);
    }
    let mut memory = Table::new(&["resident (of it anonymous; most so far)", "procmond", "agent"]);
    for (when, [procmond, agent]) in
        [("after the first scan", first), ("after 20 queries", queried), ("after the end of the processes", ended)]
    {
        memory.row([when.to_owned(), resident(&procmond), resident(&agent)]);
    }
    Ok([costs, memory])
}

fn last_scan(monitor: &Monitor) -> Result<u64, Failure> {
    let rows = monitor.rows(&["query", LAST_SCAN])?;
    let last = rows.first().and_then(|row| number(row, "scan_id"));
    last.ok_or_else(|| Failure::new(format!("no scan: {rows:?}")))
}

fn pid_of(monitor: &Monitor, program: &str) -> Result<u32, Failure> {
    monitor.site().pid_of(program).ok_or_else(|| Failure::new(format!("no {program} runs")))
}

fn usage([procmond, agent]: [u32; 2]) -> Result<[Usage; 2], Failure> {
    Ok([Usage::of(procmond)?, Usage::of(agent)?])
}

fn resident(usage: &Usage) -> String {
    format!("{} ({}; {})", mb(usage.resident), mb(usage.anonymous), mb(usage.peak))
}

fn scan_table(scans: &[Value], peers: &[(&str, Costs)]) -> Result<Table, Failure> {
    let costs = |scans: &[Value]| -> Result<Costs, Failure> {
        let read = |scan| cost(scan).ok_or_else(|| Failure::new(format!("not a scan: {scan}")));
        let (cpu, wall) = scans.iter().map(read).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        Ok(Costs { cpu, wall })
    };
    let (full, later): (Vec<Value>, Vec<Value>) =
        scans.iter().cloned().partition(|scan| scan.get("full").and_then(Value::as_bool) == Some(true));
    let mut table = Table::new(&["enumeration", "CPU", "elapsed"]);
    table.row(median("procmond, the first scan: every record whole and told", &costs(&full)?));
    table.row(median("procmond, a later scan", &costs(later.get(UNSTEADY_SCANS..).unwrap_or_default())?));
    for (how, costs) in peers {
        table.row(median(&format!("`sysinfo`, {how}"), costs));
    }
    Ok(table)
}

fn median(what: &str, costs: &Costs) -> [String; 3] {
    let what = match costs.cpu.len() {
        1 => what.to_owned(),
        scans => format!("{what} (median of {scans})"),
    };
    [what, ms(percentile(&costs.cpu, 50)), ms(percentile(&costs.wall, 50))]
}

/// What a scan has cost its thread, and how long it took.
fn cost(scan: &Value) -> Option<(Duration, Duration)> {
    let at = |column| scan.get(column).and_then(Value::as_str).and_then(time::parse);
    let wall = at("end_time")?.abs_diff(at("start_time")?);
    Some((Duration::from_nanos(number(scan, "cpu_time_ns")?), Duration::from_nanos(wall)))
}

fn number(row: &Value, column: &str) -> Option<u64> {
    row.get(column).and_then(Value::as_u64)
}
