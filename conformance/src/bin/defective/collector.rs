//! The collector: one thread that reads, sees and publishes in turns.

use crate::Defect;
use crate::spool::Spool;
use crate::tasks;
use daemoneye_conformance::protocol::bus::control_payload::Control;
use daemoneye_conformance::protocol::bus::event_bus_message::Payload;
use daemoneye_conformance::protocol::bus::{
    CollectionEventPayload, ControlPayload, EventBusMessage, Hello, Role, RpcRequestPayload, Subscribe,
};
use daemoneye_conformance::protocol::common::NetworkEvent;
use daemoneye_conformance::protocol::ipc::collected_item::Item;
use daemoneye_conformance::protocol::ipc::{
    BatchAck, CollectedItem, CollectionCapabilities, CollectorStatus, ColumnSchema, EventBatch, Feature, Gap,
    Instructions, RegisterCollector, RegisterReply, ScanSummary, TableSchema,
};
use daemoneye_conformance::wire::{Wire, WireError};
use prost::Message;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const EVERY: Duration = Duration::from_millis(20);
const WINDOW: usize = 4;

pub(crate) struct Start {
    pub(crate) defect: Option<Defect>,
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) token: Vec<u8>,
}

pub(crate) struct Collector {
    start: Start,
    spool: Spool,
    stop: Arc<AtomicBool>,
    instructions: Instructions,
    refusal: String,
    paused_since: Option<i64>,
    seen: Instant,
    told_status: Instant,
    scan_id: u64,
}

/// What is known of one connection.
struct Session {
    wire: Wire,
    registered: bool,
    /// Batches under way, by their last sequence.
    window: Vec<u64>,
    /// Through which sequence was published here.
    published: u64,
    batches: u64,
    /// How many batches may be published here.
    credit: u64,
}

impl Collector {
    pub(crate) fn open(start: Start) -> io::Result<Self> {
        fs::create_dir_all(&start.dir)?;
        let spool = Spool::open(&start.dir, start.defect != Some(Defect::Forgetful))?;
        let stop = Arc::new(AtomicBool::new(false));
        if start.defect != Some(Defect::Abrupt) {
            on_sigterm(Arc::clone(&stop));
        }
        let instructions = Instructions { status_interval_ms: 1_000, ..Instructions::default() };
        let (now, refusal) = (Instant::now(), String::new());
        Ok(Self {
            start,
            spool,
            stop,
            instructions,
            refusal,
            paused_since: None,
            seen: now,
            told_status: now,
            scan_id: 0,
        })
    }

    fn is(&self, defect: Defect) -> bool {
        self.start.defect == Some(defect)
    }

    /// Until it is told to stop.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let connected = UnixStream::connect(&self.start.socket).map(Wire::new);
            let ended = match connected {
                Ok(wire) => self.converse(wire),
                Err(_) => Err(WireError::Closed),
            };
            match ended {
                Ok(()) => return Ok(()),
                Err(WireError::Garbage(what)) if self.is(Defect::Fragile) => return Err(io::Error::other(what)),
                Err(_) => {}
            }
            if self.is(Defect::Forgets) {
                self.spool.items.clear();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn converse(&mut self, mut wire: Wire) -> Result<(), WireError> {
        self.hello(&mut wire)?;
        let mut session = Session { wire, registered: false, window: Vec::new(), published: 0, batches: 0, credit: 0 };
        if self.is(Defect::Hasty) {
            self.store(b"\x12\x00".to_vec())?;
            self.publish(&mut session)?;
        }
        self.register(&mut session.wire)?;
        loop {
            if let Some(message) = session.wire.receive(Duration::from_millis(5))? {
                self.hear(&mut session, message)?;
            }
            self.look()?;
            if self.stop.load(Ordering::Relaxed) {
                return self.end(session);
            }
            if session.registered {
                self.publish(&mut session)?;
            }
            if session.registered && !self.is(Defect::Silent) {
                self.tell_status(&mut session.wire)?;
            }
        }
    }

    fn hello(&self, wire: &mut Wire) -> Result<(), WireError> {
        let session_key = fs::read(self.key_file()).unwrap_or_default();
        let token = if session_key.is_empty() { self.start.token.clone() } else { Vec::new() };
        let name = if self.is(Defect::WrongName) { "somebody".to_owned() } else { self.start.name.clone() };
        let hello = Hello { protocol: 1, role: Role::Collector.into(), name, token, session_key };
        send(wire, "", control(Control::Hello(hello)))?;
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            let Some(message) = wire.receive(Duration::from_millis(100))? else { continue };
            let Some(Payload::Control(ControlPayload { control: Some(Control::Welcome(welcome)) })) = message.payload
            else {
                return Err(WireError::Closed);
            };
            if !welcome.session_key.is_empty() && fs::write(self.key_file(), &welcome.session_key).is_err() {
                return Err(WireError::Closed);
            }
            return Ok(());
        }
        Err(WireError::Closed)
    }

    fn key_file(&self) -> PathBuf {
        self.start.dir.join("session.key")
    }

    fn register(&self, wire: &mut Wire) -> Result<(), WireError> {
        let name = &self.start.name;
        let mut patterns: Vec<(String, bool)> =
            ["collector", "shutdown", "config"].map(|kind| (format!("control.{kind}.{name}"), false)).into();
        if self.is(Defect::Pushy) || self.does_tasks() {
            // All instances of a collector serve one topic.
            let base = name.split('@').next().unwrap_or(name);
            patterns.push((format!("tasks.{base}"), true));
        }
        for (pattern, serve) in patterns {
            let subscribe = Subscribe { pattern, serve, ..Default::default() };
            send(wire, "", control(Control::Subscribe(subscribe)))?;
        }
        let column = ColumnSchema { name: "pid".to_owned(), kind: 1 };
        let columns = if self.is(Defect::DoubleColumn) { vec![column.clone(), column] } else { vec![column] };
        let table = if self.is(Defect::StrayTable) { "network.connections" } else { "processes" };
        let mut epoch = self.spool.epoch.clone();
        if self.is(Defect::ShortEpoch) {
            epoch.truncate(8);
        }
        let register = RegisterCollector {
            collector: name.clone(),
            version: "1".to_owned(),
            mode: "count".to_owned(),
            started: now(),
            pid: std::process::id(),
            epoch,
            run: vec![1; 16],
            next_sequence: self.spool.next,
            capabilities: Some(CollectionCapabilities {
                domains: vec!["process".to_owned()],
                tasks: if self.does_tasks() { vec![0, 1] } else { Vec::new() },
                tables: vec![TableSchema { table: table.to_owned(), columns }],
            }),
            features: vec![Feature {
                name: "counting".to_owned(),
                available: !self.is(Defect::Speechless),
                ..Feature::default()
            }],
            ..RegisterCollector::default()
        };
        let call = RpcRequestPayload { correlation_id: 1, message: register.encode_to_vec(), ..Default::default() };
        send(wire, "control.collector.register", Payload::RpcRequest(call))
    }

    fn hear(&mut self, session: &mut Session, message: EventBusMessage) -> Result<(), WireError> {
        let unreadable = |what: &str| WireError::Garbage(what.to_owned());
        match (message.topic.split('.').nth(1), message.payload) {
            (_, Some(Payload::RpcResponse(response))) => {
                let reply = RegisterReply::decode(&response.message[..]).map_err(|_| unreadable("a reply"))?;
                session.registered = true;
                let committed = reply.committed.iter().map(|committed| committed.sequence).max().unwrap_or(0);
                if !self.is(Defect::IgnoresCommits) {
                    self.acknowledged(session, committed)?;
                }
                if let Some(wanted) = reply.instructions {
                    self.instruct(wanted)?;
                }
                if self.is(Defect::Renumbers) && !self.spool.items.is_empty() {
                    let items = std::mem::take(&mut self.spool.items);
                    for (_, item) in items {
                        self.store(item)?;
                    }
                }
            }
            (_, Some(Payload::Control(ControlPayload { control: Some(Control::Credit(credit)) }))) => {
                session.credit = session.credit.max(credit.messages);
            }
            (Some(kind), Some(Payload::Control(ControlPayload { control: Some(Control::Message(body)) }))) => {
                match kind {
                    "collector" => {
                        let ack = BatchAck::decode(&body[..]).map_err(|_| unreadable("an acknowledgement"))?;
                        self.acknowledged(session, ack.through_sequence)?;
                    }
                    "config" => {
                        self.instruct(Instructions::decode(&body[..]).map_err(|_| unreadable("instructions"))?)?;
                    }
                    "shutdown" if !self.is(Defect::Deaf) => self.stop.store(true, Ordering::Relaxed),
                    _ => {}
                }
            }
            (_, Some(Payload::RpcRequest(request))) => {
                let response = tasks::answer(self.start.defect, &request);
                send(&mut session.wire, "", Payload::RpcResponse(response))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// With nothing wrong with it, and where what is wrong is its answers.
    fn does_tasks(&self) -> bool {
        self.start.defect.is_none()
            || [Defect::WrongHash, Defect::Unfiltered, Defect::Obliging].into_iter().any(|defect| self.is(defect))
    }

    fn acknowledged(&mut self, session: &mut Session, through: u64) -> Result<(), WireError> {
        session.window.retain(|last| *last > through);
        self.spool.acknowledge(through).map_err(|_| WireError::Closed)
    }

    fn store(&mut self, item: Vec<u8>) -> Result<(), WireError> {
        self.spool.push(item).map_err(|_| WireError::Closed)
    }

    fn instruct(&mut self, wanted: Instructions) -> Result<(), WireError> {
        let empty = matches!(wanted.settings.as_str(), "" | "{}");
        self.refusal = if empty || self.is(Defect::Credulous) { String::new() } else { "no settings".to_owned() };
        if wanted.paused {
            self.paused_since.get_or_insert_with(now);
        } else if let Some(from) = self.paused_since.take() {
            let gap = Gap { kind: "paused".to_owned(), from, to: Some(now()), ..Gap::default() };
            self.store(CollectedItem { item: Some(Item::Gap(gap)) }.encode_to_vec())?;
        }
        self.instructions = wanted;
        Ok(())
    }

    /// Sees something, when it is time.
    fn look(&mut self) -> Result<(), WireError> {
        if self.seen.elapsed() < EVERY || (self.instructions.paused && !self.is(Defect::Restless)) {
            return Ok(());
        }
        self.seen = Instant::now();
        self.scan_id += 1;
        let scan = ScanSummary { scan_id: self.scan_id, started: now(), finished: now(), ..ScanSummary::default() };
        let item = CollectedItem { item: Some(Item::Scan(scan)) }.encode_to_vec();
        let trespass = self.is(Defect::Trespasser) && self.scan_id == 3;
        let event = Item::Network(NetworkEvent { event_time: now(), ..NetworkEvent::default() });
        let item = if trespass { CollectedItem { item: Some(event) }.encode_to_vec() } else { item };
        let item = if self.is(Defect::Undecodable) { vec![0xff; 8] } else { item };
        if self.is(Defect::Holes) && self.scan_id.is_multiple_of(4) {
            self.spool.next += 1;
        }
        self.store(item)
    }

    fn publish(&self, session: &mut Session) -> Result<(), WireError> {
        let has_room = session.window.len() < WINDOW && session.batches < session.credit;
        let has_room = has_room || self.is(Defect::Flood) || !session.registered;
        let Some((first, _)) = self.spool.items.iter().find(|(sequence, _)| *sequence > session.published) else {
            return Ok(());
        };
        if !has_room {
            return Ok(());
        }
        // A run of consecutive numbers.
        let mut last = first - 1;
        let mut items = Vec::new();
        for (sequence, item) in self.spool.items.iter().filter(|(sequence, _)| sequence >= first) {
            if *sequence != last + 1 || items.len() == 2 {
                break;
            }
            last = *sequence;
            items.push(item.clone());
        }
        let batch = EventBatch {
            collector: self.start.name.clone(),
            epoch: self.spool.epoch.clone(),
            first_sequence: *first,
            items,
        };
        session.published = last;
        session.window.push(last);
        session.batches += 1;
        let name = if self.is(Defect::ForeignTopic) { "procmond-2" } else { &self.start.name };
        let event = CollectionEventPayload { message: batch.encode_to_vec() };
        send(&mut session.wire, &format!("events.process.{name}"), Payload::CollectionEvent(event))
    }

    fn tell_status(&mut self, wire: &mut Wire) -> Result<(), WireError> {
        if self.told_status.elapsed() < Duration::from_millis(self.instructions.status_interval_ms) {
            return Ok(());
        }
        self.told_status = Instant::now();
        let status = CollectorStatus {
            settings_version: self.instructions.version,
            settings_refused: self.refusal.clone(),
            paused: self.instructions.paused,
            ..CollectorStatus::default()
        };
        let topic = format!("control.health.{}", self.start.name);
        send(wire, &topic, control(Control::Message(status.encode_to_vec())))
    }

    /// Tells what is left, and waits for the last acknowledgement.
    fn end(&mut self, mut session: Session) -> Result<(), WireError> {
        if self.is(Defect::KeepsBack) {
            let scan = ScanSummary { scan_id: self.scan_id + 1, finished: now(), ..ScanSummary::default() };
            self.store(CollectedItem { item: Some(Item::Scan(scan)) }.encode_to_vec())?;
            return Ok(());
        }
        let until = Instant::now() + Duration::from_secs(2);
        while !self.spool.items.is_empty() && Instant::now() < until {
            self.publish(&mut session)?;
            if let Some(message) = session.wire.receive(Duration::from_millis(5))? {
                self.hear(&mut session, message)?;
            }
        }
        Ok(())
    }
}

fn control(control: Control) -> Payload {
    Payload::Control(ControlPayload { control: Some(control) })
}

fn send(wire: &mut Wire, topic: &str, payload: Payload) -> Result<(), WireError> {
    wire.send(&EventBusMessage { topic: topic.to_owned(), payload: Some(payload), sender: None })
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Waits for the signal on a thread of its own.
fn on_sigterm(stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            if let Ok(mut signal) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                signal.recv().await;
                stop.store(true, Ordering::Relaxed);
            }
        });
    });
}
