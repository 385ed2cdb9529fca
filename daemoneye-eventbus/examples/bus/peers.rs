//! A broker in a private place, one client that behaves, and peers that do not.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use daemoneye_eventbus::{
    Broker, BrokerConfig, Client, Gate, Identity, Payload, frame,
    proto::{
        AlertPayload, ControlPayload, EventBusMessage, HeartbeatPayload, Hello, Role, Subscribe,
        control_payload::Control,
    },
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::{Child, Command},
    task::JoinSet,
};

/// The broker, and the client whose calls are measured.
pub(crate) struct Site {
    _dir: tempfile::TempDir,
    pub(crate) socket: PathBuf,
    pub(crate) gate: Gate,
    good: Client,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/agent.sock");
        let broker = Broker::bind(BrokerConfig::new(&socket, dir.path().join("sessions"))).unwrap();
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
        let good = Client::connect(&socket, Identity::Operator).await.unwrap().client;
        Self { _dir: dir, socket, gate, good }
    }

    /// How long so many calls took, in order of length.
    pub(crate) async fn measure(&self, calls: usize) -> Vec<Duration> {
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let start = Instant::now();
            self.good.call("requests.echo", vec![7; 200], Duration::from_secs(60)).await.unwrap();
            times.push(start.elapsed());
            // As an operator asks: not without end.
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        times.sort();
        times
    }

    /// Starts a crowd of hostile peers in a process of its own.
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

/// The hostile peers, until they are killed or have done their amount.
pub(crate) async fn crowd(socket: &Path, what: &str, amount: u64) {
    let socket: Arc<Path> = socket.into();
    let mut peers = JoinSet::new();
    match what {
        "heartbeats" => (0..amount).for_each(|_| drop(peers.spawn(heartbeats(Arc::clone(&socket))))),
        "slow" => (0..amount).for_each(|_| drop(peers.spawn(slow_reader(Arc::clone(&socket))))),
        "subscribe" => (0..amount).for_each(|_| drop(peers.spawn(subscriber(Arc::clone(&socket))))),
        "silent" => drop(peers.spawn(silent(Arc::clone(&socket), amount))),
        _ => {
            let left = Arc::new(AtomicU64::new(amount));
            (0..16).for_each(|seed| drop(peers.spawn(malformed(Arc::clone(&socket), seed, Arc::clone(&left)))));
        }
    }
    while peers.join_next().await.is_some() {}
}

async fn let_in(socket: &Path) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(socket).await.ok()?;
    stream.write_all(&framed(&hello())).await.ok()?;
    frame::read(&mut stream, frame::MAX_FRAME).await.ok()??;
    Some(stream)
}

/// Sends heartbeats as fast as they are echoed.
async fn heartbeats(socket: Arc<Path>) {
    let payload = Some(Payload::Heartbeat(HeartbeatPayload { counter: 1 }));
    let burst = framed(&EventBusMessage { payload, ..EventBusMessage::default() }).repeat(256);
    let (mut read, mut write) = let_in(&socket).await.unwrap().into_split();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while read.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
    });
    while write.write_all(&burst).await.is_ok() {}
}

/// Subscribes to alerts and never reads one; comes again after it was cut off.
async fn slow_reader(socket: Arc<Path>) {
    let subscribe = Subscribe { pattern: "alerts.#".into(), ..Subscribe::default() };
    let subscribe = framed(&control(Control::Subscribe(subscribe)));
    let nothing = framed(&EventBusMessage {
        payload: Some(Payload::Heartbeat(HeartbeatPayload::default())),
        ..EventBusMessage::default()
    });
    loop {
        let Some(mut stream) = let_in(&socket).await else { continue };
        let mut open = stream.write_all(&subscribe).await.is_ok();
        while open {
            tokio::time::sleep(Duration::from_millis(20)).await;
            open = stream.write_all(&nothing).await.is_ok();
        }
    }
}

/// Subscribes until it is cut off, and comes again.
async fn subscriber(socket: Arc<Path>) {
    let mut flood = Vec::new();
    for number in 0..100 {
        let pattern = format!("alerts.x{number}.#");
        flood.extend(framed(&control(Control::Subscribe(Subscribe { pattern, ..Subscribe::default() }))));
    }
    loop {
        let Some(mut stream) = let_in(&socket).await else { continue };
        let _ = stream.write_all(&flood).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

/// Connects and says nothing; so many at a time, one after the other anew.
async fn silent(socket: Arc<Path>, connections: u64) {
    let mut crowd = VecDeque::new();
    loop {
        crowd.extend(UnixStream::connect(&socket).await.ok());
        if crowd.len() as u64 > connections {
            crowd.pop_front();
        }
        tokio::task::yield_now().await;
    }
}

/// Sends malformed frames, each on a connection of its own, as long as some are left.
async fn malformed(socket: Arc<Path>, seed: u64, left: Arc<AtomicU64>) {
    let hello = framed(&hello());
    let mut state = seed | 1;
    let take = |left: u64| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut stream = loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => break stream,
                // Its backlog is full.
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        let _ = stream.write_all(&spoilt(&hello, state >> 16)).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

/// A frame that is none: a bit changed in its checksum or payload, a length beyond all limits, or an end that is cut off.
fn spoilt(frame: &[u8], random: u64) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let place = (random >> 8) as usize;
    match random % 4 {
        0 | 1 => bytes[4 + place % (frame.len() - 4)] ^= 1 << (random >> 2 & 7),
        2 => bytes[3] = 1 + (random >> 2 & 127) as u8,
        _ => {
            bytes.truncate(place % frame.len());
            bytes.extend_from_slice(&[0xff; 64]);
        }
    }
    bytes
}

fn hello() -> EventBusMessage {
    control(Control::Hello(Hello { protocol: 1, role: Role::Operator.into(), ..Hello::default() }))
}

fn control(control: Control) -> EventBusMessage {
    let payload = Some(Payload::Control(ControlPayload { control: Some(control) }));
    EventBusMessage { payload, ..EventBusMessage::default() }
}

fn framed(message: &EventBusMessage) -> Vec<u8> {
    frame::encode(&message.encode_to_vec()).unwrap()
}
