//! DaemonEye as a watcher: an agent and its procmond in a temporary place, with the shipped rules and events by eBPF.

use super::PROGRAM;
use super::watcher::Watcher;
use serde_json::Value;
use std::path::Path;
use testkit::{Failure, Monitor, Site, workspace_root};

const MODE: &str = "SELECT mode, mode_reason FROM system.collectors WHERE collector = 'procmond'";
/// What was not observed; the rest of the kinds is about what was.
const LOST: &str = "SELECT kind, count FROM system.gaps WHERE kind <> 'retention'";
const STARTS: &str = "SELECT count(DISTINCT command_line) AS starts FROM processes.events \
                      WHERE event_type IN ('exec', 'seen') AND command_line LIKE ?";

pub(super) struct DaemonEye {
    monitor: Monitor,
    pids: Vec<u32>,
    /// What it had counted when it was ready.
    lost: u64,
}

/// A site whose programs watch by eBPF, with the shipped rules.
pub(super) fn site(programs: Option<&Path>) -> Result<Site, Failure> {
    let site = Site::new()?.with_rules(&workspace_root().join("rules")).seeing_by("ebpf");
    Ok(match programs {
        Some(dir) => site.with_programs(dir),
        None => site,
    })
}

impl DaemonEye {
    pub(super) fn start(programs: Option<&Path>) -> Result<Self, Failure> {
        let monitor = Monitor::start(site(programs)?)?;
        let collectors = monitor.rows(&["query", MODE])?;
        let mode = collectors.first().and_then(|row| row.get("mode")).and_then(Value::as_str);
        if mode != Some("ebpf") {
            return Err(Failure::new(format!("procmond does not watch by eBPF: {collectors:?}\n{}", monitor.log())));
        }
        let pids = monitor.site().processes().into_iter().map(|(pid, _)| pid).collect();
        let lost = lost(&monitor)?;
        Ok(Self { monitor, pids, lost })
    }
}

impl Watcher for DaemonEye {
    fn pids(&self) -> Vec<u32> {
        self.pids.clone()
    }

    fn captured(&self, run: &str) -> Result<u64, Failure> {
        // From the beginning of the line: that of the query holds the run's name too, and is told as well.
        let line = format!("{PROGRAM} {run}.%");
        let rows = self.monitor.rows(&["query", STARTS, "--param", &line])?;
        let starts = rows.first().and_then(|row| row.get("starts")).and_then(Value::as_u64);
        starts.ok_or_else(|| Failure::new(format!("no count of starts: {rows:?}")))
    }

    fn lost(&self) -> Result<u64, Failure> {
        Ok(lost(&self.monitor)?.saturating_sub(self.lost))
    }
}

fn lost(monitor: &Monitor) -> Result<u64, Failure> {
    let gaps = monitor.rows(&["query", LOST])?;
    Ok(gaps.iter().map(counted).sum())
}

/// A gap whose size nobody knows is at least one event.
fn counted(gap: &Value) -> u64 {
    gap.get("count").and_then(Value::as_u64).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_gap_that_nobody_could_count_is_not_nothing() {
        assert_eq!(counted(&json!({"kind": "ring_overflow", "count": 12})), 12);
        assert_eq!(counted(&json!({"kind": "collector_down", "count": null})), 1);
    }
}
