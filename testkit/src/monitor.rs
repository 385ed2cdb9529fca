//! An agent that monitors this host from a site of its own, together with the collectors that it starts.

use crate::{Child, Failure, Output, Signal, Site, poll};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);
/// How long an orderly end may take.
const END: Duration = Duration::from_secs(3);

/// What is shown of the log of a failed test.
const LAST_LINES: usize = 60;

/// A running agent and its site. Dropping it ends both without ceremony; [`Monitor::stop`] ends it as an operator would.
///
/// What the agents and collectors of the site write to standard error is in one file, over all their ends and restarts.
pub struct Monitor {
    // Before the site: fields drop in this order, and collectors are to be ended after their agent.
    agent: Child,
    site: Site,
}

impl Monitor {
    /// Starts an agent and waits until its health is no longer "starting".
    pub fn start(site: Site) -> Result<Self, Failure> {
        let mut monitor = Self::spawn(site)?;
        monitor.wait_until_ready()?;
        Ok(monitor)
    }

    /// Starts an agent without waiting for anything.
    pub fn spawn(site: Site) -> Result<Self, Failure> {
        Ok(Self { agent: Child::spawn_logging(site.agent()?, &log(&site))?, site })
    }

    /// Starts another agent on the same site, after the end of this one, and waits for it as [`Monitor::start`] does.
    ///
    /// A collector that survived the agent is left alone.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.respawn()?;
        self.wait_until_ready()
    }

    /// The same without waiting for anything.
    pub fn respawn(&mut self) -> Result<(), Failure> {
        if self.agent.exited()?.is_none() {
            return Err(Failure::new(format!("agent {} still runs", self.agent.pid())));
        }
        self.agent = Child::spawn_logging(self.site.agent()?, &log(&self.site))?;
        Ok(())
    }

    /// Ends the agent as `kill -9` does, and waits until it is gone. Its collector survives.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.agent.signal(Signal::KILL)?;
        self.agent.wait_timeout(START).map(drop)
    }

    /// What all programs of this site have written to standard error so far.
    pub fn log(&self) -> String {
        self.agent.stderr()
    }

    /// Waits until health is ok or degraded; a failure when the agent ends before, or after a minute.
    pub fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let mut last = None;
        let ready = poll(START, || {
            if let Some(status) = self.agent.exited().transpose() {
                return Some(status.and_then(|status| Err(Failure::new(format!("the agent ended: {status}")))));
            }
            match self.cli(&["health", "--format", "json"]) {
                Ok(health) if matches!(health.status, 0 | 3) => Some(Ok(())),
                Ok(health) => {
                    last = Some(health);
                    None
                }
                Err(failure) => Some(Err(failure)),
            }
        });
        let outcome =
            ready.unwrap_or_else(|| Err(Failure::new(format!("not ready after {START:?}; health: {last:?}"))));
        outcome.map_err(|failure| Failure::new(format!("{failure}; the agent's stderr:\n{}", self.agent.stderr())))
    }

    /// Where it runs.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The agent's process.
    pub fn agent(&mut self) -> &mut Child {
        &mut self.agent
    }

    /// The running procmond of this site, whether this agent started or adopted it.
    pub fn procmond_pid(&self) -> Option<u32> {
        self.site.pid_of("procmond")
    }

    /// Runs `daemoneye-cli` with these arguments.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output, Failure> {
        self.site.cli(arguments)
    }

    /// The rows that a command of `daemoneye-cli` prints as one JSON document; `--format json` is added to the arguments.
    ///
    /// A degraded answer (exit 3) is an answer: polling is never complete.
    pub fn rows(&self, arguments: &[&str]) -> Result<Vec<Value>, Failure> {
        let output = self.cli(&[arguments, &["--format", "json"]].concat())?;
        if !matches!(output.status, 0 | 3) {
            return Err(Failure::new(format!("daemoneye-cli {arguments:?} ended with {output:?}")));
        }
        let document: Value = serde_json::from_str(&output.stdout).map_err(|error| {
            Failure::new(format!("daemoneye-cli {arguments:?} wrote no JSON ({error}): {output:?}"))
        })?;
        match document.get("rows") {
            Some(Value::Array(rows)) => Ok(rows.clone()),
            _ => Err(Failure::new(format!("daemoneye-cli {arguments:?} wrote no rows: {output:?}"))),
        }
    }

    /// The alerts so far, each an object with the columns of the table `alerts`.
    pub fn alerts(&self) -> Result<Vec<Value>, Failure> {
        self.rows(&["alerts", "list"])
    }

    /// Ends it with SIGTERM: a failure unless the agent exits with 0 within three seconds and no collector stays behind.
    pub fn stop(&mut self) -> Result<(), Failure> {
        self.stop_by(Signal::TERM)
    }

    /// The same with another signal.
    pub fn stop_by(&mut self, signal: Signal) -> Result<(), Failure> {
        let asked = Instant::now();
        self.agent.signal(signal)?;
        let status = self.agent.wait_timeout(END)?;
        if !status.success() {
            return Err(Failure::new(format!("the agent ended with {status}; its stderr:\n{}", self.agent.stderr())));
        }
        let left = END.saturating_sub(asked.elapsed());
        poll(left, || self.site.processes().is_empty())
            .ok_or_else(|| Failure::new(format!("the agent left processes behind: {:?}", self.site.processes())))
    }
}

impl Drop for Monitor {
    /// A failed test shows what the programs had to say last.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the monitor's stderr:\n{}", lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"));
        }
    }
}

fn log(site: &Site) -> PathBuf {
    site.root().join("stderr")
}
