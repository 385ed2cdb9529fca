//! A broker in a private place, and a client that behaves, whose calls are measured.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use daemoneye_eventbus::{Broker, BrokerConfig, Client, Gate, Identity, Payload, proto::AlertPayload};
use tokio::process::{Child, Command};

pub(crate) struct Site {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    pub(crate) gate: Gate,
}

/// How long the calls of a client took, in order of length, and how long it took to come in.
#[derive(Default)]
pub(crate) struct Times {
    pub(crate) calls: Vec<Duration>,
    pub(crate) connects: Vec<Duration>,
}

impl Times {
    pub(crate) fn add(&mut self, Times { calls, connects }: Times) {
        self.calls.extend(calls);
        self.connects.extend(connects);
        self.calls.sort();
    }

    pub(crate) fn median(&self) -> Duration {
        self.calls[self.calls.len() / 2]
    }

    pub(crate) fn p99(&self) -> Duration {
        self.calls[self.calls.len() * 99 / 100]
    }

    /// The longest.
    pub(crate) fn connect(&self) -> Duration {
        self.connects.iter().copied().max().unwrap_or_default()
    }
}

impl Site {
    pub(crate) async fn start(configure: impl FnOnce(&mut BrokerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/agent.sock");
        let mut config = BrokerConfig::new(&socket, dir.path().join("sessions"));
        configure(&mut config);
        let broker = Broker::bind(config).unwrap();
        let (gate, agent, server) = (broker.gate(), broker.local("alerts"), broker.local("server"));
        tokio::spawn(broker.run(std::future::pending()));
        let mut requests = server.serve("requests.echo").await.unwrap();
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                let body = request.body.clone();
                request.respond(body).await;
            }
        });
        tokio::spawn(async move {
            loop {
                let alert = Payload::Alert(AlertPayload { message: vec![1; 4096] });
                agent.publish("alerts.high", alert).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Self { _dir: dir, socket, gate }
    }

    /// Connects, and makes so many calls, on a thread of its own as another program would.
    pub(crate) async fn measure(&self, calls: usize) -> Times {
        let socket = self.socket.clone();
        let client = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let start = Instant::now();
                let client = loop {
                    match Client::connect(&socket, Identity::Operator).await {
                        Ok(connected) => break connected.client,
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                };
                let mut times = Times { calls: Vec::with_capacity(calls), connects: vec![start.elapsed()] };
                for _ in 0..calls {
                    let start = Instant::now();
                    client.call("requests.echo", vec![7; 200], Duration::from_secs(60)).await.unwrap();
                    times.calls.push(start.elapsed());
                    // As an operator asks: not without end.
                    tokio::time::sleep(Duration::from_micros(500)).await;
                }
                times
            })
        };
        let mut times = tokio::task::spawn_blocking(client).await.unwrap();
        times.calls.sort();
        times
    }

    /// Starts a crowd of peers in a process of its own.
    pub(crate) fn crowd(&self, what: &str, amount: u64) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .arg("crowd")
            .arg(&self.socket)
            .args([what, &amount.to_string()])
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }
}

/// The processor time that a process has used.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split(' ').collect();
    let ticks: u64 = [12, 13].into_iter().map(|place: usize| fields[place].parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}
