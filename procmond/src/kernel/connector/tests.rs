//! The connector of this host.

use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const BUFFER: usize = 8 << 20;
/// Whoever subscribes makes an event on every CPU; a test of overruns has its buffer filled by nobody else's.
static ALONE: Mutex<()> = Mutex::new(());

/// Whether this host can be listened to from here; a container cannot, though it has a root of its own.
fn available() -> bool {
    let link = |of: &str, kind| std::fs::read_link(format!("/proc/{of}/ns/{kind}")).ok();
    let is_first = |kind, number: &str| link("self", kind).is_some_and(|link| link.as_os_str() == number);
    let here = is_first("pid", "pid:[4026531836]") && is_first("user", "user:[4026531837]");
    // Of a first process that may not be looked at, nothing speaks against it.
    let in_its_network = link("1", "net").is_none_or(|net| link("self", "net") == Some(net));
    testkit::require("root", testkit::is_root(), "subscribes to the proc connector")
        && testkit::require("host", here && in_its_network, "is in namespaces of its own")
}

/// Everything that is there.
fn drain(connector: &mut Connector) -> Vec<Notice> {
    let mut notices = Vec::new();
    while connector.receive(Duration::ZERO, &mut |notice| notices.push(notice)).unwrap() > 0 {}
    notices
}

fn events(notices: &[Notice]) -> impl Iterator<Item = &Message> {
    notices.iter().filter_map(|notice| match notice {
        Notice::Event(message) => Some(message),
        _ => None,
    })
}

/// Receives until it has come to this.
fn until(connector: &mut Connector, what: &str, is_it: impl Fn(&[Notice]) -> bool) -> Vec<Notice> {
    let (mut notices, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while !is_it(&notices) {
        assert!(Instant::now() < deadline, "waited in vain for {what}: {notices:?}");
        connector.receive(Duration::from_millis(100), &mut |notice| notices.push(notice)).unwrap();
    }
    notices
}

fn shell(script: &str) -> u32 {
    let mut child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}

#[test]
fn a_process_is_told_from_its_fork_to_its_exit() {
    if !available() {
        return;
    }
    let _alone = ALONE.lock();
    let mut connector = Connector::open(BUFFER).unwrap();
    let (of_exit, of_signal) = (shell("exit 3"), shell("kill -9 $$"));
    let own = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
    let has_ended = |notices: &[Notice], child| {
        events(notices).any(|message| matches!(message.event, ConnectorEvent::Exit { pid, .. } if pid == child))
    };
    let notices =
        until(&mut connector, "the ends", |notices| has_ended(notices, of_exit) && has_ended(notices, of_signal));
    assert!(notices.iter().all(|notice| matches!(notice, Notice::Event(_))), "{notices:?}");
    for (child, status) in [(of_exit, 3 << 8), (of_signal, 9)] {
        let of_child = |message: &&Message| match message.event {
            ConnectorEvent::Fork { child_tgid, .. } => child_tgid == child,
            ConnectorEvent::Exec { tgid, .. } | ConnectorEvent::Exit { tgid, .. } => tgid == child,
            _ => false,
        };
        let told: Vec<_> = events(&notices).filter(of_child).collect();
        assert!(told.is_sorted_by_key(|message| message.at), "{told:?}");
        let [fork, exec, exit] = told[..] else { panic!("{told:?}") };
        let (pid, tgid, parent_tgid) = (child, child, std::process::id());
        let forked = ConnectorEvent::Fork { child_pid: pid, child_tgid: tgid, parent_pid: own, parent_tgid };
        assert_eq!((&fork.event, &exec.event), (&forked, &ConnectorEvent::Exec { pid, tgid }));
        const SIGCHLD: u32 = 17;
        let parent = message::Process { pid: own, tgid: parent_tgid };
        let ended = ConnectorEvent::Exit { pid, tgid, exit_code: status, exit_signal: SIGCHLD, parent };
        assert_eq!(exit.event, ended);
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap());
        let ago = now.checked_sub(Duration::from_nanos(fork.at)).expect("made before it was received");
        assert!(ago < 2 * PATIENCE, "the kernel's clock is the monotonic one: {ago:?}");
    }
}

/// By CPU, the numbers of what has come.
fn numbers(notices: &[Notice]) -> BTreeMap<u32, Vec<u32>> {
    let mut numbers = BTreeMap::<u32, Vec<u32>>::new();
    for message in events(notices) {
        numbers.entry(message.cpu).or_default().push(message.sequence);
    }
    numbers
}

#[test]
fn what_an_overrun_has_taken_is_counted_to_the_last_message() {
    if !available() {
        return;
    }
    let _alone = ALONE.lock();
    let (mut whole, mut tiny) = (Connector::open(BUFFER).unwrap(), Connector::open(64 << 10).unwrap());
    tiny.roll_call();
    let known = numbers(&drain(&mut tiny));
    for _ in 0..300 {
        shell(":");
    }
    let mut told = drain(&mut tiny);
    assert!(told.iter().any(|notice| matches!(notice, Notice::Overrun)), "the buffer was full");
    tiny.roll_call();
    told.extend(drain(&mut tiny));
    let all = drain(&mut whole);
    assert!(
        !all.iter().any(|notice| matches!(notice, Notice::Overrun | Notice::Lost(_))),
        "the other one has lost nothing"
    );

    let mut lost = BTreeMap::<u32, u32>::new();
    for notice in &told {
        if let Notice::Lost(loss) = notice {
            assert!(loss.from <= loss.to);
            *lost.entry(loss.cpu).or_default() += loss.count;
        }
    }
    assert!(lost.values().sum::<u32>() > 100, "{lost:?}");
    let (told, all) = (numbers(&told), numbers(&all));
    let mut compared = 0;
    // Of a CPU that this process may not run on, the roll call knows nothing.
    for (cpu, before) in known.iter().filter_map(|(cpu, known)| Some((cpu, known.last()?))) {
        let last = told[cpu].last().unwrap();
        let made = all[cpu].iter().filter(|number| *number > before && *number <= last).count();
        let lost = lost.get(cpu).copied().unwrap_or_default();
        assert_eq!(told[cpu].len() + lost as usize, made, "CPU {cpu}: told and lost are all that were made");
        compared += 1;
    }
    assert!(compared > 0);
}

#[test]
fn what_others_send_is_not_read() {
    if !available() {
        return;
    }
    let _alone = ALONE.lock();
    let mut connector = Connector::open(BUFFER).unwrap();
    let other = Connector::open(BUFFER).unwrap();
    let address = |connector: &Connector| {
        rustix::net::netlink::SocketAddrNetlink::try_from(rustix::net::getsockname(connector).unwrap()).unwrap()
    };
    let to = rustix::net::netlink::SocketAddrNetlink::new(address(&connector).pid(), 0);
    let forged = message::subscription(5);
    rustix::net::sendto(&other, &forged, rustix::net::SendFlags::empty(), &to).unwrap();
    let expected = address(&other).pid();
    until(&mut connector, "what was sent", |notices| {
        notices.iter().any(|notice| matches!(notice, Notice::Foreign { port } if *port == expected))
    });
}

/// Not a test: what those below run elsewhere.
#[test]
#[expect(clippy::print_stdout, reason = "it is read by who runs it")]
#[ignore = "is run by tests, as somebody else"]
fn opens() {
    match Connector::open(BUFFER) {
        Ok(mut connector) => {
            let child = shell(":");
            until(&mut connector, "the child", |notices| {
                events(notices).any(|message| matches!(message.event, ConnectorEvent::Exec { pid, .. } if pid == child))
            });
            print!("outcome: open with {} bytes.", connector.buffer_bytes().unwrap());
        }
        Err(error) => print!("outcome: {error}."),
    }
}

/// What comes of opening below this command; `None` when it cannot be run here.
#[expect(clippy::print_stderr, reason = "a test that skips says why")]
fn outcome(dir: &Path, tool: &str, arguments: &[&str]) -> Option<String> {
    let own = dir.join("test");
    if !own.exists() {
        std::fs::copy(std::env::current_exe().unwrap(), &own).unwrap();
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(tool);
    command.args(arguments).arg(&own).args(["kernel::connector::tests::opens", "--exact", "--ignored", "--nocapture"]);
    let output = command.current_dir("/").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let outcome = text.split_once("outcome: ").and_then(|(_, rest)| rest.split_once('.')).map(|(it, _)| it.to_owned());
    if outcome.is_none() {
        eprintln!("{tool} {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    outcome
}

const MISSING: &str = "needs the capability CAP_NET_ADMIN";

/// Since Linux 6.6 everyone may listen.
fn wants_rights() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    version < (6, 6)
}

#[test]
fn where_it_cannot_be_had_the_reason_is_told() {
    if !available() {
        return;
    }
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    for (arguments, reason) in [
        (&["-n"][..], "only in the host's first network namespace"),
        (&["-pf", "--mount-proc"], "only in the host's first PID namespace"),
        // In a user namespace one's rights are none that the host counts.
        (&["-Ur"], if wants_rights() { MISSING } else { "only in the host's first user namespace" }),
    ] {
        let told = outcome(dir.path(), "unshare", arguments);
        if !testkit::require("namespaces", told.is_some(), "unshare cannot be run, or not with these rights") {
            return;
        }
        let told = told.unwrap();
        assert!(told.contains(reason), "{arguments:?}: {told}");
    }
}

#[test]
fn somebody_without_rights_is_told_which_are_missing_where_the_kernel_wants_them() {
    if !available() {
        return;
    }
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let rights = ["--reuid=54321", "--regid=54321", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"];
    let told = outcome(dir.path(), "setpriv", &rights);
    if !testkit::require("setpriv", told.is_some(), "setpriv cannot be run") {
        return;
    }
    // With a buffer as large as everyone may have.
    let expected = if wants_rights() { MISSING } else { "open with " };
    let told = told.unwrap();
    assert!(told.contains(expected), "{told}");
    assert!(!told.contains(&(2 * BUFFER).to_string()), "{told}");
}
