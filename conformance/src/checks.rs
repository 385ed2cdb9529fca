//! The checks, each a function that starts the program anew.

use crate::Subject;
use crate::agent::{Agent, PLENTY};
use crate::answers::answers;
use crate::fault::{Fault, require};
use crate::link::{Said, decode};
use crate::protocol::bus::RpcStatus;
use crate::protocol::ipc::collected_item::Item;
use crate::protocol::ipc::{
    CollectedItem, ColumnKind, DetectionResult, DetectionTask, Feature, Instructions, RegisterCollector, TaskType,
};
use crate::run::{Run, ordinary};
use crate::wire::frame;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::time::Duration;

/// A check, and what it is about.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What must hold.
    pub about: &'static str,
    run: fn(&Subject) -> Result<(), Fault>,
}

const fn check(name: &'static str, about: &'static str, run: fn(&Subject) -> Result<(), Fault>) -> Check {
    Check { name, about, run }
}

/// Every check, in the order in which they run.
pub const CHECKS: &[Check] = &[
    check("hello", "it connects and says who it is, with the token from its standard input", hello),
    check("registration", "it registers before anything else, and says what an agent needs to know", registration),
    check("schema", "the domains, tables, columns and tasks that it registers are well formed", schema),
    check("events", "its events come on its own topics, decodable, in sequence", events),
    check("flow", "it publishes no more batches than it has credit for", flow),
    check(
        "replay",
        "after a lost connection it comes back with its session key and tells again what was not acknowledged",
        replay,
    ),
    check("trim", "what the agent has committed is not told again", trim),
    check("restart", "what was published and not acknowledged outlives kill -9", restart),
    check("status", "it tells its status in time", status),
    check("pause", "paused it tells nothing, and afterwards that it was paused", pause),
    check("settings", "it answers to new settings, and refuses what it does not know", settings),
    check("tasks", "it answers the tasks that it registers, serves no others, and survives what is no task", tasks),
    check("answers", "its answers to tasks are right, as far as the suite knows what is", answers),
    check("garbage", "garbage on the connection makes it come back, and nothing else", garbage),
    check("shutdown", "asked to end it tells all that it has seen, and ends with code 0", shutdown),
    check("signal", "SIGTERM ends it with code 0", signal),
];

/// Batches that it may publish where it is to be short of credit.
const CREDIT: u64 = 2;
/// From a request to end until the agent kills.
const GRACE: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_secs(1);
const DOMAINS: [&str; 6] = ["process", "network", "filesystem", "performance", "security", "trigger"];
const MAX_FEATURES: usize = 24;
const MAX_FEATURE_NAME: usize = 32;
/// The tables that collectors can fill, each with its domain.
const TABLES: [(&str, &str); 9] = [
    ("processes", "process"),
    ("processes.current", "process"),
    ("processes.events", "process"),
    ("processes.ancestors", "process"),
    ("processes.snapshots", "process"),
    ("network.connections", "network"),
    ("filesystem.events", "filesystem"),
    ("performance.samples", "performance"),
    ("security.events", "security"),
];

/// Runs every check.
pub fn run(subject: &Subject) -> Vec<(&'static str, Result<(), Fault>)> {
    CHECKS.iter().map(|check| (check.name, check.judge(subject))).collect()
}

impl Check {
    /// Runs this check alone.
    ///
    /// # Errors
    /// The first thing that is not as it should be.
    pub fn judge(&self, subject: &Subject) -> Result<(), Fault> {
        (self.run)(subject)
    }
}

fn hello(subject: &Subject) -> Result<(), Fault> {
    Agent::start(subject)?.welcome().map(drop)
}

fn registration(subject: &Subject) -> Result<(), Fault> {
    let mut agent = Agent::start(subject)?;
    let mut link = agent.welcome()?;
    let (_, register) = link.registration()?;
    let RegisterCollector { collector, mode, epoch, run, next_sequence, pid, started, .. } = &register;
    let name = &subject.name;
    require(collector == name, || format!("it registers as {collector:?}, not as {name:?}"))?;
    require(epoch.len() == 16, || format!("its epoch has {} bytes, not 16", epoch.len()))?;
    require(run.len() == 16, || format!("its run has {} bytes, not 16", run.len()))?;
    require(*next_sequence >= 1, || "next_sequence is 0; sequences begin at 1".to_owned())?;
    require(*pid == agent.pid(), || format!("it registers the pid {pid}; it runs as {}", agent.pid()))?;
    require(!mode.is_empty(), || "it does not say in which mode it observes".to_owned())?;
    require(*started > 0, || "it does not say when it started".to_owned())?;
    for kind in ["collector", "shutdown", "config"] {
        let topic = format!("control.{kind}.{name}");
        require(link.subscribed.contains(&topic), || format!("it registers before it has subscribed to {topic}"))?;
    }
    Ok(())
}

fn schema(subject: &Subject) -> Result<(), Fault> {
    let run = Run::start(subject)?;
    let Some(own) = &run.register.capabilities else { return Err(Fault::new("it registers no capabilities")) };
    require(!own.domains.is_empty(), || "it registers no domain".to_owned())?;
    for domain in &own.domains {
        require(DOMAINS.contains(&domain.as_str()), || {
            format!("there is no domain {domain:?}: {}", DOMAINS.join(", "))
        })?;
    }
    let mut tables = BTreeSet::new();
    for table in &own.tables {
        let name = &table.table;
        require(tables.insert(name), || format!("the table {name:?} is registered twice"))?;
        let Some((_, domain)) = TABLES.iter().find(|(own, _)| own == name) else {
            return Err(Fault::new(format!("collectors cannot fill the table {name:?}")));
        };
        require(own.domains.iter().any(|own| own == domain), || {
            format!("the table {name:?} is registered without its domain {domain:?}")
        })?;
        let mut columns = BTreeSet::new();
        for column in &table.columns {
            require(!column.name.is_empty(), || format!("the table {name:?} has a column without a name"))?;
            require(columns.insert(&column.name), || {
                format!("the table {name:?} has the column {:?} twice", column.name)
            })?;
            require(ColumnKind::try_from(column.kind).is_ok(), || {
                format!("the column {:?} of {name:?} is of kind {}, which there is not", column.name, column.kind)
            })?;
        }
    }
    for task in &own.tasks {
        require(TaskType::try_from(*task).is_ok(), || format!("there is no task type {task}"))?;
    }
    features(&run.register.features, &own.domains)
}

/// What it says of its parts.
fn features(features: &[Feature], domains: &[String]) -> Result<(), Fault> {
    require(features.len() <= MAX_FEATURES, || format!("it has more than {MAX_FEATURES} features"))?;
    let mut names = BTreeSet::new();
    for Feature { name, available, reason, tables } in features {
        let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        require((1..=MAX_FEATURE_NAME).contains(&name.len()) && name.bytes().all(is_plain), || {
            format!("the feature {name:?} has no name of up to {MAX_FEATURE_NAME} of a-z, 0-9, _ and -")
        })?;
        require(names.insert(name), || format!("the feature {name:?} is registered twice"))?;
        require(*available || !reason.is_empty(), || format!("it does not say why it lacks the feature {name:?}"))?;
        for table in tables {
            let domain = TABLES.iter().find(|(own, _)| own == table).map(|(_, domain)| *domain);
            require(domain.is_some_and(|domain| domains.iter().any(|own| own == domain)), || {
                format!("the feature {name:?} feeds the table {table:?}, which is of none of its domains")
            })?;
        }
    }
    Ok(())
}

fn events(subject: &Subject) -> Result<(), Fault> {
    Run::start(subject)?.read(5, true)
}

fn flow(subject: &Subject) -> Result<(), Fault> {
    let mut run = Run::start_with_credit(subject, CREDIT)?;
    run.until("as many batches as it has credit for", true, |run| run.batches >= CREDIT as usize)?;
    // Long enough for one that does not wait to show it.
    run.read_for(QUIET * 3, true)?;
    run.link.grant(PLENTY);
    run.read(2, true).map_err(|fault| Fault::new(format!("with new credit: {fault}")))
}

fn replay(subject: &Subject) -> Result<(), Fault> {
    let mut run = Run::start(subject)?;
    run.read(3, false)?;
    let known = run.told.clone();
    run.again(None)?;
    // What is told again is compared with what was told before.
    run.told.clear();
    run.read(known.len(), false).map_err(|fault| Fault::new(format!("after the lost connection: {fault}")))?;
    for (sequence, bytes) in &known {
        let again = run.told.get(sequence);
        require(again == Some(bytes), || format!("sequence {sequence} was told again with another content"))?;
    }
    run.link.acknowledge(&run.register.epoch, run.last());
    run.read(1, true)
}

fn trim(subject: &Subject) -> Result<(), Fault> {
    let mut run = Run::start(subject)?;
    run.read(4, false)?;
    let through = run.last() - 1;
    run.again(Some(through))?;
    run.read(2, true).map_err(|fault| Fault::new(format!("sequence {through} is committed: {fault}")))
}

fn restart(subject: &Subject) -> Result<(), Fault> {
    let mut run = Run::start(subject)?;
    run.read(3, false)?;
    run.agent.kill()?;
    // What it had published just before its end.
    run.read_for(QUIET, false)?;
    run.agent.spawn()?;
    run.again(None)?;
    run.read(2, true).map_err(|fault| Fault::new(format!("after kill -9: {fault}")))
}

fn status(subject: &Subject) -> Result<(), Fault> {
    let mut run = Run::start(subject)?;
    run.until("its status", true, |run| run.status.is_some())?;
    run.status = None;
    run.until("its next status, 200 ms later", true, |run| run.status.is_some())
}

fn pause(subject: &Subject) -> Result<(), Fault> {
    let mut run = Run::start(subject)?;
    run.read(1, true)?;
    run.link.instruct(&Instructions { paused: true, ..ordinary(subject) });
    run.until("its status to say that it is paused", true, |run| run.status.as_ref().is_some_and(|own| own.paused))?;
    // What it saw before may still be on its way.
    run.read_for(QUIET, true)?;
    let before = run.told.len();
    run.read_for(QUIET, true)?;
    require(run.told.len() == before, || format!("paused it told {} items", run.told.len() - before))?;
    run.link.instruct(&ordinary(subject));
    run.read(1, true).map_err(|fault| Fault::new(format!("resumed: {fault}")))?;
    let is_gap = |bytes: &Vec<u8>| {
        let item = decode::<CollectedItem>("an item", bytes);
        matches!(item.map(|item| item.item), Ok(Some(Item::Gap(gap))) if gap.kind == "paused" && gap.to.is_some())
    };
    run.until("a gap of kind \"paused\"", true, |run| run.told.values().any(is_gap))
}

fn settings(subject: &Subject) -> Result<(), Fault> {
    let mut run = Run::start(subject)?;
    run.until("its answer to its settings", true, |run| {
        run.status.as_ref().is_some_and(|own| own.settings_version == 1)
    })?;
    let refusal = run.status.as_ref().map(|own| own.settings_refused.clone()).unwrap_or_default();
    require(refusal.is_empty(), || format!("it refuses its settings: {refusal}"))?;
    let unknown = "{\"no-collector-has-this-setting\":1}".to_owned();
    run.link.instruct(&Instructions { version: 2, settings: unknown, ..ordinary(subject) });
    run.until("its answer to new settings", true, |run| {
        run.status.as_ref().is_some_and(|own| own.settings_version == 2)
    })?;
    let refusal = run.status.as_ref().map(|own| own.settings_refused.clone()).unwrap_or_default();
    require(!refusal.is_empty(), || "it takes settings that it cannot know".to_owned())?;
    run.read(1, true)
}

fn tasks(subject: &Subject) -> Result<(), Fault> {
    let mut run = Run::start(subject)?;
    run.read(1, true)?;
    let topic = format!("tasks.{}", subject.name);
    let registered = run.register.capabilities.clone().unwrap_or_default().tasks;
    let serves = run.link.served.contains(&topic);
    if registered.is_empty() {
        return require(!serves, || format!("it serves {topic}, and has registered no task"));
    }
    require(serves, || format!("it registers tasks, and does not serve {topic}"))?;
    let id = run.link.call(&topic, b"\xff\xff\xff".to_vec());
    let answer = response(&mut run, id, "to what is no task")?;
    require(answer.0 == RpcStatus::RpcError, || {
        "it answers what is no task with something else than an error".to_owned()
    })?;
    for kind in registered {
        let task = DetectionTask { task_id: format!("check-{kind}"), task_type: kind, ..DetectionTask::default() };
        let id = run.link.call(&topic, prost::Message::encode_to_vec(&task));
        let (status, body) = response(&mut run, id, &format!("to a task of type {kind}"))?;
        if status == RpcStatus::RpcOk {
            let result: DetectionResult = decode("its result", &body)?;
            require(result.task_id == task.task_id, || format!("its result is of the task {:?}", result.task_id))?;
        }
    }
    Ok(())
}

/// The last part of the answer to a call.
fn response(run: &mut Run, id: u64, to: &str) -> Result<(RpcStatus, Vec<u8>), Fault> {
    let epoch = run.register.epoch.clone();
    let patience = run.link.patience;
    run.link.wait_for(&format!("its answer {to}"), patience, |link, said| match said {
        Said::Response(response) if response.correlation_id == id && !response.more => {
            Ok(Some((response.status(), response.message)))
        }
        Said::Batch(_, batch) => {
            link.acknowledge(&epoch, batch.first_sequence + batch.items.len() as u64 - 1);
            Ok(None)
        }
        _ => Ok(None),
    })
}

fn garbage(subject: &Subject) -> Result<(), Fault> {
    let mut wrong = frame(b"\x0a\x01x");
    wrong[4] ^= 1;
    let frames = [
        ("a frame with a wrong checksum", wrong),
        ("a frame over the limit", vec![0xff; 64]),
        ("a frame that holds no message", frame(&[0xff; 32])),
    ];
    let mut run = Run::start(subject)?;
    run.read(1, false)?;
    for (what, bytes) in frames {
        run.link.send_bytes(&bytes);
        let closed = !run.read_for(run.link.patience, false)?;
        require(closed, || format!("{what}: it does not close the connection"))?;
        come_back(&mut run, what)?;
    }
    run.link.control_bytes("collector", vec![0xff; 16]);
    // It may go on, or come back: what matters is that it does one of both.
    if run.read_for(QUIET, false)? {
        run.link.acknowledge(&run.register.epoch, run.last());
        return run.read(1, true).map_err(|fault| Fault::new(format!("an acknowledgement that is none: {fault}")));
    }
    come_back(&mut run, "an acknowledgement that is none")
}

fn come_back(run: &mut Run, after: &str) -> Result<(), Fault> {
    if let Some(status) = run.agent.ended()? {
        return Err(Fault::new(format!("{after}: it ended ({status})")));
    }
    run.again(None).map(drop).map_err(|fault| Fault::new(format!("{after}: {fault}")))
}

fn shutdown(subject: &Subject) -> Result<(), Fault> {
    let mut run = Run::start(subject)?;
    run.read(2, true)?;
    run.link.shut_down();
    end(&mut run, "asked to end")?;
    // What it saw and did not tell is what the next run tells first.
    let through = run.last();
    run.agent.spawn()?;
    let started = run.again(Some(through))?.started;
    run.read(1, true).map_err(|fault| Fault::new(format!("started again: {fault}")))?;
    for (sequence, bytes) in run.told.range(through + 1..) {
        let seen = time_of(&decode("an item", bytes)?);
        require(seen.is_none_or(|seen| seen >= started), || {
            format!("it told through {through} and ended; item {sequence} was seen before its end and kept back")
        })?;
    }
    Ok(())
}

/// When an item was seen.
fn time_of(item: &CollectedItem) -> Option<i64> {
    match item.item.as_ref()? {
        Item::Process(event) => Some(event.event_time),
        Item::Network(event) => Some(event.event_time),
        Item::Filesystem(event) => Some(event.event_time),
        Item::Performance(sample) => Some(sample.event_time),
        Item::Security(event) => Some(event.event_time),
        Item::Trigger(trigger) => Some(trigger.requested_at),
        Item::Scan(scan) => Some(scan.finished),
        Item::Gap(gap) => gap.to,
        Item::Snapshot(part) => part.processes.last().map(|process| process.collection_time),
    }
}

fn signal(subject: &Subject) -> Result<(), Fault> {
    let mut run = Run::start(subject)?;
    run.read(1, true)?;
    run.agent.signal(Signal::TERM)?;
    end(&mut run, "on SIGTERM")
}

/// Serves it to its end.
fn end(run: &mut Run, when: &str) -> Result<(), Fault> {
    let mut fault = None;
    let mut status = run.agent.ended()?;
    let until = std::time::Instant::now() + GRACE;
    while status.is_none() && fault.is_none() {
        require(std::time::Instant::now() < until, || format!("{when}: it still runs after {GRACE:?}"))?;
        fault = run.read_for(Duration::from_millis(20), true).err();
        status = run.agent.ended()?;
    }
    // What it had published before its end.
    fault = fault.or_else(|| run.read_for(Duration::from_millis(100), true).err());
    match (fault, status) {
        (Some(fault), _) => Err(Fault::new(format!("{when}: {fault}"))),
        (None, Some(status)) => {
            require(status.success(), || format!("{when}: it ended with {status}, not with code 0"))
        }
        (None, None) => Err(Fault::new(format!("{when}: it did not end"))),
    }
}
