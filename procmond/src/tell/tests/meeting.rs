//! Scans that meet a process while its events wait: every exec is told, and none twice.

use super::*;
use crate::differ::{Beside, Pass};
use crate::memory::{self, Header, Keeper};
use crate::reader::Owner;
use crate::scan::{Glance, Observed, Visitor as _};
use crate::stat::Stat;
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::common::Arguments;

const EXEC: EventType = EventType::Exec;

/// A program of process 5: its number among the process's, its name.
type Program = (u64, &'static str);

fn path(program: Program) -> String {
    format!("/bin/{}", program.1)
}

/// Process 5, which began at tick 50 below process 1.
fn five(at: u64) -> Who<'static> {
    who(5, 50, (1, 1), at)
}

impl Host {
    /// The kernel tells that process 5 began this program.
    fn execs(&mut self, program: Program, at: u64) -> Vec<(EventType, String)> {
        let who = Who { exec_id: program.0, name: program.1.as_bytes(), ..five(at) };
        words(self.hear(exec(who, path(program).as_bytes(), b"x\0")))
    }

    /// A scan, beside events that are told since this tick, meets process 5 with the program.
    fn meets(&mut self, program: Program, since: u64) -> Vec<(EventType, String)> {
        let path = path(program);
        let stat = Stat {
            comm: program.1.as_bytes(),
            state: b'R',
            ppid: 1,
            session: 0,
            tty: 0,
            flags: 0,
            cpu_ticks: 0,
            start_ticks: 50,
            resident_pages: 1,
        };
        let glance = Glance {
            pid: 5,
            at: now_ns(),
            stat,
            owner: Owner { euid: 10, egid: 0 },
            command_line: Ok(b"x\0"),
            command_line_cut: false,
            program: Ok(path.as_bytes()),
            news: false,
            exec_id: Some(program.0),
        };
        let record = ProcessRecord {
            pid: 5,
            executable_path: Some(path.clone()),
            name: Some(program.1.to_owned()),
            argv: Some(Arguments { values: vec!["x".to_owned()] }),
            ..ProcessRecord::default()
        };
        let mut told = Vec::new();
        let mut tell = |item| {
            let Item::Process(event) = item else { panic!("{item:?}") };
            told.push((event.event_type(), event.process.unwrap()));
            Ok(())
        };
        let mut beside = Beside::since(since);
        let mut pass = Pass::new(&BOOT, &mut self.table, 1, &mut tell).beside(Some(&mut beside));
        if pass.wants(&glance).unwrap() {
            pass.observed(Observed { record, glance: &glance, parent_start: Some(1) }).unwrap();
        }
        words(told)
    }
}

fn words(told: Vec<(EventType, ProcessRecord)>) -> Vec<(EventType, String)> {
    told.into_iter().map(|(kind, record)| (kind, record.executable_path.unwrap_or_default())).collect()
}

fn of(kind: EventType, program: Program) -> Vec<(EventType, String)> {
    vec![(kind, path(program))]
}

const A: Program = (8, "a");
const B: Program = (9, "b");

#[test]
fn an_exec_that_waits_while_a_scan_sees_what_it_began_is_told() {
    let mut host = Host::new();
    host.one(fork(five(50)));
    assert_eq!(host.meets(A, 0), of(EventType::Changed, A), "its fork was told, and now it runs a program");
    assert_eq!(host.execs(A, 51), of(EXEC, A));
    assert_eq!(host.meets(A, 0), [], "the scan knows what the event told");
}

#[test]
fn each_of_two_execs_before_one_look_is_told() {
    let mut host = Host::new();
    host.one(fork(five(50)));
    assert_eq!(host.meets(B, 0), of(EventType::Changed, B));
    assert_eq!((host.execs(A, 51), host.execs(B, 52)), (of(EXEC, A), of(EXEC, B)));

    // The same where nothing was told of the process before: what it ran first follows, and what it runs now comes last.
    let mut host = Host::new();
    assert_eq!(host.meets(B, 60), of(EventType::Seen, B));
    assert_eq!((host.execs(A, 51), host.execs(B, 52)), (of(EXEC, A), of(EXEC, B)));
}

#[test]
fn what_began_since_the_events_is_left_to_them() {
    let mut host = Host::new();
    assert_eq!(host.meets(A, 40), []);
    assert_eq!(host.one(fork(five(50))).0, EventType::Fork);
    assert_eq!(host.execs(A, 51), of(EXEC, A));
}

#[test]
fn the_exec_that_seen_has_told_is_not_told_again_and_every_other_is() {
    let mut host = Host::new();
    assert_eq!(host.meets(A, 60), of(EventType::Seen, A));
    assert_eq!(host.hear(fork(five(50))), []);
    assert_eq!(host.execs(A, 51), []);
    assert_eq!(host.execs(B, 52), of(EXEC, B));
    let again = (B.0 + 1, B.1);
    assert_eq!(host.execs(again, 53), of(EXEC, B), "the same command is another exec");
    // A copy of a process that was seen was not seen itself.
    let mut host = Host::new();
    host.meets(A, 60);
    host.one(fork(who(6, 70, (5, 50), 70)));
    let child = Who { exec_id: A.0, name: A.1.as_bytes(), ..who(6, 70, (5, 50), 71) };
    assert_eq!(words(host.hear(exec(child, path(A).as_bytes(), b"x\0"))), of(EXEC, A));
}

#[test]
fn a_look_in_the_middle_of_an_exec_stands_for_none() {
    let mut host = Host::new();
    let between = (A.0, B.1);
    assert_eq!(host.meets(between, 60), of(EventType::Seen, B), "the new program, under the old number");
    assert_eq!((host.execs(A, 51), host.execs(B, 52)), (of(EXEC, A), of(EXEC, B)));
}

#[test]
fn neither_a_restart_nor_a_clock_that_is_set_back_swallows_an_exec() {
    let mut host = Host::new();
    assert_eq!(host.meets(A, 60), of(EventType::Seen, A));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("known.bin");
    Keeper::new(path.clone()).write(&Header::default(), &host.table).unwrap();
    host.table = memory::load(&path).unwrap().unwrap().table;
    // Whatever the time is told to be, the look was later.
    host.clock = now_ns() - 3_600_000_000_000;
    assert_eq!(host.execs(B, 61), of(EXEC, B));
    assert_eq!(host.meets(B, 60), []);
    assert_eq!(host.execs((B.0 + 1, "c"), 62), of(EXEC, (0, "c")));
}
