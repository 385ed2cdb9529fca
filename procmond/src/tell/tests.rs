//! What happens, made up by a test, and what is told of it.

mod meeting;

use super::*;
use crate::hashing::{Digester, FileDigester, Hashes, Outcome, Source, Version, held_back};
use crate::kernel::Who;
use crate::provenance as why;
use crate::scan::Predecessors;
use daemoneye_lib::models::key::process_key;
use daemoneye_lib::proto::common::ProcessRecord;
use daemoneye_lib::proto::ipc::collected_item::Item;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

static BOOT: Boot = Boot { id: String::new(), time_ns: 0, ticks_per_second: 100, page_size: 4096 };
/// The moment of the boot, by a clock that was set since.
const CLOCK: i64 = 1_000_000;
const TICK: u64 = 10_000_000;

struct Host {
    teller: Teller,
    table: Table,
    crowded: bool,
    clock: i64,
}

impl Host {
    fn new() -> Self {
        Self::hashing(Hashes::on_demand(Arc::new(FileDigester::new(1 << 30, 1 << 30))))
    }

    fn hashing(hashes: Hashes) -> Self {
        let hashes = ImageHashes { hashes, predecessors: Predecessors::shared(50) };
        let variables = watch::channel(Arc::from(["LD_PRELOAD".to_owned()])).1;
        let teller = Teller::new(Masker::new(&[]), variables, hashes, 64);
        Self { teller, table: Table::default(), crowded: false, clock: CLOCK }
    }

    /// The events that come of it.
    fn hear(&mut self, happening: Happening<'_>) -> Vec<(EventType, ProcessRecord)> {
        let mut told = Vec::new();
        let &mut Self { crowded, clock, .. } = self;
        let mut scene = Scene { boot: &BOOT, table: &mut self.table, scan: 1, source: "ebpf", clock, crowded };
        let mut tell = |item| {
            let Item::Process(event) = item else { panic!("{item:?}") };
            told.push((event.event_type(), event.process.unwrap()));
            Ok(())
        };
        self.teller.tell(happening, &mut scene, &mut tell).unwrap();
        told
    }

    fn one(&mut self, happening: Happening<'_>) -> (EventType, ProcessRecord) {
        let mut told = self.hear(happening);
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0)
    }
}

/// A process that began at this tick, at that tick.
fn who(pid: u32, start: u64, parent: (u32, u64), at: u64) -> Who<'static> {
    Who {
        at: at * TICK,
        pid,
        start: start * TICK + 5,
        parent: parent.0,
        parent_start: Some(parent.1 * TICK + 7),
        uid: 10,
        euid: 10,
        name: b"sh",
        ..Who::default()
    }
}

fn exec<'a>(who: Who<'a>, path: &[u8], arguments: &'a [u8]) -> Happening<'a> {
    Happening::Exec(Box::new(Exec { who, path: path.to_vec(), arguments: arguments.into(), ..Exec::default() }))
}

/// A copy of its parent.
fn fork(who: Who<'_>) -> Happening<'_> {
    let original = who.parent_start.map(|start| (who.parent, start));
    Happening::Fork(Fork { who, original })
}

fn exit(who: Who<'static>, status: i32) -> Happening<'static> {
    Happening::Exit(Exit { who, status, cpu: Some(5), max_resident_bytes: Some(6) })
}

#[test]
fn a_life_is_told_under_one_key_with_its_parent() {
    let mut host = Host::new();
    host.one(exec(who(1, 1, (0, 0), 1), b"/sbin/init", b"init\0--x\0"));
    let (kind, fork) = host.one(fork(who(2, 50, (1, 1), 50)));
    assert_eq!((kind, fork.executable_path.as_deref()), (EventType::Fork, Some("/sbin/init")), "a copy of its parent");
    assert_eq!((fork.ppid, fork.parent_command_line.as_deref()), (Some(1), Some("init --x")));
    let (kind, run) = host.one(exec(Who { name: b"cat", ..who(2, 50, (1, 1), 51) }, b"/bin/cat", b"cat\0a b\0"));
    assert_eq!((kind, &run.process_key, &run.parent_key), (EventType::Exec, &fork.process_key, &fork.parent_key));
    assert_eq!((run.parent_name.as_deref(), run.command_line.as_deref()), (Some("sh"), Some("cat a b")));
    assert_eq!(run.argv.unwrap().values, ["cat", "a b"]);
    assert_eq!((run.source.as_str(), run.provenance["*"].as_str()), ("ebpf", "captured"));
    assert_eq!((run.start_time, run.collection_time), (Some(50 * TICK.cast_signed()), CLOCK + 51 * TICK.cast_signed()));
    let (kind, end) = host.one(exit(who(2, 50, (1, 1), 52), 7 << 8));
    assert_eq!(
        (kind, &end.process_key, end.exit_code, end.exit_signal),
        (EventType::Exit, &fork.process_key, Some(7), None)
    );
    assert_eq!((end.command_line.as_deref(), end.cpu_time_ns, end.max_rss), (Some("cat a b"), Some(5), Some(6)));
    assert_eq!(host.hear(exit(who(2, 50, (1, 1), 52), 0)), [], "two threads that end together end it once");
}

#[test]
fn a_parent_that_has_ended_is_told_all_the_same() {
    let mut host = Host::new();
    host.one(exec(who(1, 1, (0, 0), 1), b"/usr/bin/login", b"login\0"));
    host.one(fork(who(2, 50, (1, 1), 50)));
    host.one(exit(who(1, 1, (0, 0), 51), 9));
    // Another process has taken it over, and even the pid of its parent is somebody else's.
    host.one(fork(who(1, 60, (0, 0), 60)));
    let (_, run) = host.one(exec(who(2, 50, (7, 3), 61), b"/bin/sh", b"sh\0"));
    assert_eq!((run.ppid, run.parent_executable_path.as_deref()), (Some(1), Some("/usr/bin/login")));
    assert_eq!(run.parent_key, Some(process_key("", 1, 1)));
}

#[test]
fn a_copy_runs_what_the_original_runs_whoever_its_parent_is() {
    let mut host = Host::new();
    host.one(exec(who(1, 1, (0, 0), 1), b"/sbin/init", b"init\0"));
    host.one(exec(who(2, 5, (1, 1), 5), b"/usr/bin/tool", b"tool\0-x\0"));
    let sibling = Fork { who: who(3, 50, (1, 1), 50), original: Some((2, 5 * TICK + 5)) };
    let (_, fork) = host.one(Happening::Fork(sibling));
    assert_eq!(
        (fork.executable_path.as_deref(), fork.command_line.as_deref()),
        (Some("/usr/bin/tool"), Some("tool -x"))
    );
    assert_eq!((fork.ppid, fork.parent_command_line.as_deref()), (Some(1), Some("init")));
    let (_, end) = host.one(exit(who(3, 50, (1, 1), 51), 0));
    assert_eq!((end.executable_path.as_deref(), end.ppid), (Some("/usr/bin/tool"), Some(1)));
    let (_, fork) = host.one(Happening::Fork(Fork { who: who(4, 60, (1, 1), 60), original: None }));
    assert_eq!((fork.executable_path, fork.ppid), (None, Some(1)), "the original is not in our namespace");
}

#[test]
fn what_is_not_known_of_a_parent_has_that_reason() {
    let mut host = Host::new();
    host.one(fork(Who { name: b"kthreadd", ..who(2, 1, (0, 0), 1) }));
    let (_, fork) = host.one(fork(who(9, 50, (2, 1), 50)));
    assert_eq!((fork.parent_name.as_deref(), &fork.parent_executable_path), (Some("kthreadd"), &None));
    let reasons = ["parent_executable_path", "parent_command_line"].map(|column| fork.provenance[column].as_str());
    assert_eq!(reasons, [why::PARENT_UNKNOWN; 2]);
}

#[test]
fn an_exec_tells_nothing_of_the_end_since_it_runs_and_nothing_of_use_since_it_is_not_told() {
    let (_, run) = Host::new().one(exec(who(5, 1, (1, 1), 1), b"/bin/a", b"a\0"));
    let reasons = ["end_time", "exit_code", "exit_signal", "-"].map(|column| run.provenance[column].as_str());
    assert_eq!(reasons, [why::RUNNING, why::RUNNING, why::RUNNING, why::NOT_EXECUTED]);
    assert_eq!((run.cpu_usage, run.memory_usage, run.provenance.get("cpu_usage")), (None, None, None));
}

#[test]
fn signals_end_without_an_exit_code_and_lost_ends_are_inferred() {
    let mut host = Host::new();
    host.one(exec(who(5, 1, (1, 1), 1), b"/bin/a", b"a\0"));
    let told = host.hear(exec(who(5, 9, (1, 1), 9), b"/bin/b", b"b\0"));
    let kinds: Vec<_> = told.iter().map(|(kind, record)| (*kind, record.executable_path.as_deref())).collect();
    assert_eq!(kinds, [(EventType::Exit, Some("/bin/a")), (EventType::Exec, Some("/bin/b"))]);
    assert_eq!(told[0].1.provenance["end_time"], "inferred");
    let (_, end) = host.one(exit(who(5, 9, (1, 1), 10), 11));
    assert_eq!((end.exit_code, end.exit_signal), (None, Some(11)));
    assert_eq!(end.provenance["exit_code"], "unavailable: ended by a signal");
}

#[test]
fn long_arguments_are_cut_and_secrets_masked() {
    let mut host = Host::new();
    let (_, run) = host.one(exec(who(5, 1, (1, 1), 1), b"/bin/mysql", b"mysql\0--password\0hunter2\0"));
    assert_eq!(run.command_line.as_deref(), Some("mysql --password ***"));
    assert_eq!(run.platform_data["masked"], "argv,command_line");
    let (_, fork) = host.one(fork(who(6, 3, (5, 1), 3)));
    assert_eq!(fork.parent_command_line.as_deref(), Some("mysql --password ***"));
    assert_eq!(fork.platform_data["masked"], "command_line,parent_command_line", "also where it is repeated");
    let (_, end) = host.one(exit(who(6, 3, (5, 1), 3), 0));
    assert_eq!(end.platform_data["masked"], "command_line");
    let (_, run) = host.one(exec(who(5, 1, (1, 1), 2), b"/bin/echo", &[b'x'; 100]));
    assert_eq!((run.command_line.map(|line| line.len()), run.command_line_truncated), (Some(64), Some(true)));
}

#[test]
fn a_crowded_spool_takes_no_forks() {
    let mut host = Host::new();
    host.crowded = true;
    assert_eq!(host.hear(fork(who(5, 1, (1, 1), 1))), []);
    assert_eq!(host.teller.shed, 1);
    assert_eq!(host.one(exec(who(5, 1, (1, 1), 2), b"/bin/a", b"a\0")).0, EventType::Exec);
    assert_eq!(host.one(exit(who(5, 1, (1, 1), 3), 0)).0, EventType::Exit);
}

/// Process 5 begins a program whose image is the file with this number.
fn exec_of(inode: u64, host: &mut Host) -> Version {
    let image = Version { inode, device: (8, 1), size: 1, modified: (1, 0), changed: (1, 0) };
    let exec = Exec { who: who(5, 1, (1, 1), 1), path: b"/bin/a".to_vec(), image: Some(image), ..Exec::default() };
    let (_, run) = host.one(Happening::Exec(Box::new(exec)));
    assert_eq!(run.provenance["executable_hash"], why::HASH_WAITS);
    image
}

#[test]
fn a_hash_that_comes_before_the_end_is_told_with_it_if_it_was_not_told_before() {
    let (hashes, allow) = held_back();
    let mut host = Host::hashing(hashes.clone());
    let image = exec_of(3, &mut host);
    assert_eq!(host.teller.hashed(&host.table), [0; 0]);
    allow.send(()).unwrap();
    testkit::wait_for("the hash", Duration::from_secs(20), || hashes.knows(image));
    assert_eq!(host.teller.hashed(&host.table), [5], "it is looked at");
    assert_eq!(host.teller.hashed(&host.table), [0; 0], "once");
    // That it has ended by then is told next.
    let (_, end) = host.one(exit(who(5, 1, (1, 1), 2), 0));
    assert_eq!((end.executable_hash, end.hash_algorithm.as_deref()), (Some("ab".repeat(32)), Some("sha256")));
    assert_eq!(end.provenance["executable_hash"], why::HASH_STABLE);

    let (hashes, _held) = held_back();
    let mut host = Host::hashing(hashes);
    exec_of(4, &mut host);
    let (_, end) = host.one(exit(who(5, 1, (1, 1), 2), 0));
    assert_eq!((end.executable_hash, end.provenance.get("executable_hash")), (None, None), "it comes too late");
}

/// Says where it is to look, and looks when it is allowed to: a file system that lets who asks wait.
struct Slow(Mutex<(Sender<Source>, Receiver<()>)>);

impl Digester for Slow {
    fn resolve(&self, _: Version, source: &Source) -> Option<Version> {
        let held = self.0.lock().unwrap();
        held.0.send(source.clone()).unwrap();
        let _ = held.1.recv_timeout(Duration::from_secs(20));
        None
    }

    fn digest(&self, _: Version, _: &Source, _: &mut dyn FnMut() -> bool) -> Outcome {
        panic!("nothing was found")
    }

    fn is_fuzzy(&self) -> bool {
        false
    }
}

#[test]
fn an_exec_waits_for_no_file_system_and_its_path_counts_where_it_is_one_of_ours() {
    let (asked, sources) = channel();
    let (allow, go) = channel();
    let hashes = Hashes::start(4, Arc::new(Slow(Mutex::new((asked, go))))).unwrap();
    let mut host = Host::hashing(hashes);
    host.teller = host.teller.in_mounts(Some(7));
    let mut tell = |inode, mounts| {
        let image = Version { inode, device: (8, 1), size: 1, modified: (1, 0), changed: (1, 0) };
        let namespaces = [("mnt", mounts); 7];
        let who = who(5, 1, (1, 1), inode);
        let exec = Exec { who, path: b"/bin/a".to_vec(), image: Some(image), namespaces, ..Exec::default() };
        host.one(Happening::Exec(Box::new(exec))).1
    };
    // It is told while nothing was answered yet.
    let told = [(1, 7), (2, 8)].map(|(inode, mounts)| tell(inode, mounts).provenance["executable_hash"].clone());
    assert_eq!(told, [why::HASH_WAITS; 2]);
    let paths = [(); 2].map(|()| {
        let source: Source = sources.recv_timeout(Duration::from_secs(20)).unwrap();
        allow.send(()).unwrap();
        (source.pid, source.path)
    });
    assert_eq!(paths, [(Some(5), Some(Path::new("/bin/a").to_owned())), (Some(5), None)]);
}
