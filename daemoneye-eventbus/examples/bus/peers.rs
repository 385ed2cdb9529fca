//! Peers that do not behave, in a process of their own.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use daemoneye_eventbus::{
    Payload, frame,
    proto::{
        ControlPayload, EventBusMessage, HeartbeatPayload, Hello, Role, RpcRequestPayload, Subscribe,
        control_payload::Control,
    },
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    task::JoinSet,
};

/// The hostile peers, until they are killed or have done their amount.
pub(crate) async fn crowd(socket: &Path, what: &str, amount: u64) {
    let socket: Arc<Path> = socket.into();
    let mut peers = JoinSet::new();
    match what {
        "spin" => spin(amount),
        "heartbeats" => (0..amount).for_each(|_| drop(peers.spawn(heartbeats(Arc::clone(&socket))))),
        "calls" => (0..amount).for_each(|_| drop(peers.spawn(caller(Arc::clone(&socket))))),
        "replay" => (0..amount).for_each(|_| drop(peers.spawn(replayer(Arc::clone(&socket))))),
        "slow" => (0..amount).for_each(|_| drop(peers.spawn(slow_reader(Arc::clone(&socket))))),
        "subscribe" => (0..amount).for_each(|_| drop(peers.spawn(subscriber(Arc::clone(&socket))))),
        "silent" => drop(peers.spawn(silent(Arc::clone(&socket), amount))),
        "malformed" => {
            let left = Arc::new(AtomicU64::new(u64::MAX));
            (0..amount).for_each(|seed| drop(peers.spawn(malformed(Arc::clone(&socket), seed, Arc::clone(&left)))));
        }
        _ => {
            let left = Arc::new(AtomicU64::new(amount));
            (0..256).for_each(|seed| drop(peers.spawn(malformed(Arc::clone(&socket), seed, Arc::clone(&left)))));
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

/// Sends one burst after the other, reads whatever comes, and comes again after it was cut off.
async fn flood(socket: &Path, mut burst: impl FnMut() -> Vec<u8>) {
    loop {
        let Some(stream) = let_in(socket).await else { continue };
        let (mut read, mut write) = stream.into_split();
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while read.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
        });
        while write.write_all(&burst()).await.is_ok() {}
        let _ = reading.await;
    }
}

async fn heartbeats(socket: Arc<Path>) {
    let payload = Some(Payload::Heartbeat(HeartbeatPayload { counter: 1 }));
    let burst = framed(&EventBusMessage { payload, ..EventBusMessage::default() }).repeat(256);
    flood(&socket, || burst.clone()).await;
}

/// Calls without end, and does not wait for the answers: what is more than may be under way is refused.
async fn caller(socket: Arc<Path>) {
    let mut correlation_id = 0;
    let calls = move || {
        let one = |_| {
            correlation_id += 1;
            let message = vec![7; 200];
            let request = RpcRequestPayload { correlation_id, message, timeout_ms: 60_000, ..Default::default() };
            let payload = Some(Payload::RpcRequest(request));
            framed(&EventBusMessage { topic: "requests.echo".into(), payload, sender: None })
        };
        (0..64).flat_map(one).collect()
    };
    flood(&socket, calls).await;
}

/// Shows the same token, which was never good or is used up, again and again.
async fn replayer(socket: Arc<Path>) {
    let hello = Hello {
        role: Role::Collector.into(),
        name: "procmond".into(),
        token: vec![7; 32],
        protocol: 1,
        ..Hello::default()
    };
    let hello = framed(&control(Control::Hello(hello)));
    loop {
        let Ok(mut stream) = UnixStream::connect(&socket).await else { continue };
        let _ = stream.write_all(&hello).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

/// Does nothing but use so many per cent of a processor, with two threads as the others have.
fn spin(percent: u64) {
    const PERIOD: Duration = Duration::from_millis(2);
    let busy = PERIOD * u32::try_from(percent.min(200)).unwrap() / 200;
    for _ in 0..2 {
        thread::spawn(move || {
            loop {
                let start = Instant::now();
                while start.elapsed() < busy {
                    std::hint::spin_loop();
                }
                thread::sleep(PERIOD.saturating_sub(start.elapsed()));
            }
        });
    }
    loop {
        thread::park();
    }
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
