//! Keeps a collector running: finds it, starts it, adopts one that is alive, starts it again when it ends.
//!
//! Whether one is alive is told by the lock on its data directory, which the system releases when it dies. A starting
//! agent waits for a live one to come back before it does anything else; it never starts a second one beside it.
//!
//! The spawn token goes through the child's standard input: neither its command line nor its environment, which other
//! users can read, bears a secret.

use crate::collecting::collectors::{Collectors, Supervision};
use crate::collecting::spawn::Spawn;
use crate::os;
use daemoneye_eventbus::proto::ControlPayload;
use daemoneye_eventbus::proto::control_payload::Control;
use daemoneye_eventbus::{Client, Gate, Payload};
use daemoneye_lib::lock::DataDirLock;
use daemoneye_lib::proto::ipc::Shutdown;
use prost::Message as _;
use std::collections::VecDeque;
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How long a live collector has to come back before its state is called a trouble.
const ADOPTION: Duration = Duration::from_secs(2);
/// How often a collector that is not our child is looked after.
const LOOK: Duration = Duration::from_millis(200);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(10);
/// A collector that ran so long did not fail at its start.
const STABLE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
/// From the request to end until it is killed.
const GRACE: Duration = Duration::from_millis(2_000);

/// What is needed to run one collector.
pub(crate) struct Supervisor {
    pub(crate) collector: Spawn,
    pub(crate) max_restarts_per_minute: u32,
    pub(crate) gate: Gate,
    pub(crate) bus: Client,
    pub(crate) collectors: Collectors,
}

/// How a collector's life ended.
enum Ended {
    Stopping,
    Gone(String),
    /// It never began.
    Unstartable,
}

impl Supervisor {
    /// Runs until `stop` says so, then ends the collector.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut starts: VecDeque<Instant> = VecDeque::new();
        let mut backoff = BACKOFF_FIRST;
        loop {
            let began = Instant::now();
            let ended = if DataDirLock::is_held(&self.collector.data_dir) {
                self.adopt(&mut stop).await
            } else {
                while starts.front().is_some_and(|start| start.elapsed() > MINUTE) {
                    starts.pop_front();
                }
                if starts.len() > self.max_restarts_per_minute as usize {
                    let why = format!(
                        "{} ended {} times within a minute: it is started again when the minute is over",
                        self.collector.name,
                        starts.len()
                    );
                    self.failing(why);
                    tokio::select! {
                        () = sleep(Duration::from_secs(1)) => continue,
                        () = stopped(&mut stop) => return,
                    }
                }
                match self.start().await {
                    Ok(child) => {
                        starts.push_back(began);
                        self.watch(child, &mut stop).await
                    }
                    Err(error) => {
                        let why = format!("{} cannot be started: {error}", self.collector.program.display());
                        self.failing(why);
                        Ended::Unstartable
                    }
                }
            };
            match ended {
                Ended::Stopping => return,
                Ended::Gone(why) => {
                    tracing::warn!(collector = %self.collector.name, %why, "the collector has ended");
                    self.collectors.supervision(&self.collector.name, Some(Supervision::Restarting(why)), true);
                }
                Ended::Unstartable => {}
            }
            backoff = if began.elapsed() > STABLE { BACKOFF_FIRST } else { (backoff * 2).min(BACKOFF_LAST) };
            tokio::select! {
                () = sleep(backoff) => {}
                () = stopped(&mut stop) => return,
            }
        }
    }

    fn failing(&self, why: String) {
        if self.collectors.supervision(&self.collector.name, Some(Supervision::Failing(why.clone())), false) {
            tracing::error!(collector = %self.collector.name, %why, "nothing is collected");
        }
    }

    async fn start(&self) -> io::Result<Child> {
        let token = self.gate.issue_token(&self.collector.name).map_err(io::Error::other)?;
        let mut command = Command::new(&self.collector.program);
        command
            .args(&self.collector.arguments)
            .envs(self.collector.variables.iter().map(|(name, value)| (name, value)));
        // The agent's standard output is for alerts.
        command.stdin(Stdio::piped()).stdout(io::stderr()).kill_on_drop(false);
        os::own_group(&mut command);
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A child that is gone before it read its token is found by its end.
            let _ = stdin.write_all(format!("{token}\n").as_bytes()).await;
        }
        tracing::info!(collector = %self.collector.name, pid = child.id(), "the collector was started");
        Ok(child)
    }

    /// Waits for the child's end.
    async fn watch(&self, mut child: Child, stop: &mut watch::Receiver<bool>) -> Ended {
        tokio::select! {
            status = child.wait() => Ended::Gone(match status {
                Ok(status) => format!("{} ended: {status}", self.collector.name),
                Err(error) => format!("{} cannot be waited for: {error}", self.collector.name),
            }),
            () = stopped(stop) => {
                self.ask_to_end().await;
                if timeout(GRACE, child.wait()).await.is_err() {
                    tracing::warn!(collector = %self.collector.name, "it did not end in time and is killed");
                    if let Err(error) = child.kill().await {
                        tracing::error!(collector = %self.collector.name, %error, "it cannot be killed");
                    }
                }
                Ended::Stopping
            }
        }
    }

    /// Looks after a collector that another agent started.
    async fn adopt(&self, stop: &mut watch::Receiver<bool>) -> Ended {
        let pid = DataDirLock::last_holder(&self.collector.data_dir);
        tracing::info!(collector = %self.collector.name, pid, "a live collector is awaited");
        let began = Instant::now();
        let mut told = false;
        while DataDirLock::is_held(&self.collector.data_dir) {
            if self.collectors.is_attached(&self.collector.name) {
                told = false;
            } else if began.elapsed() > ADOPTION && !told {
                told = true;
                let pid = pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
                self.failing(format!("{pid} holds {} and does not attach: end it", self.collector.data_dir.display()));
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = stopped(stop) => {
                    self.ask_to_end().await;
                    self.end_adopted().await;
                    return Ended::Stopping;
                }
            }
        }
        Ended::Gone(format!("{} of an earlier agent ended", self.collector.name))
    }

    async fn end_adopted(&self) {
        // What the bus knows from the system, not what a file says: another process may have that pid by now.
        let peers = self.gate.connected().borrow().clone();
        let pid = peers.iter().find(|peer| peer.name == self.collector.name).and_then(|peer| peer.pid);
        let began = Instant::now();
        while DataDirLock::is_held(&self.collector.data_dir) && began.elapsed() < GRACE {
            sleep(Duration::from_millis(20)).await;
        }
        if DataDirLock::is_held(&self.collector.data_dir)
            && let Some(pid) = pid
            && let Err(error) = os::kill(pid)
        {
            tracing::error!(collector = %self.collector.name, %error, "it did not end in time and cannot be killed");
        }
    }

    async fn ask_to_end(&self) {
        let shutdown = Shutdown { reason: "the agent ends".to_owned() };
        let control = ControlPayload { control: Some(Control::Message(shutdown.encode_to_vec())) };
        let topic = format!("control.shutdown.{}", self.collector.name);
        if let Err(closed) = self.bus.publish(&topic, Payload::Control(control)).await {
            tracing::debug!(%closed, "the collector cannot be asked to end");
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stop.wait_for(|stop| *stop).await;
}
