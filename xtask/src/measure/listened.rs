//! An agent whose standard output is read line by line, as the lines come, with the time at which each was read.

use super::wait;
use crate::interrupt::Interrupt;
use daemoneye_lib::models::time;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;
use testkit::{Failure, Site};

/// Lines of the agent that wait for us; when there are more, its sink waits.
const LINES: usize = 1024;

/// The running agent. It ends with this, and what it started with its site.
pub(super) struct Listened {
    process: Child,
    lines: Receiver<(i64, String)>,
    log: PathBuf,
    site: Site,
}

impl Listened {
    /// Starts an agent on the site, whose configuration has a sink for alerts on standard output, and waits until it is ready.
    pub(super) fn start(site: Site, interrupt: &Interrupt) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| Failure::new(format!("cannot start the agent: {error}"));
        let log = site.root().join("log");
        let mut command = site.agent()?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log).map_err(cannot)?);
        let mut process = command.process_group(0).spawn().map_err(cannot)?;
        let (sender, lines) = sync_channel(LINES);
        let stdout = process.stdout.take();
        std::thread::spawn(move || {
            for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok) {
                if sender.send((time::now_ns(), line)).is_err() {
                    return;
                }
            }
        });
        let agent = Self { process, lines, log, site };
        let ready = || Ok(matches!(agent.site.cli(&["health"])?.status, 0 | 3).then_some(()));
        wait("the first scan", interrupt, ready)
            .map_err(|failure| Failure::new(format!("{failure}; the agent's stderr:\n{}", agent.log())))?;
        Ok(agent)
    }

    /// The next line and when it was read, should it come within this time.
    pub(super) fn line(&self, within: Duration) -> Result<Option<(i64, String)>, Failure> {
        match self.lines.recv_timeout(within) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Failure::new(format!("the agent has ended:\n{}", self.log()))),
        }
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    pub(super) fn rows(&self, sql: &str) -> Result<Vec<Value>, Failure> {
        let output = self.site.cli(&["query", sql, "--format", "jsonl"])?;
        match output.status {
            0 | 3 => Ok(output.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            _ => Err(Failure::new(format!("the query {sql} ended with {output:?}"))),
        }
    }

    /// What it has written to standard error so far.
    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Listened {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The alert of this rule on this process, if the line is one.
pub(super) fn alert_on(line: &str, rule: &str, pid: u32) -> Option<Value> {
    let alert: Value = serde_json::from_str(line).ok()?;
    let of = |column| alert.get(column);
    let is_it = of("rule_id").and_then(Value::as_str) == Some(rule)
        && of("pid").and_then(Value::as_u64) == Some(u64::from(pid));
    is_it.then_some(alert)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_lines_and_other_alerts_are_passed_over() {
        let line = r#"{"rule_id":"a-rule","pid":7}"#;
        assert!(alert_on(line, "a-rule", 7).is_some());
        assert!(alert_on(line, "a-rule", 8).is_none() && alert_on(line, "another", 7).is_none());
        assert!(alert_on("DaemonEye monitors this host", "a-rule", 7).is_none());
    }
}
