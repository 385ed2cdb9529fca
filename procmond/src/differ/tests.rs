//! Scans of processes that a test makes up, one after the other.

use super::*;
use crate::reader::fake::{FakeProc, FakeProcess, file};
use crate::scan::{ProcessCollector as _, Scanner};

static BOOT: Boot = Boot { id: String::new(), time_ns: 0, ticks_per_second: 100, page_size: 4096 };

#[derive(Default)]
struct Host {
    table: Table,
    scan: u64,
}

impl Host {
    /// What a scan of these processes tells: event type, name, record.
    fn scan(&mut self, proc: &FakeProc) -> Vec<(EventType, String, ProcessRecord)> {
        let mut events = Vec::new();
        self.scan += 1;
        let mut tell = |item| {
            let Item::Process(event) = item else { panic!("{item:?}") };
            let event_type = event.event_type();
            let record = event.process.unwrap();
            events.push((event_type, record.name.clone().unwrap_or_default(), record));
            Ok(())
        };
        let mut pass = Pass::new(&BOOT, &mut self.table, self.scan, &mut tell);
        Scanner::new(proc.clone(), BOOT.clone(), 1 << 18).enumerate_processes(&mut pass).unwrap();
        pass.finish(|_| false).unwrap();
        events
    }

    fn names(&mut self, proc: &FakeProc) -> Vec<String> {
        let events = self.scan(proc);
        events.into_iter().map(|(event_type, name, _)| format!("{} {name}", event_type.name())).collect()
    }

    /// So many scans in which everything gets its turn.
    fn settle(&mut self, proc: &FakeProc) -> Vec<String> {
        (0..=TURNS).flat_map(|_| self.names(proc)).collect()
    }
}

fn host() -> (Host, FakeProc) {
    let proc = FakeProc::new([(1, FakeProcess::new("init", 0, 1)), (20, FakeProcess::new("web", 1, 100))]);
    let mut host = Host::default();
    assert_eq!(host.names(&proc), ["seen init", "seen web"]);
    (host, proc)
}

#[test]
fn nothing_new_is_nothing_told() {
    let (mut host, proc) = host();
    assert!(host.settle(&proc).is_empty());
}

#[test]
fn beginnings_and_ends_are_told_once() {
    let (mut host, mut proc) = host();
    proc.processes.insert(30, FakeProcess { ticks: 70, ..FakeProcess::new("job", 20, 200) });
    let events = host.scan(&proc);
    let [(EventType::Seen, _, seen)] = &events[..] else { panic!("{events:?}") };
    assert!(host.names(&proc).is_empty());
    proc.processes.remove(&30);
    let events = host.scan(&proc);
    let [(EventType::Exit, _, exit)] = &events[..] else { panic!("{events:?}") };
    assert!(host.settle(&proc).is_empty());

    assert_eq!((&exit.process_key, &exit.parent_key), (&seen.process_key, &seen.parent_key));
    assert!(exit.parent_key.is_some());
    assert_eq!((&exit.name, &exit.executable_path), (&seen.name, &seen.executable_path));
    assert_eq!((&exit.command_line, exit.command_line_truncated), (&seen.command_line, Some(false)));
    assert_eq!((exit.uid, exit.start_time), (seen.uid, seen.start_time));
    assert_eq!(exit.cpu_time_ns, Some(700_000_000));
    assert_eq!(exit.end_time, Some(exit.collection_time));
    assert_eq!(exit.provenance["end_time"], why::INFERRED);
    assert_eq!(exit.provenance["exit_code"], why::POLLING);
    assert_eq!(exit.provenance[why::NONE], why::NOT_KEPT);
}

#[test]
fn identity_columns_make_changes_and_others_do_not() {
    type Change = fn(&mut FakeProcess);
    let cases: [(&str, bool, Change); 12] = [
        ("name", true, |p| p.comm = b"web2"),
        ("argv", true, |p| p.command_line = b"web\0".to_vec()),
        ("executable_path", true, |p| p.program = Some(b"/bin/other")),
        ("euid", true, |p| p.owner.euid = 0),
        ("image_mismatch", true, |p| (p.program, p.image) = (Some(&b"/bin/program (deleted)"[..]), file(2))),
        ("cgroup", true, |p| p.cgroup = "0::/system.slice\n"),
        ("loginuid", true, |p| p.loginuid = 0),
        ("cpu", false, |p| p.ticks += 100),
        ("state", false, |p| p.state = 'R'),
        ("ppid", false, |p| p.ppid = 0),
        ("zombie", false, |p| *p = p.zombie()),
        ("exiting", false, |p| (p.flags, p.program, p.command_line) = (4, None, Vec::new())),
    ];
    for (what, is_change, change) in cases {
        let (mut host, mut proc) = host();
        change(proc.processes.get_mut(&20).unwrap());
        let told = host.settle(&proc);
        assert_eq!(told.len(), usize::from(is_change), "{what}: {told:?}");
        assert!(told.iter().all(|event| event.starts_with("changed web")), "{what}: {told:?}");
    }
}

#[test]
fn a_pid_that_is_used_again_is_an_end_and_a_beginning() {
    let (mut host, mut proc) = host();
    proc.processes.insert(20, FakeProcess::new("other", 1, 300));
    let events = host.scan(&proc);
    let [(EventType::Exit, old, exit), (EventType::Seen, new, seen)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((old.as_str(), new.as_str()), ("web", "other"));
    assert_ne!(exit.process_key, seen.process_key);
}

#[test]
fn a_process_keeps_the_parent_that_it_was_seen_with() {
    let (mut host, mut proc) = host();
    proc.processes.insert(30, FakeProcess::new("job", 20, 200));
    let parent_key = host.scan(&proc).remove(0).2.parent_key;
    proc.processes.remove(&20);
    let job = proc.processes.get_mut(&30).unwrap();
    job.ppid = 1;
    assert_eq!(host.names(&proc), ["exit web"], "a new parent is no change");
    proc.processes.get_mut(&30).unwrap().comm = b"renamed";
    let (event_type, _, record) = host.scan(&proc).remove(0);
    assert_eq!((event_type, record.ppid), (EventType::Changed, Some(20)));
    assert_eq!(record.parent_key, parent_key);
    assert_eq!((record.parent_name, record.provenance["parent_name"].as_str()), (None, why::PARENT_GONE));
    proc.processes.remove(&30);
    assert_eq!(host.scan(&proc).remove(0).2.parent_key, parent_key);
}

#[test]
fn a_process_that_vanishes_while_it_is_read_ends_if_it_was_known() {
    let (mut host, mut proc) = host();
    proc.processes.insert(30, FakeProcess { gone: vec![c"status"], ..FakeProcess::new("short", 1, 200) });
    proc.processes.get_mut(&20).unwrap().gone = vec![c"stat"];
    assert_eq!(host.names(&proc), ["exit web"]);
}

#[test]
fn denial_is_no_change_and_no_end() {
    let (mut host, proc) = host();
    let mut denying = proc.clone();
    denying.processes.get_mut(&20).unwrap().denied = vec![c"exe", c"root", c"cgroup", c"loginuid", c"status"];
    assert!(host.settle(&denying).is_empty());
    let mut hiding = proc.clone();
    hiding.hidden = Some(20);
    assert!(host.settle(&hiding).is_empty());
    assert!(host.settle(&proc).is_empty());
    let mut other = proc.clone();
    other.processes.remove(&20);
    let (_, _, exit) = host.scan(&other).remove(0);
    assert_eq!(exit.executable_path.as_deref(), Some("/bin/program"), "what was known before stays known");
}

#[test]
fn what_was_denied_at_first_is_told_when_it_can_be_read() {
    let mut host = Host::default();
    let proc = FakeProc::new([(1, FakeProcess::new("init", 0, 1))]);
    let mut denying = proc.clone();
    denying.processes.get_mut(&1).unwrap().denied = vec![c"exe"];
    assert_eq!(host.names(&denying), ["seen init"]);
    assert_eq!(host.settle(&proc), ["changed init"]);
}

#[test]
fn cpu_usage_is_that_since_the_scan_before() {
    let (mut host, mut proc) = host();
    let told = host.table.get_mut(20).unwrap();
    // As if the last look had been two seconds ago.
    told.cpu_at -= 2_000_000_000;
    let process = proc.processes.get_mut(&20).unwrap();
    (process.ticks, process.comm) = (100, b"busy");
    let record = host.scan(&proc).remove(0).2;
    let usage = record.cpu_usage.unwrap();
    assert!((40.0..=50.0).contains(&usage), "one second of CPU in two: {usage}");
    assert!(!record.provenance.contains_key("cpu_usage"));
}

#[test]
fn an_event_that_is_not_taken_comes_again() {
    let (mut host, mut proc) = host();
    proc.processes.insert(30, FakeProcess::new("job", 20, 200));
    proc.processes.get_mut(&1).unwrap().comm = b"systemd";
    host.scan += 1;
    let mut tell = |_| Err(Interrupted);
    let mut pass = Pass::new(&BOOT, &mut host.table, host.scan, &mut tell);
    let ended = Scanner::new(proc.clone(), BOOT.clone(), 1 << 18).enumerate_processes(&mut pass);
    assert!(ended.is_err());
    assert_eq!(host.names(&proc), ["changed systemd", "seen job"]);
}

#[test]
fn an_image_unlike_the_one_before_it_is_told_as_a_change() {
    use crate::hashing::{Digester, Hashed, Hashes, Outcome, Source, Version};
    use std::sync::Arc;
    const FUZZY: [&str; 3] =
        ["6:Ijp8k+Ey7sP7r9bXaTDXb6CJg:a", "6:zzzyyyxxxwwwvvvuuutttsssrrr:b", "6:qqqpppooonnnmmmlllkkk:c"];
    /// Of each file another hash.
    struct Unlike;
    impl Digester for Unlike {
        fn resolve(&self, image: Version, _: &Source) -> Option<Version> {
            Some(image)
        }
        fn digest(&self, version: Version, _: &Source, _: &mut dyn FnMut() -> bool) -> Outcome {
            let known = (1..=3).find(|inode| Version::from(&file(*inode)) == version).unwrap();
            Outcome::Hash(Hashed { sha256: [known as u8; 32], fuzzy: Some(FUZZY[known as usize - 1].into()) })
        }
        fn is_fuzzy(&self) -> bool {
            true
        }
    }
    let hashes = Hashes::start(4, Arc::new(Unlike)).unwrap();
    let knows = |inode| {
        let version = Version::from(&file(inode));
        hashes.ask(version, || Source { pid: None, path: None });
        testkit::wait_for("the hash", std::time::Duration::from_secs(20), || hashes.knows(version));
    };
    let proc = |processes: &[(u32, u64)], at_the_path| {
        let process = |(pid, inode): &(u32, u64)| {
            (*pid, FakeProcess { image: file(*inode), ..FakeProcess::new("web", 0, 1 + u64::from(*pid)) })
        };
        let mut proc = FakeProc::new(processes.iter().map(process));
        proc.files.insert(b"/bin/program", file(at_the_path));
        proc
    };
    let scanner = |proc| {
        Scanner::new(proc, BOOT.clone(), 1 << 18)
            .hashing(hashes.clone())
            .comparing(crate::scan::Predecessors::shared(50))
    };
    let (mut table, mut number) = (Table::default(), 0);
    let mut scan = |scanner: &mut Scanner<FakeProc>| {
        number += 1;
        let mut told = Vec::new();
        let mut tell = |item| {
            let Item::Process(event) = item else { panic!("{item:?}") };
            let (event_type, record) = (event.event_type(), event.process.unwrap());
            let note = |name: &str| record.platform_data.get(name).cloned().unwrap_or_default();
            assert!(record.fuzzy_hash.is_some() || event_type == EventType::Exit);
            told.push((event_type, record.pid, note("fuzzy_similarity"), note("fuzzy_previous")));
            Ok(())
        };
        let mut pass = Pass::new(&BOOT, &mut table, number, &mut tell);
        scanner.enumerate_processes(&mut pass).unwrap();
        pass.finish(|_| false).unwrap();
        told
    };
    let (none, seen, changed) = (String::new(), EventType::Seen, EventType::Changed);
    knows(1);
    knows(2);
    knows(3);
    let mut scanner = scanner(proc(&[(1, 1)], 1));
    assert_eq!(scan(&mut scanner), [(seen, 1, none.clone(), none.clone())]);
    // The first process goes on with the old image, and another one begins with the new one.
    scanner.replace(proc(&[(1, 1), (2, 2)], 2));
    let unlike = |pid, previous: usize| (changed, pid, "0".to_owned(), FUZZY[previous].to_owned());
    let told = scan(&mut scanner);
    assert_eq!(
        told.iter().filter(|(_, pid, ..)| *pid == 2).collect::<Vec<_>>(),
        [&(seen, 2, none.clone(), none), &unlike(2, 0)]
    );
    assert_eq!(told.iter().filter(|(_, _, similarity, _)| !similarity.is_empty()).count(), 1, "{told:?}");
    scanner.replace(proc(&[(1, 1), (2, 2), (3, 2)], 2));
    for _ in 0..=TURNS {
        assert!(scan(&mut scanner).iter().all(|(_, _, similarity, _)| similarity.is_empty()), "it is new once");
    }
    // A process that turns into another program at the same path: one event, which is a change anyway.
    scanner.replace(proc(&[(3, 3)], 3));
    let told: Vec<_> = (0..=TURNS).flat_map(|_| scan(&mut scanner)).filter(|(_, pid, ..)| *pid == 3).collect();
    assert_eq!(told, [unlike(3, 1)]);
}

#[test]
fn the_hash_follows_as_a_change_and_is_not_told_again() {
    let (hashes, allow) = crate::hashing::held_back();
    let proc = FakeProc::new([(1, FakeProcess::new("init", 0, 1)), (20, FakeProcess::new("web", 1, 100))]);
    let mut scanner = Scanner::new(proc, BOOT.clone(), 1 << 18).hashing(hashes);
    let mut table = Table::default();
    let mut number = 0;
    let mut scan = |table: &mut Table, scanner: &mut Scanner<FakeProc>| {
        number += 1;
        let mut told = Vec::new();
        let mut tell = |item| {
            let Item::Process(event) = item else { panic!("{item:?}") };
            told.push((event.event_type(), event.process.unwrap().executable_hash));
            Ok(())
        };
        let mut pass = Pass::new(&BOOT, table, number, &mut tell);
        scanner.enumerate_processes(&mut pass).unwrap();
        pass.finish(|_| false).unwrap();
        told
    };
    assert_eq!(scan(&mut table, &mut scanner), [(EventType::Seen, None), (EventType::Seen, None)]);
    assert_eq!(scan(&mut table, &mut scanner), []);
    allow.send(()).unwrap();
    let hash = Some("ab".repeat(32));
    let changes = testkit::wait_for("the hash", std::time::Duration::from_secs(20), || {
        let told = scan(&mut table, &mut scanner);
        (!told.is_empty()).then_some(told)
    });
    assert_eq!(changes, [(EventType::Changed, hash.clone()), (EventType::Changed, hash)]);
    for _ in 0..40 {
        assert_eq!(scan(&mut table, &mut scanner), []);
    }
    // After a restart the hash is computed anew, and it is what was told.
    let (hashes, allow) = crate::hashing::held_back();
    let mut scanner = scanner.hashing(hashes);
    for round in 0..40 {
        assert_eq!(scan(&mut table, &mut scanner), [], "{round}");
        let _ = allow.send(());
    }
}
