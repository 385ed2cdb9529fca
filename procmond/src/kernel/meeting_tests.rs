//! Scans in the midst of events, as often as they can be: a PID namespace of the test's own, in which every start is known.

use super::*;
use crate::boot::Boot;
use crate::hashing::{FileDigester, Hashes};
use crate::kernel::ebpf::{Events, Roster};
use crate::kernel::{KernelTypes, Options};
use crate::mask::Masker;
use crate::procfs::link;
use crate::reader::HostProc;
use crate::scan::{ImageHashes, Predecessors, Scanner};
use daemoneye_lib::proto::common::EventType;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(120);
/// So many at once start one process after the other, so many each; that again until scans came between forks and their execs
/// so often.
const LOOPS: usize = 4;
const RUNS: usize = 100;
const MEETINGS: u64 = 20;
/// Live all the time, so that a scan has something to look at.
const IDLE: usize = 100;

/// A shell in namespaces of its own, with a `/proc` of its own, that starts processes whenever it reads a line.
struct Contained {
    unshare: Child,
    proc: PathBuf,
    namespace: u32,
}

impl Contained {
    fn start(script: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "/bin/sh", "-c", script]);
        let unshare = command.stdin(Stdio::piped()).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let inner = testkit::wait_for("the shell", PATIENCE, || {
            let inner = std::fs::read_to_string(&children).unwrap().trim().to_owned();
            std::fs::read_to_string(format!("/proc/{inner}/comm")).is_ok_and(|name| name == "sh\n").then_some(inner)
        });
        let namespace = std::fs::read_link(format!("/proc/{inner}/ns/pid")).unwrap();
        let namespace = link::namespace(namespace.as_os_str().as_bytes()).unwrap().try_into().unwrap();
        Self { unshare, proc: format!("/proc/{inner}/root/proc").into(), namespace }
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

/// Every run is two programs, one after the other in the same process.
fn script(done: &Path) -> String {
    format!(
        "i=0; while [ $i -lt {IDLE} ]; do /bin/sleep 600 & i=$((i+1)); done
         run() {{ i=0; while [ $i -lt {RUNS} ]; do /usr/bin/env /bin/true $i; i=$((i+1)); done; }}
         while read go; do
             all=; l=0; while [ $l -lt {LOOPS} ]; do run & all=\"$all $!\"; l=$((l+1)); done
             wait $all; : > '{}'
         done",
        done.display()
    )
}

fn listening(namespace: u32, types: &KernelTypes) -> Listening {
    let options = Options {
        ring_bytes: 8 << 20,
        max_arguments: 1 << 18,
        environment: true,
        pid_namespace: namespace,
        page_size: 4096,
    };
    let events = Events::load(types.get().unwrap(), &options).unwrap();
    let hashes = Hashes::on_demand(Arc::new(FileDigester::new(1 << 30, 1 << 30)));
    let hashes = ImageHashes { hashes, predecessors: Predecessors::shared(50) };
    let variables = watch::channel(Arc::from(Vec::new())).1;
    let teller = Teller::new(Masker::new(&[]), variables, hashes, 1 << 18);
    let heard = Heard::new(Box::new(events), None, "ebpf", "the best source".to_owned());
    Listening::new(heard, Acts::default(), teller, Duration::ZERO)
}

#[test]
fn with_scans_all_the_time_every_start_is_an_exec_or_in_a_gap() {
    if !testkit::require("root", testkit::is_root(), "loads eBPF programs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let done = dir.path().join("done");
    let mut contained = Contained::start(&script(&done));
    let types = KernelTypes::default();
    let mut listening = listening(contained.namespace, &types);
    let boot = Boot::current().unwrap();
    let roster = Roster::load(types.get().unwrap(), contained.namespace).unwrap();
    let scanner = Scanner::new(HostProc::open(&contained.proc).unwrap(), boot.clone(), 1 << 18);
    let mut poller = Poller::new(scanner.calling(Some(Box::new(roster))), boot, None);
    listening.begin(&mut poller);

    let (mut execs, mut lost, changes) = (BTreeMap::<_, Vec<_>>::new(), 0, Cell::new(0));
    let mut tell = |item| {
        match item {
            Item::Gap(gap) if gap.reason.contains("exec events") || gap.kind == "unannounced" => {
                lost += gap.count.unwrap();
            }
            Item::Process(event) => {
                let kind = event.event_type();
                let record = event.process.unwrap();
                changes.set(changes.get() + u64::from(kind == EventType::Changed));
                if kind == EventType::Exec {
                    execs.entry(record.process_key).or_default().push(record.executable_path.unwrap());
                }
            }
            _ => {}
        }
        Ok(())
    };
    poller.round(false, &mut tell).unwrap();
    let (mut runs, mut last, deadline) = (0, true, Instant::now() + PATIENCE);
    loop {
        assert!(Instant::now() < deadline, "waited in vain for all that is to start: {runs} runs, {changes:?}");
        let end = std::mem::replace(&mut last, done.exists());
        // Losses are asked for now and then: after the last start in any case.
        let now = Instant::now() + if end { LOSSES_EVERY } else { Duration::ZERO };
        poller.round(false, &mut tell).unwrap();
        listening.hear(&mut poller, now, false, &mut tell).unwrap();
        if end && changes.get() >= MEETINGS {
            break;
        }
        if end {
            let _ = std::fs::remove_file(&done);
            contained.unshare.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
            (runs, last) = (runs + LOOPS * RUNS, false);
        }
    }
    let told =
        execs.values().filter(|paths| !paths[0].ends_with("/sleep")).map(|paths| paths.len() as u64).sum::<u64>();
    assert_eq!(told + lost, 2 * u64::try_from(runs).unwrap(), "{told} told, {lost} in gaps");
    let twice = |paths: &&Vec<String>| paths.len() == 2 && paths[0] != paths[1];
    assert!(lost > 0 || execs.values().filter(twice).count() == runs, "each run is two execs");
}
