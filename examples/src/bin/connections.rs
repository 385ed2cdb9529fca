//! A collector of the network domain: the TCP sockets of a Linux host, found by looking at `/proc/net/tcp{,6}` again and again.
//!
//! `[collectors.connections] command = "daemoneye-connections"`. Settings: `interval_ms` between two looks (1000), and
//! `hash_listeners` (false): then procmond is asked for the hash of whatever begins to listen. A socket is told once, as
//! `listen` or `seen`, and again as `close` when it is gone. At most [`MAX_SOCKETS`] are known at a time.

use collector_core::{CollectedItem, CollectionCapabilities, CollectionEvent, EventSource, Sink, SourceCaps};
use collector_core::{SourceDescription, SourceError, SourceStatus};
use daemoneye_lib::models::key::process_key;
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::common::{NetworkEvent, NetworkEventType};
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::proto::ipc::{DetectionTask, Gap, ProcessFilter, TaskType, TriggerRequest};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::Duration;

const MAX_SOCKETS: usize = 20_000;
/// Descriptors of one process that are looked at for its sockets.
const MAX_DESCRIPTORS: usize = 65_536;
const STATES: [&str; 12] = [
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "new_syn_recv",
];

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Socket {
    inode: u64,
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
}

#[derive(Default)]
struct Settings {
    interval: u64,
    hash_listeners: bool,
}

struct Connections {
    boot_id: String,
}

impl EventSource for Connections {
    fn describe(&self) -> SourceDescription {
        let domains = ["network", "trigger"].map(str::to_owned).to_vec();
        SourceDescription {
            mode: "poll".into(),
            mode_reason: "it looks at /proc/net again and again".into(),
            caps: SourceCaps::NETWORK,
            capabilities: CollectionCapabilities { domains, ..Default::default() },
            limitations: vec![
                "of sockets only those of TCP are seen, in its own network namespace".into(),
                "sockets of processes that it may not look into have no process".into(),
            ],
            ..Default::default()
        }
    }

    fn run(self: Box<Self>, sink: Sink) -> Result<(), SourceError> {
        let (mut known, mut epoch): (BTreeMap<Socket, NetworkEvent>, _) = (BTreeMap::new(), sink.epoch());
        let (mut version, mut settings, mut cut) = (u64::MAX, settings_in("{}").unwrap_or_default(), false);
        while !sink.stopped() {
            let wanted = sink.settings();
            if wanted.version != version {
                version = wanted.version;
                sink.settled(version, settings_in(&wanted.json).map(|taken| settings = taken));
            }
            if sink.epoch() != epoch {
                (epoch, known) = (sink.epoch(), BTreeMap::new());
            }
            let (now, all_cut) = look()?;
            if all_cut && !cut {
                let reason = format!("there are more than {MAX_SOCKETS} sockets: the others are not looked at");
                let gap = Gap { kind: "too_many".into(), from: now_ns(), to: Some(now_ns()), count: None, reason };
                sink.emit(CollectedItem { item: Some(Item::Gap(gap)) })?;
            }
            cut = all_cut;
            let gone: Vec<Socket> = known.keys().filter(|socket| !now.contains_key(socket)).cloned().collect();
            for event in gone.iter().filter_map(|socket| known.remove(socket)) {
                let (event_type, at) = (NetworkEventType::Close.into(), now_ns());
                let closed = NetworkEvent { event_type, event_time: at, collection_time: at, ..event };
                sink.emit(CollectionEvent::Network(closed))?;
            }
            let fresh: Vec<_> = now.into_iter().filter(|(socket, _)| !known.contains_key(socket)).collect();
            let owners = if fresh.is_empty() { HashMap::new() } else { self.owners(&fresh) };
            for (socket, mut event) in fresh {
                if let Some(owner) = owners.get(&socket.inode) {
                    let NetworkEvent { process_key, pid, name, executable_path, .. } = owner.clone();
                    event = NetworkEvent { process_key, pid, name, executable_path, ..event };
                }
                if settings.hash_listeners && event.event_type() == NetworkEventType::Listen {
                    ask_for_hash(&sink, &socket, &event)?;
                }
                sink.emit(CollectionEvent::Network(event.clone()))?;
                known.insert(socket, event);
            }
            sink.report(SourceStatus { scan_interval_ms: settings.interval, ..Default::default() });
            sink.pause(Duration::from_millis(settings.interval))?;
        }
        Ok(())
    }
}

fn ask_for_hash(sink: &Sink, socket: &Socket, event: &NetworkEvent) -> Result<(), SourceError> {
    let Some(pid) = event.pid else { return Ok(()) };
    let filter = ProcessFilter { pids: vec![pid], ..ProcessFilter::default() };
    let task = DetectionTask {
        task_type: TaskType::CheckProcessHash.into(),
        process_filter: Some(filter),
        hash_check: Some(Default::default()),
        ..DetectionTask::default()
    };
    let request = TriggerRequest {
        trigger_id: format!("listen-{}-{}", event.process_key.as_deref().unwrap_or_default(), socket.inode),
        target: "procmond".into(),
        task: Some(task),
        reason: format!("process {pid} listens at {} port {}", socket.local.0, socket.local.1),
        requested_at: event.event_time,
    };
    Ok(sink.emit(CollectionEvent::Trigger(request))?)
}

/// The sockets that there are, and whether there are more than can be known.
fn look() -> Result<(BTreeMap<Socket, NetworkEvent>, bool), std::io::Error> {
    let mut found = BTreeMap::new();
    let mut listening = BTreeSet::new();
    for (file, family) in [("/proc/net/tcp", "ipv4"), ("/proc/net/tcp6", "ipv6")] {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && family == "ipv6" => continue,
            text => text?,
        };
        for (socket, event) in text.lines().skip(1).filter_map(|line| socket(line, family)) {
            if event.event_type() == NetworkEventType::Listen {
                listening.insert(socket.local.1);
            }
            if found.len() >= MAX_SOCKETS {
                return Ok((found, true));
            }
            found.insert(socket, event);
        }
    }
    for event in found.values_mut().filter(|event| event.event_type() != NetworkEventType::Listen) {
        let own = event.local_port.and_then(|port| u16::try_from(port).ok());
        event.direction = Some(if own.is_some_and(|port| listening.contains(&port)) { "in" } else { "out" }.to_owned());
        event.provenance.insert("direction".into(), "inferred".into());
    }
    Ok((found, false))
}

/// A line of `/proc/net/tcp{,6}`; nothing for a socket that belongs to no process any more.
fn socket(line: &str, family: &str) -> Option<(Socket, NetworkEvent)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, remote) = (address(fields.get(1)?)?, address(fields.get(2)?)?);
    let state = *STATES.get(usize::from_str_radix(fields.get(3)?, 16).ok()?.checked_sub(1)?)?;
    let inode: u64 = fields.get(9)?.parse().ok().filter(|inode| *inode > 0)?;
    let (listens, now) = (state == "listen", now_ns());
    let event_type = if listens { NetworkEventType::Listen } else { NetworkEventType::SocketSeen };
    let event = NetworkEvent {
        event_type: event_type.into(),
        event_time: now,
        uid: fields.get(7)?.parse().ok(),
        protocol: Some("tcp".into()),
        family: Some(family.to_owned()),
        local_address: Some(local.0.to_string()),
        local_port: Some(local.1.into()),
        remote_address: (!listens).then(|| remote.0.to_string()),
        remote_port: (!listens).then(|| remote.1.into()),
        state: Some(state.to_owned()),
        inode: Some(inode),
        source: "poll".into(),
        provenance: BTreeMap::from([("*".to_owned(), "scraped".to_owned())]),
        collection_time: now,
        ..NetworkEvent::default()
    };
    Some((Socket { inode, local, remote }, event))
}

/// `0100007F:1F90`: words of the address in the byte order of the host, then the port.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        _ => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?))
        }
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

impl Connections {
    /// Which process has which of the sockets, by inode.
    fn owners(&self, sockets: &[(Socket, NetworkEvent)]) -> HashMap<u64, NetworkEvent> {
        let mut wanted: BTreeSet<u64> = sockets.iter().map(|(socket, _)| socket.inode).collect();
        let mut owners = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let descriptors = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
            for descriptor in descriptors.take(MAX_DESCRIPTORS) {
                let Ok(link) = fs::read_link(descriptor.path()) else { continue };
                let inode =
                    link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
                if let Some(inode) = inode.filter(|inode| wanted.remove(inode)) {
                    owners.insert(inode, self.process(pid));
                }
            }
            if wanted.is_empty() {
                break;
            }
        }
        owners
    }

    fn process(&self, pid: u32) -> NetworkEvent {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        // Behind the last bracket of the name, which may hold anything, the start time is the 20th field.
        let stat = read("stat");
        let start = stat.and_then(|stat| stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok());
        NetworkEvent {
            process_key: start.map(|start| process_key(&self.boot_id, pid, start)),
            pid: Some(pid),
            name: read("comm").map(|name| name.trim_end().to_owned()),
            executable_path: fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| path.display().to_string()),
            ..NetworkEvent::default()
        }
    }
}

fn settings_in(settings: &str) -> Result<Settings, String> {
    let settings: serde_json::Map<_, _> = serde_json::from_str(settings).map_err(|error| error.to_string())?;
    let mut taken = Settings { interval: 1_000, hash_listeners: false };
    for (name, value) in settings {
        match name.as_str() {
            "interval_ms" => {
                let interval = value.as_u64().filter(|ms| (10..=3_600_000).contains(ms));
                taken.interval = interval.ok_or("interval_ms is from 10 to 3600000")?;
            }
            "hash_listeners" => taken.hash_listeners = value.as_bool().ok_or("hash_listeners is true or false")?,
            _ => return Err("the settings are interval_ms and hash_listeners".into()),
        }
    }
    Ok(taken)
}

fn main() -> ExitCode {
    collector_core::main(env!("CARGO_PKG_VERSION"), |_| {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Box::new(Connections { boot_id }))
    })
}
