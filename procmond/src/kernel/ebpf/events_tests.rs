//! The programs on this kernel, with a PID namespace of the test's own: what happens in it is known to the last event.

use super::*;
use crate::kernel::ebpf::{KernelTypes, Roster};
use crate::kernel::pid_namespace;
use aya::programs::BtfTracePoint;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

const PATIENCE: Duration = Duration::from_secs(60);
const RUNS: u64 = 400;

/// A shell in a PID namespace of its own that waits for a line, runs `/bin/true` so often, and ends.
struct Contained {
    unshare: Child,
    namespace: u32,
}

impl Contained {
    fn start() -> Self {
        let script = format!("read go; i=0; while [ $i -lt {RUNS} ]; do /bin/true $i; i=$((i+1)); done; exit 3");
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "/bin/sh", "-c", &script]).stdin(Stdio::piped());
        let unshare = command.spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let inner = testkit::wait_for("the shell", PATIENCE, || {
            let inner = fs::read_to_string(&children).unwrap().trim().to_owned();
            fs::read_to_string(format!("/proc/{inner}/comm")).is_ok_and(|name| name == "sh\n").then_some(inner)
        });
        let link = fs::read_link(format!("/proc/{inner}/ns/pid")).unwrap();
        let digits = link.to_str().unwrap().trim_start_matches("pid:[").trim_end_matches(']').to_owned();
        Self { unshare, namespace: digits.parse().unwrap() }
    }

    fn go(&mut self) {
        self.unshare.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}

fn load(ring_bytes: u32, pid_namespace: u32) -> Events {
    let options = Options { ring_bytes, max_arguments: 1 << 18, environment: true, pid_namespace, page_size: 4096 };
    Events::load(KernelTypes::default().get().unwrap(), &options).unwrap()
}

/// What is there, by kind; each process by its pid and its kinds in their order.
fn drain(events: &mut Events, told: &mut BTreeMap<&'static str, u64>, by_process: &mut BTreeMap<(u32, u64), String>) {
    events
        .drain(&mut |news| {
            let News::Happened(happening) = news else { panic!("{news:?} is nothing of theirs") };
            let (kind, process) = match &happening {
                Happening::Fork(fork) => ("fork", (fork.who.pid, fork.who.start)),
                Happening::Exec(exec) => ("exec", (exec.who.pid, exec.who.start)),
                Happening::Exit(exit) => ("exit", (exit.who.pid, exit.who.start)),
                other => panic!("{other:?} is nothing of theirs"),
            };
            *told.entry(kind).or_default() += 1;
            by_process.entry(process).or_default().push_str(kind);
            ControlFlow::Continue(())
        })
        .unwrap();
}

fn may() -> bool {
    testkit::require("root", testkit::is_root(), "loads eBPF programs")
}

#[test]
fn who_reads_in_time_loses_nothing() {
    if !may() {
        return;
    }
    let mut contained = Contained::start();
    let mut events = load(1 << 20, contained.namespace);
    let (mut told, mut processes) = (BTreeMap::new(), BTreeMap::new());
    contained.go();
    testkit::wait_for("all of it", PATIENCE, || {
        drain(&mut events, &mut told, &mut processes);
        told.get("exit") == Some(&(RUNS + 1))
    });
    assert_eq!(told, BTreeMap::from([("fork", RUNS), ("exec", RUNS), ("exit", RUNS + 1)]));
    assert_eq!(processes.values().filter(|kinds| *kinds == "forkexecexit").count() as u64, RUNS);
    assert_eq!(processes.keys().map(|(pid, _)| pid).min(), Some(&1), "pids are those of the namespace");
    assert_eq!(events.losses().unwrap(), []);
}

#[test]
fn what_is_told_and_what_is_counted_are_all_that_happened() {
    if !may() {
        return;
    }
    let mut contained = Contained::start();
    let mut events = load(16 * 1024, contained.namespace);
    contained.go();
    let status = contained.unshare.wait().unwrap();
    assert_eq!(status.code(), Some(3));
    let (mut told, mut processes) = (BTreeMap::new(), BTreeMap::new());
    drain(&mut events, &mut told, &mut processes);
    let mut lost = BTreeMap::<_, u64>::new();
    for loss in events.losses().unwrap() {
        let kind =
            ["fork", "exec", "exit"].into_iter().find(|kind| loss.reason.contains(&format!("{kind} events"))).unwrap();
        assert_eq!(loss.kind, if loss.reason.contains("given up") { "shed" } else { "ring_overflow" });
        *lost.entry(kind).or_default() += loss.count.unwrap();
    }
    for (kind, happened) in [("fork", RUNS), ("exec", RUNS), ("exit", RUNS + 1)] {
        let (told, lost) = (told.get(kind).copied().unwrap_or_default(), lost.get(kind).copied().unwrap_or_default());
        assert!(lost > 0 && told + lost == happened, "{kind}: {told} told and {lost} lost of {happened}");
    }
    assert_eq!(events.losses().unwrap(), [], "what was told is not told again");
}

#[test]
fn a_program_that_somebody_detached_is_noticed() {
    if !may() {
        return;
    }
    let mut events = load(1 << 20, 1);
    assert!(events.is_alive());
    let unload = |name| {
        let program: &mut BtfTracePoint = events.ring.programs.program_mut(name).unwrap().try_into().unwrap();
        program.unload()
    };
    let unloaded = ["on_last_exit", "on_exit"].map(unload);
    assert_eq!(unloaded.iter().filter(|unloaded| unloaded.is_ok()).count(), 1, "one of them is attached: {unloaded:?}");
    assert!(!events.is_alive());
}

#[test]
fn a_counter_that_cannot_be_read_is_not_one_at_rest() {
    if !may() {
        return;
    }
    let mut events = load(1 << 20, 1);
    assert_eq!(events.ring.growth(0).unwrap(), 0);
    assert!(events.ring.growth(99).is_err());
}

/// What comes of this in a thread that has given up its capabilities.
fn without_capabilities<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    let give_up_and_act = || {
        set_capabilities(None, none).unwrap();
        act()
    };
    std::thread::scope(|scope| scope.spawn(give_up_and_act).join().unwrap())
}

/// Since Linux 6.0 what is open may be used by who could not open it.
fn asks_for_capabilities_at_each_call() -> bool {
    let read = |file: &str| fs::read_to_string(format!("/proc/sys/kernel/{file}")).unwrap();
    let major = read("osrelease").split('.').next().and_then(|major| major.parse::<u32>().ok());
    major < Some(6) && read("unprivileged_bpf_disabled").trim() != "0"
}

#[test]
fn counters_and_iterators_need_no_capability_once_all_is_loaded() {
    if !may() || !testkit::require("linux6", !asks_for_capabilities_at_each_call(), "this kernel asks for CAP_BPF") {
        return;
    }
    let (types, own) = (KernelTypes::default(), pid_namespace().unwrap());
    let types = types.get().unwrap();
    let (mut events, mut roster) = (load(1 << 20, own), Roster::load(types, own).unwrap());
    let refused = without_capabilities(|| Roster::load(types, own).err());
    assert!(matches!(refused, Some(LoadError::Denied)), "the capabilities are gone: {refused:?}");

    let (alive, listed) = without_capabilities(|| {
        let mut listed = Vec::new();
        let each = roster.each(|member| -> io::Result<()> {
            let arguments = member.program.is_some_and(|program| program.arguments.is_some());
            listed.push((member.who.pid, arguments));
            Ok(())
        });
        // Whether it is alive is seen by its counters.
        (events.is_alive(), each.map(|()| listed).unwrap())
    });
    assert!(alive);
    assert!(listed.contains(&(std::process::id(), roster.gives_arguments())), "{listed:?}");
}

#[test]
fn long_arguments_are_put_together_and_missing_pieces_cut() {
    let mut waiting = VecDeque::new();
    let exec = |argued: usize, waiting: &mut VecDeque<Waiting>| {
        let who = crate::kernel::Who { pid: 7, start: 9, ..Default::default() };
        let arguments = vec![b'a'; argued.min(layout::PIECE)].into();
        whole(Box::new(Exec { who, arguments, ..Exec::default() }), argued as u64, waiting)
    };
    keep(&mut waiting, (7, 9), layout::PIECE, &[b'b'; layout::PIECE]);
    keep(&mut waiting, (8, 9), layout::PIECE, b"x");
    keep(&mut waiting, (7, 9), 2 * layout::PIECE, b"ccc");
    let long = exec(2 * layout::PIECE + 3, &mut waiting);
    assert!(long.arguments.len() == 2 * layout::PIECE + 3 && long.arguments.ends_with(b"bccc") && !long.arguments_cut);
    // The piece between is missing, so what comes behind it is not taken.
    keep(&mut waiting, (7, 9), layout::PIECE, &[b'b'; layout::PIECE]);
    keep(&mut waiting, (7, 9), 3 * layout::PIECE, b"ccc");
    let cut = exec(3 * layout::PIECE + 3, &mut waiting);
    assert!(cut.arguments.len() == 2 * layout::PIECE && cut.arguments_cut);
    for process in 0..1000 {
        keep(&mut waiting, (process, 1), layout::PIECE, b"y");
    }
    assert_eq!(waiting.len(), MAX_WAITING);
}
