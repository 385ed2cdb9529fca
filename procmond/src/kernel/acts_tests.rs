//! What this kernel tells of acts that a test does: each is told where its feature is there, and where it is not the reason is.

use super::*;
use crate::kernel::{What, pid_namespace};
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use testkit::Child;

const PATIENCE: Duration = Duration::from_secs(30);
/// Tells the helper that it is one.
const HELPER: &str = "DAEMONEYE_TEST_ACCEPTS";
/// The path of a module that this kernel can load.
const MODULE: &str = "DAEMONEYE_TEST_MODULE";

/// All that was heard so far, in words.
struct Heard {
    acts: Acts,
    connections: Vec<Told>,
    deeds: Vec<(u32, u64, String)>,
}

#[derive(Debug)]
struct Told {
    what: Step,
    /// How the owner is known, and its pid.
    owner: (&'static str, u32),
    local: (IpAddr, u16),
    remote: Option<(IpAddr, u16)>,
    incoming: bool,
    bytes: Option<(u64, u64)>,
    error: Option<i32>,
}

impl Heard {
    /// `None` where eBPF is not to be had, and that may be.
    fn start() -> Option<Self> {
        if !testkit::require("root", testkit::is_root(), "loads eBPF programs") {
            return None;
        }
        let wanted = Wanted { network: true, security: true, pid_namespace: pid_namespace().unwrap() };
        let acts = Acts::load(wanted, &KernelTypes::default());
        Some(Self { acts, connections: Vec::new(), deeds: Vec::new() })
    }

    /// Whether this kernel has the feature, which is required where `acts` are; where it has not, the reason is told.
    fn has(&self, name: &str) -> bool {
        let feature = self.acts.features().iter().find(|feature| feature.name == name).unwrap();
        assert!(feature.available || !feature.reason.is_empty(), "{name} is missing without a reason");
        testkit::require("acts", feature.available, &format!("{name}: {}", feature.reason))
    }

    fn listen(&mut self) {
        self.acts.hold();
        let (connections, deeds) = (&mut self.connections, &mut self.deeds);
        self.acts.tell(&mut |happening| {
            match happening {
                Happening::Connection(it) => connections.push(Told {
                    what: it.what,
                    owner: match &it.owner {
                        Owner::Unknown => ("unknown", 0),
                        Owner::Seen(who) => ("seen", who.pid),
                        Owner::User(who) => ("user", who.pid),
                        Owner::Listener(who) => ("listener", who.pid),
                    },
                    local: it.local,
                    remote: it.remote,
                    incoming: it.incoming,
                    bytes: it.bytes,
                    error: it.error,
                }),
                Happening::Deed(deed) => deeds.push((deed.who.pid, deed.count, described(&deed.what))),
                other => panic!("{other:?} is none of these"),
            }
            ControlFlow::Continue(())
        });
    }

    /// The connection's step at this port, on the side that is asked for.
    fn connection(&mut self, what: Step, port: u16, is_it: impl Fn(&Told) -> bool) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.listen();
            let here = |told: &Told| told.local.1 == port || told.remote.is_some_and(|remote| remote.1 == port);
            if let Some(at) = self.connections.iter().position(|told| told.what == what && here(told) && is_it(told)) {
                return at;
            }
            assert!(Instant::now() < deadline, "no {what:?} at {port}: {:#?}", self.connections);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What this process did, once what it did last is there.
    fn deeds_of(&mut self, pid: u32, until: &str) -> Vec<(u64, String)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.listen();
            let of_it = |(by, count, what): &(u32, u64, String)| (*by == pid).then(|| (*count, what.clone()));
            let deeds: Vec<_> = self.deeds.iter().filter_map(of_it).collect();
            if deeds.iter().any(|(_, what)| what.contains(until)) {
                return deeds;
            }
            assert!(Instant::now() < deadline, "no {until:?} by {pid}: {:#?}", self.deeds);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn described(what: &What<'_>) -> String {
    match what {
        What::Credentials { uid, euid } => format!("uid {} to {}, euid {} to {}", uid.0, uid.1, euid.0, euid.1),
        What::Trace { target, asked_for } => {
            format!("traces {}{}", target.pid, if *asked_for { " as it asks for" } else { "" })
        }
        What::Module { name } => format!("module {}", String::from_utf8_lossy(name)),
        What::Program { name, .. } => format!("program {}", String::from_utf8_lossy(name)),
        What::Memory { protection, mapped, path } => {
            let path = path.as_deref().map_or("anonymous".into(), String::from_utf8_lossy);
            format!("{} {protection} {path}", if *mapped { "maps" } else { "protects" })
        }
    }
}

/// A child that accepts one connection of the listener, takes a byte, gives two, and ends.
fn acceptor(listener: &TcpListener) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "kernel::acts::tests::accepts"]).env(HELPER, "1");
    let socket: OwnedFd = listener.try_clone().unwrap().into();
    // As those do that accept for their parent: the listener is theirs too.
    Child::spawn_with_stdin(command, Stdio::from(socket)).unwrap()
}

#[test]
#[ignore = "is the acceptor of another test"]
fn accepts() {
    if std::env::var_os(HELPER).is_none() {
        return;
    }
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let (mut stream, _) = listener.accept().unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    stream.write_all(b"ok").unwrap();
    // The other side closes first.
    assert_eq!(stream.read(&mut byte).unwrap(), 0);
}

fn told_of_both_sides(address: IpAddr) {
    let Some(mut heard) = Heard::start() else { return };
    let (connects, accepts) = (heard.has("connect"), heard.has("accept"));
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut child = acceptor(&listener);
    let mut stream = TcpStream::connect((address, port)).unwrap();
    let own_port = stream.local_addr().unwrap().port();
    stream.write_all(b"x").unwrap();
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).unwrap();
    drop(stream);
    assert!(child.wait_timeout(PATIENCE).unwrap().success());
    assert!(connects, "every kernel that is supported tells of connections");
    let own = std::process::id();

    let listens = heard.connection(Step::Listens, port, |_| true);
    let listens = &heard.connections[listens];
    assert_eq!((listens.owner, listens.local, listens.remote), (("seen", own), (address, port), None));

    let connect = heard.connection(Step::Connected, port, |_| true);
    let connect = &heard.connections[connect];
    assert_eq!((connect.owner, connect.incoming), (("seen", own), false));
    assert_eq!((connect.local, connect.remote), ((address, own_port), Some((address, port))));

    let closed = heard.connection(Step::Closed, port, |told| !told.incoming && told.remote.is_some());
    let closed = &heard.connections[closed];
    assert_eq!((closed.owner, closed.local, closed.bytes), (("seen", own), (address, own_port), Some((1, 2))));

    if accepts {
        let accept = heard.connection(Step::Accepted, port, |_| true);
        let accept = &heard.connections[accept];
        let (how, pid) = accept.owner;
        assert!(how == "seen" || how == "user", "{accept:?}");
        assert_eq!(pid, child.pid(), "the acceptor, not who listens");
        assert_eq!((accept.local, accept.remote), ((address, port), Some((address, own_port))));
        assert!(accept.incoming);
        let closed = heard.connection(Step::Closed, port, |told| told.incoming);
        let closed = &heard.connections[closed];
        assert_eq!((closed.owner.1, closed.bytes), (child.pid(), Some((2, 1))));
    }
    drop(listener);
    let closed = heard.connection(Step::Closed, port, |told| told.remote.is_none());
    assert_eq!(heard.connections[closed].owner, ("listener", own));
    assert_eq!(heard.acts.losses(), []);
}

#[test]
fn connections_are_told_by_who_connects_and_by_who_accepts() {
    told_of_both_sides(Ipv4Addr::LOCALHOST.into());
}

#[test]
fn connections_of_ipv6_are_told_alike() {
    match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            testkit::require("ipv6", false, "there is no address ::1");
        }
        _ => told_of_both_sides(Ipv6Addr::LOCALHOST.into()),
    }
}

#[test]
fn a_mapped_address_is_one_of_ipv4() {
    let Some(mut heard) = Heard::start() else { return };
    let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) else {
        testkit::require("ipv6", false, "there is no socket of IPv6");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let mapped: IpAddr = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
    let stream = TcpStream::connect((mapped, port)).unwrap();
    if heard.has("connect") {
        let connect = heard.connection(Step::Connected, port, |_| true);
        assert_eq!(heard.connections[connect].remote, Some((Ipv4Addr::LOCALHOST.into(), port)));
    }
    drop(stream);
}

#[test]
fn a_connection_that_is_refused_is_told_with_the_error() {
    let Some(mut heard) = Heard::start() else { return };
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    assert_eq!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    if heard.has("connect") {
        let failed = heard.connection(Step::NotConnected, port, |_| true);
        let failed = &heard.connections[failed];
        assert_eq!(failed.error.map(std::io::Error::from_raw_os_error).unwrap().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(
            (failed.owner, failed.remote),
            (("seen", std::process::id()), Some((Ipv4Addr::LOCALHOST.into(), port)))
        );
        assert!(!heard.connections.iter().any(|told| told.what == Step::Connected && told.remote == failed.remote));
    }
}

#[test]
fn what_is_accepted_and_never_used_has_its_owner_when_it_ends() {
    let Some(mut heard) = Heard::start() else { return };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let waiting = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let own_port = waiting.local_addr().unwrap().port();
    drop(listener.accept().unwrap());
    drop((stream, waiting, listener));
    if heard.has("accept") {
        let accept = heard.connection(Step::Accepted, port, |_| true);
        assert_eq!(heard.connections[accept].owner.1, std::process::id());
        let nobody = |told: &Told| told.incoming && told.remote.is_some_and(|remote| remote.1 == own_port);
        assert!(!heard.connections.iter().any(nobody), "nobody accepted it: {:#?}", heard.connections);
    }
}

/// A child that runs this script.
fn perl(script: &str) -> Option<Child> {
    let there = std::path::Path::new("/usr/bin/perl").exists() && cfg!(target_arch = "x86_64");
    if !testkit::require("perl", there, "makes system calls by their numbers on x86-64") {
        return None;
    }
    let mut command = Command::new("/usr/bin/perl");
    command.args(["-e", script]);
    Some(Child::spawn(command).unwrap())
}

#[test]
fn a_process_that_becomes_root_again_is_told() {
    let Some(mut heard) = Heard::start() else { return };
    let Some(mut child) = perl("$> = 65534; $> = 0; die unless $> == 0") else { return };
    assert!(child.wait_timeout(PATIENCE).unwrap().success());
    if heard.has("credentials") {
        let deeds = heard.deeds_of(child.pid(), "uid");
        assert_eq!(deeds, [(1, "uid 0 to 0, euid 65534 to 0".to_owned())]);
    }
}

#[test]
fn who_traces_another_and_who_asks_to_be_traced_is_told() {
    let Some(mut heard) = Heard::start() else { return };
    let Some(mut child) = perl("syscall(101, 0, 0, 0, 0) == 0 or die; sleep 600") else { return };
    let memory = File::open(format!("/proc/{}/mem", child.pid())).unwrap();
    if heard.has("ptrace") {
        let own = std::process::id();
        heard.deeds_of(own, &format!("traces {} as it asks for", child.pid()));
    }
    drop(memory);
    child.signal(testkit::Signal::KILL).unwrap();
    child.wait_timeout(PATIENCE).unwrap();
}

#[test]
fn memory_that_becomes_executable_is_told_with_how_often() {
    let Some(mut heard) = Heard::start() else { return };
    let script = "my $at = syscall(9, 0, 8192, 3, 0x22, -1, 0); $at > 0 or die;
        syscall(10, $at, 4096, 5) == 0 or die;
        for (1..100) { syscall(9, 0, 4096, 7, 0x22, -1, 0) > 0 or die }
        select(undef, undef, undef, 1.2);
        syscall(9, 0, 4096, 7, 0x22, -1, 0) > 0 or die";
    let Some(mut child) = perl(script) else { return };
    assert!(child.wait_timeout(PATIENCE).unwrap().success());
    if heard.has("memory_exec") {
        heard.deeds_of(child.pid(), "protects 5 anonymous");
        let deeds = heard.deeds_of(child.pid(), "maps 7 anonymous");
        let maps = deeds.iter().filter(|(_, what)| what.starts_with("maps")).map(|(count, _)| count).sum::<u64>();
        assert_eq!(maps, 101, "{deeds:?}");
        assert!(deeds.len() < 20, "most are kept back: {deeds:?}");
    }
}

#[test]
fn what_is_kept_back_and_followed_by_nothing_is_told_all_the_same() {
    let Some(mut heard) = Heard::start() else { return };
    let script = "for (1..50) { syscall(9, 0, 4096, 7, 0x22, -1, 0) > 0 or die } sleep 600";
    let Some(child) = perl(script) else { return };
    if heard.has("memory_exec") {
        let deadline = Instant::now() + PATIENCE;
        let maps = |deeds: &[(u64, String)]| -> u64 {
            deeds.iter().filter(|(_, what)| what.starts_with("maps 7")).map(|(count, _)| count).sum()
        };
        while maps(&heard.deeds_of(child.pid(), "maps 7")) < 50 {
            assert!(Instant::now() < deadline, "{:#?}", heard.deeds);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(maps(&heard.deeds_of(child.pid(), "maps 7")), 50);
        assert!(!heard.acts.losses().iter().any(|loss| loss.kind == "shed"));
    }
}

#[test]
fn ebpf_programs_of_others_are_told_and_modules_where_there_are_any() {
    let Some(mut heard) = Heard::start() else { return };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "kernel::acts::tests::a_mapped_address_is_one_of_ipv4"]);
    let mut child = Child::spawn(command).unwrap();
    assert!(child.wait_timeout(PATIENCE).unwrap().success());
    if heard.has("bpf_load") {
        heard.deeds_of(child.pid(), "program on_state");
        assert_eq!(
            heard.deeds.iter().filter(|(pid, ..)| *pid == std::process::id()).count(),
            0,
            "our own are not told"
        );
    }
    let modules = heard.has("module_load");
    if let Some(module) = std::env::var_os(MODULE) {
        assert!(modules, "this kernel loads modules");
        let mut command = Command::new("insmod");
        command.arg(&module);
        let mut child = Child::spawn(command).unwrap();
        assert!(child.wait_timeout(PATIENCE).unwrap().success(), "{}", child.stderr());
        let name = std::path::Path::new(&module).file_stem().unwrap().to_string_lossy().into_owned();
        heard.deeds_of(child.pid(), &format!("module {name}"));
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "for who reads of a run on another kernel")]
fn what_is_missing_is_told_with_its_reason() {
    let wanted = Wanted { network: true, security: false, pid_namespace: 1 };
    let none = Acts::without(wanted, "the moon is full");
    let names: Vec<_> = none.features().iter().map(|feature| (feature.name.as_str(), feature.available)).collect();
    assert_eq!(names, [("connect", false), ("accept", false)], "what is not wanted is not missed");
    assert!(none.features().iter().all(|feature| feature.reason == "the moon is full"));
    assert!(none.features().iter().all(|feature| feature.tables == ["network.connections"]));
    assert!(!none.has_any());

    let Some(heard) = Heard::start() else { return };
    let features = heard.acts.features();
    assert_eq!(features.len(), 7, "{features:#?}");
    let module = features.iter().find(|feature| feature.name == "module_load").unwrap();
    let has_modules = std::path::Path::new("/proc/modules").exists();
    assert_eq!(module.available, has_modules);
    assert_eq!(module.tables.is_empty(), !has_modules, "where there are no modules nothing is missed");
    for Feature { name, available, reason, .. } in features {
        eprintln!("feature {name}: {} {reason}", if *available { "available" } else { "unavailable" });
    }
    for feature in features.iter().filter(|feature| !feature.available) {
        assert!(!feature.reason.contains('\n') && !feature.reason.is_empty(), "{feature:?}");
    }
}

#[test]
fn acts_whose_losses_cannot_be_known_are_features_that_are_missing() {
    let wanted = Wanted { network: true, security: true, pid_namespace: 1 };
    let mut acts = Acts::without(wanted, "none");
    acts.features.iter_mut().for_each(|feature| feature.available = feature.name != "accept");
    assert!(!acts.is_changed());
    let loss = acts.mistrust(ebpf::NETWORK_FEATURES, "it is gone");
    let reason = "how many events are lost cannot be known any more: it is gone";
    assert_eq!(loss, Loss { kind: "losses_unknown", count: None, reason: reason.to_owned() });
    let features: Vec<_> =
        acts.features().iter().map(|it| (it.name.as_str(), it.available, it.reason.as_str())).collect();
    assert_eq!(features[..3], [("connect", false, reason), ("accept", false, "none"), ("credentials", true, "none")]);
    assert!(acts.is_changed());
}
