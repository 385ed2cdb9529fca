//! procmond with an agent that takes everything: what is told of real processes, also over procmond's own end.

use crate::program::procmond;
use daemoneye_eventbus::proto::ControlPayload;
use daemoneye_eventbus::proto::control_payload::Control;
use daemoneye_eventbus::{BindError, Broker, BrokerConfig, CallError, Client, Payload, Requests, Subscription, Token};
use daemoneye_lib::models::key::process_key;
use daemoneye_lib::proto::common::{EventType, ProcessRecord};
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::proto::ipc::{
    BatchAck, CollectedItem, DetectionResult, DetectionTask, EventBatch, ExecutableReport, HashCheck, ProcessFilter,
    ProcessSnapshot, RegisterCollector, RegisterReply, RequestError, ScanSummary, TaskType,
};
use prost::Message as _;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use testkit::{Child, Signal};
use tokio::task::JoinHandle;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Agent {
    client: Client,
    broker: JoinHandle<()>,
    registrations: Requests,
    events: Subscription,
    pub(crate) registered: Vec<RegisterCollector>,
    /// In the order in which they came, without repetition.
    pub(crate) items: Vec<Item>,
    /// The next sequence of each epoch.
    next: Vec<(Vec<u8>, u64)>,
}

impl Agent {
    /// An agent on `<dir>/data/run/agent.sock`, and a token for procmond.
    pub(crate) async fn start(dir: &Path) -> (Self, Token) {
        let config = BrokerConfig::new(dir.join("data/run/agent.sock"), dir.join("sessions"));
        let deadline = Instant::now() + PATIENCE;
        let broker = loop {
            match Broker::bind(config.clone()) {
                // A child of another test holds all that is open here, a lock as well, until it runs its program.
                Err(BindError::InUse { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                bound => break bound.unwrap(),
            }
        };
        let (client, gate) = (broker.local("test"), broker.gate());
        let broker = tokio::spawn(async { broker.run(std::future::pending()).await.unwrap() });
        let registrations = client.serve("control.collector.register").await.unwrap();
        let events = client.subscribe("events.process.procmond").await.unwrap();
        let token = gate.issue_token("procmond").unwrap();
        let (registered, items, next) = (Vec::new(), Vec::new(), Vec::new());
        (Self { client, broker, registrations, events, registered, items, next }, token)
    }

    /// Takes and acknowledges what comes until an item is what is waited for; answers its place.
    pub(crate) async fn until(&mut self, what: &str, is_it: impl Fn(&Item) -> bool) -> usize {
        let (mut looked_at, deadline) = (0, Instant::now() + PATIENCE);
        loop {
            if let Some(at) = self.items[looked_at..].iter().position(&is_it) {
                return looked_at + at;
            }
            looked_at = self.items.len();
            let step = tokio::time::timeout(deadline - Instant::now(), self.step()).await;
            assert!(step.is_ok(), "waited in vain for {what}");
        }
    }

    async fn step(&mut self) {
        tokio::select! {
            Some(request) = self.registrations.recv() => {
                self.registered.push(RegisterCollector::decode(&request.body[..]).unwrap());
                request.respond(RegisterReply::default().encode_to_vec()).await;
            }
            Some(message) = self.events.recv() => {
                let Some(Payload::CollectionEvent(event)) = message.payload else { panic!("no events") };
                let batch = EventBatch::decode(&event.message[..]).unwrap();
                self.take(batch).await;
            }
        }
    }

    async fn take(&mut self, batch: EventBatch) {
        let known = self.next.iter().position(|(epoch, _)| *epoch == batch.epoch).unwrap_or_else(|| {
            self.next.push((batch.epoch.clone(), 0));
            self.next.len() - 1
        });
        let next = &mut self.next[known].1;
        for (sequence, item) in (batch.first_sequence..).zip(&batch.items) {
            if sequence >= *next {
                *next = sequence + 1;
                self.items.extend(CollectedItem::decode(&item[..]).unwrap().item);
            }
        }
        let ack = BatchAck { epoch: batch.epoch, through_sequence: *next - 1 };
        let control = Some(Control::Message(ack.encode_to_vec()));
        let payload = Payload::Control(ControlPayload { control });
        self.client.publish("control.collector.procmond", payload).await.unwrap();
    }

    /// The events of the process with this pid.
    fn events_of(&self, pid: u32) -> Vec<(EventType, &ProcessRecord)> {
        fn event(item: &Item) -> Option<(EventType, &ProcessRecord)> {
            let Item::Process(event) = item else { return None };
            Some((event.event_type(), event.process.as_ref()?))
        }
        self.items.iter().filter_map(event).filter(|(_, record)| record.pid == pid).collect()
    }
}

/// Whether it is the event of this type of the process with this pid.
pub(crate) fn is(event_type: EventType, pid: u32) -> impl Fn(&Item) -> bool {
    move |item| match item {
        Item::Process(event) => {
            event.event_type() == event_type && event.process.as_ref().is_some_and(|record| record.pid == pid)
        }
        _ => false,
    }
}

fn scanning(dir: &Path, token: &str) -> Child {
    scanning_with(dir, token, &[])
}

pub(crate) fn scanning_with(dir: &Path, token: &str, variables: &[(&str, &str)]) -> Child {
    let mut command = procmond(dir);
    // Scans alone, which tests can count; what the kernel tells is tested with the real agent.
    command.env("PROCMOND_PROCMOND__SOURCE", "poll");
    command.env("PROCMOND_APP__SCAN_INTERVAL_MS", "100").env("PROCMOND_APP__MAX_SCAN_CPU", "100");
    command.envs(variables.iter().copied());
    Child::spawn_with_input(command, format!("{token}\n").as_bytes()).unwrap()
}

fn shell(script: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Child::spawn(command).unwrap()
}

#[tokio::test]
async fn a_process_is_seen_changes_and_ends_under_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    let procmond = scanning(dir.path(), &token.to_string());
    agent.until("the first scan", |item| matches!(item, Item::Scan(scan) if scan.full)).await;
    let registered = &agent.registered[0];
    assert_eq!((registered.mode.as_str(), registered.pid), ("poll", procmond.pid()));

    let child = shell("sleep 1; exec sleep 60");
    let pid = child.pid();
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let key = process_key(&boot_id, pid, testkit::start_ticks(pid).unwrap());
    agent.until("the shell", is(EventType::Seen, pid)).await;
    let is_sleep = |item: &Item| match item {
        Item::Process(event) => event.process.as_ref().is_some_and(|record| record.name.as_deref() == Some("sleep")),
        _ => false,
    };
    let becomes = is(EventType::Changed, pid);
    agent.until("its second program", |item| becomes(item) && is_sleep(item)).await;
    drop(child);
    agent.until("its end", is(EventType::Exit, pid)).await;

    let events = agent.events_of(pid);
    let [(EventType::Seen, seen), changes @ .., (EventType::Exit, exit)] = &events[..] else { panic!("{events:?}") };
    for (_, record) in &events {
        assert_eq!(record.process_key, key);
        assert_eq!(record.parent_key, seen.parent_key);
        assert_eq!(record.start_time, seen.start_time);
    }
    // Before it runs its first program it is what it was forked from; a scan may meet it then.
    let told = [seen].into_iter().chain(changes.iter().map(|(_, record)| record));
    let names: Vec<_> = told.filter_map(|record| record.name.as_deref()).collect();
    assert!(names.ends_with(&["sh", "sleep"]), "{names:?}");
    assert_eq!((exit.name.as_deref(), exit.command_line.as_deref()), (Some("sleep"), Some("sleep 60")));
    assert!(exit.end_time > exit.start_time);
}

#[tokio::test]
async fn after_a_kill_only_what_is_different_is_told_behind_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    let (stays, ends) = (shell("sleep 60; :"), shell("sleep 60; :"));
    let procmond = scanning(dir.path(), &token.to_string());
    agent.until("the process that ends", is(EventType::Seen, ends.pid())).await;
    // What was told before a scan is remembered before the next one.
    agent.until("the third scan", |item| matches!(item, Item::Scan(scan) if scan.scan_id == 3)).await;

    testkit::kill9(procmond.pid()).unwrap();
    drop(procmond);
    let ended = ends.pid();
    drop(ends);
    let new = shell("sleep 60; :");
    // The token is used up: the session key is what it comes back with.
    let _procmond = scanning(dir.path(), "");
    let gap = agent.until("the gap", |item| matches!(item, Item::Gap(_))).await;
    let exit = agent.until("the end in between", is(EventType::Exit, ended)).await;
    let seen = agent.until("the beginning in between", is(EventType::Seen, new.pid())).await;
    assert!(gap < seen && gap < exit, "{gap} {seen} {exit}");
    let Item::Gap(gap) = &agent.items[gap] else { panic!("a gap") };
    assert_eq!((gap.kind.as_str(), gap.reason.as_str()), ("collector_down", "procmond ended without a clean stop"));
    assert!(gap.to > Some(gap.from) && gap.count.is_none());
    let told: Vec<_> = agent.events_of(stays.pid()).iter().map(|(event_type, _)| *event_type).collect();
    assert_eq!(told, [EventType::Seen], "told once, over the end of who told it");
}

#[tokio::test]
async fn an_agent_whose_store_was_replaced_is_told_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    let stays = shell("sleep 60; :");
    let _procmond = scanning(dir.path(), &token.to_string());
    agent.until("the process", is(EventType::Seen, stays.pid())).await;
    agent.until("the third scan", |item| matches!(item, Item::Scan(scan) if scan.scan_id == 3)).await;
    agent.broker.abort();
    // The socket goes with it.
    assert!(agent.broker.await.unwrap_err().is_cancelled());

    let (mut agent, _) = Agent::start(dir.path()).await;
    agent.until("the process again", is(EventType::Seen, stays.pid())).await;
    let full = agent.until("a whole scan", |item| matches!(item, Item::Scan(scan) if scan.full)).await;
    agent.until("three more scans", |item| matches!(item, Item::Scan(scan) if !scan.full && scan.scan_id > 6)).await;
    let again = agent.items[full + 1..].iter().filter(|item| matches!(item, Item::Scan(scan) if scan.full)).count();
    assert_eq!(again, 0, "once is enough");
    let [first, second] = &agent.registered[..] else { panic!("{} registrations", agent.registered.len()) };
    assert_ne!(first.epoch, second.epoch);
}

#[tokio::test]
async fn what_events_told_is_told_again_by_a_whole_scan_where_the_store_was_replaced() {
    if !testkit::require("root", testkit::is_root(), "listens to the kernel") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    let settings = [("PROCMOND_PROCMOND__SOURCE", "auto"), ("PROCMOND_PROCMOND__RECONCILE_INTERVAL_MS", "1000")];
    let _procmond = scanning_with(dir.path(), &token.to_string(), &settings);
    agent.until("the first scan", |item| matches!(item, Item::Scan(_))).await;
    let stays = shell("sleep 60; :");
    agent.until("the process", is(EventType::Exec, stays.pid())).await;
    agent.until("another scan", |item| matches!(item, Item::Scan(scan) if !scan.full)).await;
    agent.broker.abort();
    assert!(agent.broker.await.unwrap_err().is_cancelled());

    let (mut agent, _) = Agent::start(dir.path()).await;
    let full = agent.until("a whole scan", |item| matches!(item, Item::Scan(scan) if scan.full)).await;
    assert!(agent.items[..full].iter().any(is(EventType::Seen, stays.pid())), "it is told anew, by that scan");
    let Item::Scan(ScanSummary { scan_id, .. }) = agent.items[full] else { panic!("a scan") };
    agent.until("two more", |item| matches!(item, Item::Scan(scan) if scan.scan_id == scan_id + 2)).await;
    let unannounced = agent.items.iter().find(|item| matches!(item, Item::Gap(gap) if gap.kind == "unannounced"));
    assert_eq!(unannounced, None);
}

#[tokio::test]
async fn another_list_of_variables_is_gone_by_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    let mut procmond = scanning(dir.path(), &token.to_string());
    let start = || {
        let mut command = Command::new("sleep");
        command.arg("60").env_clear().env("LD_AUDIT", "").env("OWN", "1").env("OWN_TOKEN", "2").env("OTHER", "3");
        Child::spawn(command).unwrap()
    };
    let is_sleep = |pid: u32| {
        move |item: &Item| match item {
            // Until it runs its program it is what it was forked from.
            Item::Process(event) => event
                .process
                .as_ref()
                .is_some_and(|process| process.pid == pid && process.command_line.as_deref() == Some("sleep 60")),
            _ => false,
        }
    };
    let environment = |agent: &Agent, at: usize| {
        let Item::Process(event) = &agent.items[at] else { panic!("an event") };
        let variables = event.process.clone().unwrap().environment;
        variables.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    let before = start();
    let at = agent.until("a process", is_sleep(before.pid())).await;
    assert_eq!(environment(&agent, at), ["LD_AUDIT="]);

    std::fs::write(dir.path().join("config.toml"), "procmond.environment = [\"OWN\", \"OWN_TOKEN\"]").unwrap();
    procmond.signal(Signal::HUP).unwrap();
    testkit::wait_for("the new list", PATIENCE, || procmond.stderr().contains("changed=\"procmond.environment\""));
    let after = start();
    let at = agent.until("a process with other variables", is_sleep(after.pid())).await;
    assert_eq!(environment(&agent, at), ["OWN=1", "OWN_TOKEN=***"]);
}

#[tokio::test]
async fn an_executable_in_the_place_of_another_is_told_with_how_unlike_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    let program = dir.path().join("program");
    let install = |from: &str| {
        let new = dir.path().join("new");
        std::fs::copy(from, &new).unwrap();
        std::fs::rename(new, &program).unwrap();
    };
    let start = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments);
        Child::spawn(command).unwrap()
    };
    let of = |pid: u32| {
        move |item: &Item| match item {
            Item::Process(event) => event.process.clone().filter(|process| process.pid == pid),
            _ => None,
        }
    };
    install("/bin/sleep");
    // The host's large executables are not waited for.
    let small = [("PROCMOND_PROCMOND__FUZZY_HASHES", "true"), ("PROCMOND_PROCMOND__HASH_MAX_FILE_BYTES", "1048576")];
    let _procmond = scanning_with(dir.path(), &token.to_string(), &small);
    let first = start(&["60"]);
    let hashed = of(first.pid());
    let has_fuzzy = |item: &Item| hashed(item).is_some_and(|process| process.fuzzy_hash.is_some());
    let at = agent.until("the fuzzy hash", has_fuzzy).await;
    let before = hashed(&agent.items[at]).unwrap();
    let here = dir.path().join("program").to_str().unwrap().to_owned();
    assert_eq!(before.executable_path, Some(here.clone()), "its own image, and not the one that it was forked from");
    assert_eq!(before.provenance["executable_hash"], "scraped: stable while it was read");

    // The same in a new file is an update; a shell is something else.
    install("/bin/sleep");
    let second = start(&["60"]);
    let hashed = of(second.pid());
    let at = agent.until("the update", |item| hashed(item).is_some_and(|it| it.fuzzy_hash.is_some())).await;
    let updated = hashed(&agent.items[at]).unwrap();
    assert_eq!((updated.fuzzy_hash, updated.platform_data.get("fuzzy_similarity")), (before.fuzzy_hash.clone(), None));
    install("/bin/sh");
    let third = start(&["-c", "sleep 60; :"]);
    let (hashed, is_change) = (of(third.pid()), is(EventType::Changed, third.pid()));
    let is_unlike = |item: &Item| {
        is_change(item) && hashed(item).is_some_and(|it| it.platform_data.contains_key("fuzzy_similarity"))
    };
    let at = agent.until("the change", is_unlike).await;
    let unlike = hashed(&agent.items[at]).unwrap();
    assert_eq!(unlike.executable_path, Some(here));
    assert!(unlike.platform_data["fuzzy_similarity"].parse::<u8>().unwrap() < 50);
    assert_eq!(unlike.platform_data.get("fuzzy_previous"), before.fuzzy_hash.as_ref());
    assert_ne!(unlike.fuzzy_hash, before.fuzzy_hash);
    // Whose image was replaced says so, and is no news at its path.
    let replaced = of(first.pid());
    let says_so = |item: &Item| {
        replaced(item).is_some_and(|it| {
            it.provenance.get("executable_hash").is_some_and(|origin| origin.ends_with("another file has its name"))
        })
    };
    let at = agent.until("the replaced image", says_so).await;
    assert_eq!(replaced(&agent.items[at]).unwrap().platform_data.get("fuzzy_similarity"), None);
}

/// What a collector answers to a task, part by part, and why it did not.
async fn answer(client: Client, task: DetectionTask) -> Result<Vec<DetectionResult>, String> {
    let mut parts = client.call_stream("tasks.procmond", task.encode_to_vec(), PATIENCE).await.unwrap();
    let mut whole = Vec::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| match error {
            CallError::Failed(body) => RequestError::decode(&body[..]).unwrap().message,
            other => other.to_string(),
        })?;
        whole.push(DetectionResult::decode(&part[..]).unwrap());
    }
    Ok(whole)
}

#[tokio::test]
async fn an_agent_with_other_rights_learns_nothing_that_lies_out_of_its_reach() {
    if !testkit::require("root", testkit::is_root(), "runs procmond as another user who may read everything") {
        return;
    }
    const SOMEBODY: &str = "54321";
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    // Of a third user's: of what is its own, or everyone's, the agent may be told.
    let private = dir.path().join("private");
    std::fs::create_dir(&private).unwrap();
    let secret = private.join("secret");
    std::fs::copy("/bin/sleep", &secret).unwrap();
    std::os::unix::fs::chown(&private, Some(54_322), None).unwrap();
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&secret, &link).unwrap();

    let own = dir.path().join("procmond");
    std::fs::copy(env!("CARGO_BIN_EXE_procmond"), &own).unwrap();
    let plain = procmond(dir.path());
    let mut command = Command::new("setpriv");
    let rights = "-all,+dac_override";
    command.args(["--reuid", SOMEBODY, "--regid", SOMEBODY, "--clear-groups"]);
    command.args(["--inh-caps", rights, "--ambient-caps", rights, "--"]).arg(own).args(plain.get_args());
    let _procmond = Child::spawn_with_input(command, format!("{token}\n").as_bytes()).unwrap();
    agent.until("the first scan", |item| matches!(item, Item::Scan(scan) if scan.full)).await;

    let ask = |task_type: TaskType, path: &Path| {
        let executable_path = path.to_str().unwrap().to_owned();
        let hash_check = Some(HashCheck { executable_path, ..HashCheck::default() });
        let (task_id, task_type) = ("t".to_owned(), task_type.into());
        answer(agent.client.clone(), DetectionTask { task_id, task_type, hash_check, ..DetectionTask::default() })
    };
    let missing = private.join("missing");
    for path in [&secret, &missing, &link] {
        let why = format!("no file is at {} that the agent's user may look at", path.display());
        assert_eq!(ask(TaskType::CheckProcessHash, path).await, Err(why.clone()));
        let told = ask(TaskType::VerifyExecutable, path).await.unwrap();
        let report = told.iter().find_map(|part| part.executable.clone()).unwrap();
        let wanted = ExecutableReport {
            path: path.to_str().unwrap().to_owned(),
            problems: vec![why],
            ..ExecutableReport::default()
        };
        assert_eq!(report, wanted);
        assert!(told.iter().all(|part| part.hash_result.is_none()));
    }
    let told = ask(TaskType::CheckProcessHash, Path::new("/bin/sleep")).await.unwrap();
    assert!(told.iter().any(|part| part.hash_result.as_ref().is_some_and(|hash| hash.success)), "{told:?}");
}

/// The processes in the snapshot of this scan.
fn snapshot(items: &[Item], scan_id: u64) -> Vec<&ProcessRecord> {
    fn part(item: &Item) -> Option<&ProcessSnapshot> {
        if let Item::Snapshot(part) = item { Some(part) } else { None }
    }
    let parts = items.iter().filter_map(part).filter(|part| part.scan_id == scan_id);
    parts.flat_map(|part| &part.processes).collect()
}

#[tokio::test]
async fn at_intervals_a_scan_is_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    let child = shell("sleep 60; :");
    let interval = [("PROCMOND_PROCMOND__SNAPSHOT_INTERVAL_MS", "1000")];
    let _procmond = scanning_with(dir.path(), &token.to_string(), &interval);
    agent.until("the first snapshot", |item| matches!(item, Item::Scan(scan) if scan.snapshot)).await;
    let plain = agent.until("a scan that is none", |item| matches!(item, Item::Scan(scan) if !scan.snapshot)).await;
    let Item::Scan(plain) = agent.items[plain].clone() else { panic!("a scan") };
    let later = |item: &Item| matches!(item, Item::Scan(scan) if scan.snapshot && scan.scan_id > plain.scan_id);
    let second = agent.until("another snapshot", later).await;

    let Item::Scan(scan) = &agent.items[second] else { panic!("a scan") };
    let told = snapshot(&agent.items[..second], scan.scan_id);
    assert!(told.len() as u32 <= scan.processes && !told.is_empty(), "{} of {}", told.len(), scan.processes);
    let keys: BTreeSet<_> = told.iter().map(|process| &process.process_key).collect();
    assert_eq!(keys.len(), told.len(), "each process once");
    let found = told.iter().find(|process| process.pid == child.pid()).unwrap();
    let (_, seen) = agent.events_of(child.pid())[0];
    assert_eq!((&found.process_key, found.ppid, found.uid), (&seen.process_key, seen.ppid, seen.uid));
    assert_eq!((found.name.as_deref(), found.status.as_deref()), (Some("sh"), Some("sleeping")));
    assert!(found.memory_usage > Some(0) && found.cpu_usage.is_some() && found.cpu_time_ns.is_some());
    assert!((scan.started..=scan.finished).contains(&found.collection_time));
}

#[tokio::test]
async fn a_task_has_a_snapshot_told_where_there_is_no_interval() {
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    // The next scan after the first one is an hour away.
    let never = [("PROCMOND_PROCMOND__SNAPSHOT_INTERVAL_MS", "0"), ("PROCMOND_APP__SCAN_INTERVAL_MS", "3600000")];
    let mut procmond = scanning_with(dir.path(), &token.to_string(), &never);
    agent.until("the first scan", |item| matches!(item, Item::Scan(scan) if scan.full && !scan.snapshot)).await;

    let task = |process_filter| DetectionTask {
        task_id: "t".into(),
        task_type: TaskType::EnumerateProcesses.into(),
        metadata: Some("snapshot".into()),
        process_filter,
        ..DetectionTask::default()
    };
    let asked = agent.client.clone();
    let call = |task: DetectionTask| {
        let client = asked.clone();
        tokio::spawn(async move {
            let parts = answer(client, task).await?;
            assert!(parts.iter().all(|part| part.processes.is_empty()));
            parts.iter().find_map(|part| part.snapshot_scan_id).ok_or("no scan was named".to_owned())
        })
    };
    let mut answered = call(task(None));
    let at = agent.until("the snapshot", |item| matches!(item, Item::Scan(scan) if scan.snapshot)).await;
    let Item::Scan(scan) = &agent.items[at] else { panic!("a scan") };
    let told = snapshot(&agent.items[..at], scan.scan_id);
    assert!(told.iter().any(|process| process.pid == std::process::id()));
    let scan_id = scan.scan_id;
    assert_eq!((&mut answered).await.unwrap(), Ok(scan_id));

    let filtered = call(task(Some(ProcessFilter { pids: vec![1], ..ProcessFilter::default() }))).await.unwrap();
    assert!(filtered.is_err(), "{filtered:?}");
    procmond.signal(Signal::TERM).unwrap();
    assert!(procmond.wait_timeout(Duration::from_secs(10)).unwrap().success());
}
