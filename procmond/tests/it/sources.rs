//! Where processes are seen, on a host that lacks this or that.

use crate::agent::{Agent, PATIENCE, is, scanning_with};
use crate::program::procmond;
use aya::maps::{Array, Map, MapData};
use daemoneye_lib::proto::common::EventType;
use daemoneye_lib::proto::ipc::collected_item::Item;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use testkit::{Child, Signal};

const SOURCE: &str = "PROCMOND_PROCMOND__SOURCE";

/// What procmond says when it begins; nobody is there to take its events, so it ends at once.
fn said(mut command: Command) -> String {
    let output = command.env("NO_COLOR", "1").output().unwrap();
    assert!(!output.status.success(), "without an agent and a token it cannot run");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The same after a shell, in namespaces of its own, has changed what it finds; mounts are always of its own, so that the
/// host's stay as they are.
fn changed(dir: &Path, namespaces: &[&str], change: &str, source: &str) -> String {
    let inner = procmond(dir);
    let mut command = Command::new("unshare");
    command.arg("--mount").args(namespaces).args(["/bin/sh", "-c", &format!("{change} && exec \"$0\" \"$@\"")]);
    command.arg(inner.get_program()).args(inner.get_args()).env(SOURCE, source);
    said(command)
}

const NO_BTF: &str = "mount -t tmpfs none /sys/kernel/btf";

#[test]
fn the_best_source_that_works_is_taken_and_the_others_say_what_is_missing() {
    if !testkit::require("root", testkit::is_root(), "makes namespaces") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let whole = changed(dir.path(), &[], "true", "auto");
    assert!(whole.contains("mode=\"ebpf\" reason=\"the best source\""), "{whole}");
    let blind = changed(dir.path(), &[], NO_BTF, "auto");
    assert!(blind.contains("mode=\"connector\" reason=\"no eBPF: this kernel has no BTF"), "{blind}");
    let neither = changed(dir.path(), &["--net"], NO_BTF, "auto");
    assert!(neither.contains("mode=\"poll\" reason=\"no eBPF: this kernel has no BTF"), "{neither}");
    assert!(neither.contains("no connector: the proc connector is only in the host's first network namespace"));
}

#[test]
fn a_source_that_is_asked_for_and_cannot_work_is_an_error_with_what_is_missing() {
    if !testkit::require("root", testkit::is_root(), "makes namespaces and another user's process") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let refused = |said: &str, source: &str, reason: &str| {
        let expected = format!("error: procmond.source = \"{source}\" cannot work here: {reason}");
        assert!(said.contains(&expected), "{said}");
    };
    refused(&changed(dir.path(), &[], NO_BTF, "ebpf"), "ebpf", "this kernel has no BTF at /sys/kernel/btf/vmlinux");
    let net = changed(dir.path(), &["--net"], "true", "connector");
    refused(&net, "connector", "the proc connector is only in the host's first network namespace");
    let pid = changed(dir.path(), &["--pid", "--fork"], "mount -t proc none /proc", "connector");
    refused(&pid, "connector", "the proc connector answers only in the host's first PID namespace");

    let own = dir.path().join("procmond");
    std::fs::copy(env!("CARGO_BIN_EXE_procmond"), &own).unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mut nobody = Command::new(own);
    nobody.arg("--config").arg(dir.path().join("config.toml")).arg("--data-dir").arg(dir.path().join("own"));
    nobody.env(SOURCE, "ebpf").env("HOME", dir.path()).uid(54_321).gid(54_321).current_dir("/");
    refused(&said(nobody), "ebpf", "the capabilities CAP_BPF and CAP_PERFMON");
}

/// What counts the calls of the programs.
const BEATS: [u32; 2] = [5, 6];

/// The counters of this procmond's programs for events of processes.
fn counters(procmond: u32) -> Array<MapData, u64> {
    let files = std::fs::read_dir(format!("/proc/{procmond}/fdinfo")).unwrap();
    let ids = files.filter_map(|file| {
        let text = std::fs::read_to_string(file.ok()?.path()).ok()?;
        text.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok())
    });
    let mut maps = ids.filter_map(|id| MapData::from_id(id).ok());
    let counters = maps.find(|map| map.info().unwrap().name_as_str() == Some("COUNTERS")).unwrap();
    Array::try_from(Map::from_map_data(counters).unwrap()).unwrap()
}

/// Keeps the counters where they are, as those of programs that somebody detached, until it is dropped: the links of
/// tracepoints cannot be detached from outside.
struct Stuck {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stuck {
    fn new(mut counters: Array<MapData, u64>) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&enough);
        let hold = move || {
            while !end.load(Ordering::Relaxed) {
                // Nothing is greater; who counts on begins at 0.
                BEATS.iter().for_each(|beat| counters.set(*beat, u64::MAX, 0).unwrap());
                thread::sleep(Duration::from_micros(100));
            }
        };
        Self { enough, thread: Some(thread::spawn(hold)) }
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[tokio::test]
async fn the_connector_takes_over_from_programs_that_tell_nothing_any_more() {
    if !testkit::require("root", testkit::is_root(), "listens to the kernel") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    let procmond = scanning_with(dir.path(), &token.to_string(), &[(SOURCE, "auto")]);
    agent.until("the first scan", |item| matches!(item, Item::Scan(_))).await;
    assert_eq!(agent.registered[0].mode, "ebpf");
    let stuck = Stuck::new(counters(procmond.pid()));
    let at = agent.until("the gap", |item| matches!(item, Item::Gap(gap) if gap.kind == "source_lost")).await;
    drop(stuck);
    let Item::Gap(gap) = &agent.items[at] else { panic!("a gap") };
    assert_eq!(gap.reason, "ebpf has ended: it tells nothing any more: somebody may have detached it");
    assert!(gap.to > Some(gap.from) && gap.count.is_none(), "{gap:?}");

    let mut command = Command::new("sleep");
    command.arg("60");
    let child = Child::spawn(command).unwrap();
    let at = agent.until("an event of the connector", is(EventType::Exec, child.pid())).await;
    let Item::Process(event) = &agent.items[at] else { panic!("an event") };
    let record = event.process.as_ref().unwrap();
    assert_eq!((record.source.as_str(), record.command_line.as_deref()), ("connector", Some("sleep 60")));
    assert!(procmond.stderr().contains("mode=\"connector\""), "{}", procmond.stderr());
}

/// A child that runs this script, in perl with threads.
fn perl(script: &str) -> Option<Child> {
    let has_threads = Command::new("perl").args(["-Mthreads", "-e", "1"]).status().is_ok_and(|status| status.success());
    let there = has_threads && cfg!(target_arch = "x86_64");
    if !testkit::require("perl", there, "makes threads, and system calls by their numbers on x86-64") {
        return None;
    }
    let mut command = Command::new("perl");
    command.args(["-Mthreads", "-e", script]);
    Some(Child::spawn(command).unwrap())
}

#[tokio::test]
async fn a_process_whose_first_thread_has_ended_goes_on_for_the_connector() {
    if !testkit::require("root", testkit::is_root(), "listens to the kernel") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    let _procmond = scanning_with(dir.path(), &token.to_string(), &[(SOURCE, "connector")]);
    agent.until("the first scan", |item| matches!(item, Item::Scan(_))).await;
    // The first thread ends alone; a second later another one runs a program.
    let script = r#"threads->create(sub { sleep 1; exec "/bin/sleep", "60" }); syscall(60, 0)"#;
    let Some(child) = perl(script) else { return };
    let pid = child.pid();
    let executes = is(EventType::Exec, pid);
    let sleeps = |item: &Item| match item {
        Item::Process(event) => executes(item) && event.process.as_ref().is_some_and(|it| it.name() == "sleep"),
        _ => false,
    };
    agent.until("the program of the second thread", sleeps).await;
    assert!(!agent.items.iter().any(is(EventType::Exit, pid)), "it runs");
    drop(child);
    let at = agent.until("its end", is(EventType::Exit, pid)).await;
    let Item::Process(event) = &agent.items[at] else { panic!("an event") };
    let record = event.process.as_ref().unwrap();
    assert_eq!((record.exit_signal, record.provenance["end_time"].as_str()), (Some(9), "captured"));
}

#[tokio::test]
async fn a_copy_whose_parent_is_not_the_original_runs_what_that_runs() {
    if !testkit::require("root", testkit::is_root(), "listens to the kernel") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    let _procmond = scanning_with(dir.path(), &token.to_string(), &[(SOURCE, "ebpf")]);
    agent.until("the first scan", |item| matches!(item, Item::Scan(_))).await;
    // clone(CLONE_PARENT | SIGCHLD): the copy is a child of this process, and ends at once.
    let script = r#"$0 = "copied"; my $copy = syscall(56, 0x8011, 0, 0, 0, 0); exit 0 unless $copy; sleep 60"#;
    let Some(child) = perl(script) else { return };
    let is_copy = |item: &Item| match item {
        Item::Process(event) => {
            let record = event.process.as_ref().unwrap();
            event.event_type() == EventType::Fork && record.name() == "copied"
        }
        _ => false,
    };
    let at = agent.until("the copy", is_copy).await;
    let Item::Process(event) = &agent.items[at] else { panic!("an event") };
    let copy = event.process.clone().unwrap();
    assert_eq!(copy.ppid, Some(std::process::id()));
    let executes = is(EventType::Exec, child.pid());
    let at = agent.until("the original", executes).await;
    let Item::Process(event) = &agent.items[at] else { panic!("an event") };
    let original = event.process.as_ref().unwrap();
    assert_eq!((&copy.executable_path, &copy.command_line), (&original.executable_path, &original.command_line));
}

/// Since Linux 6.6 everyone may listen to the connector.
fn everyone_may_listen() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    version >= (6, 6)
}

#[tokio::test]
async fn who_is_hidden_from_procmond_ends_when_the_kernel_says_so() {
    let may = testkit::is_root() && everyone_may_listen();
    if !testkit::require("root", may, "hides processes from procmond, which listens without rights since Linux 6.6") {
        return;
    }
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    let own = dir.path().join("procmond");
    std::fs::copy(env!("CARGO_BIN_EXE_procmond"), &own).unwrap();
    let inner = procmond(dir.path());
    let script = "mount -t proc -o hidepid=2 none /proc && exec setpriv --reuid 54321 --regid 54321 --clear-groups \
        --inh-caps=-all,+dac_override --ambient-caps=-all,+dac_override -- \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-c", script]).arg(&own).args(inner.get_args());
    command.env(SOURCE, "connector").env("PROCMOND_PROCMOND__RECONCILE_INTERVAL_MS", "1000");
    command.env("PROCMOND_APP__MAX_SCAN_CPU", "100");
    let _procmond = Child::spawn_with_input(command, format!("{token}\n").as_bytes()).unwrap();
    agent.until("the first scan", |item| matches!(item, Item::Scan(_))).await;
    assert!(agent.registered[0].limitations.iter().any(|it| it.contains("hidepid=")), "{:?}", agent.registered[0]);

    let mut command = Command::new("sleep");
    command.arg("60");
    let child = Child::spawn(command).unwrap();
    let pid = child.pid();
    agent.until("its beginning", is(EventType::Fork, pid)).await;
    // Two that do not meet a process end it.
    agent.until("more scans", |item| matches!(item, Item::Scan(scan) if scan.scan_id >= 5)).await;
    assert!(!agent.items.iter().any(is(EventType::Exit, pid)), "it runs");
    drop(child);
    let at = agent.until("its end", is(EventType::Exit, pid)).await;
    let Item::Process(event) = &agent.items[at] else { panic!("an event") };
    assert_eq!(event.process.as_ref().unwrap().provenance["end_time"], "captured");
}

#[tokio::test]
async fn an_environment_that_the_programs_do_not_copy_is_not_told_as_empty() {
    if !testkit::require("root", testkit::is_root(), "listens to the kernel") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut agent, token) = Agent::start(dir.path()).await;
    let mut command = procmond(dir.path());
    command.env(SOURCE, "ebpf");
    let configure = |names: &str| {
        std::fs::write(dir.path().join("config.toml"), format!("procmond.environment = [{names}]")).unwrap();
    };
    configure("");
    let mut procmond = Child::spawn_with_input(command, format!("{token}\n").as_bytes()).unwrap();
    agent.until("the first scan", |item| matches!(item, Item::Scan(_))).await;
    configure("\"OWN\"");
    procmond.signal(Signal::HUP).unwrap();
    testkit::wait_for("the new list", PATIENCE, || procmond.stderr().contains("changed=\"procmond.environment\""));
    let mut command = Command::new("sleep");
    command.arg("60").env("OWN", "1");
    let child = Child::spawn(command).unwrap();
    let at = agent.until("the program", is(EventType::Exec, child.pid())).await;
    let Item::Process(event) = &agent.items[at] else { panic!("an event") };
    let record = event.process.as_ref().unwrap();
    assert_eq!(record.environment.len(), 0);
    assert_eq!(record.provenance["environment"], "unavailable: not collected");
}
