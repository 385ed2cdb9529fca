//! The portable collector against the one for Linux, on this host.

use super::Portable;
use super::record::NOT_HERE;
use crate::mask::Masker;
use crate::provenance as why;
use crate::reader::HostProc;
use crate::scan::{Glance, Interrupted, Observed, ProcessCollector, Scanner, Visitor};
use daemoneye_lib::models::columns::{PROCESS, Value};
use daemoneye_lib::proto::common::ProcessRecord;
use std::collections::BTreeMap;
use std::path::Path;

const LIMIT: usize = 256 * 1024;

#[derive(Default)]
struct All(BTreeMap<u32, ProcessRecord>);

impl Visitor for All {
    fn wants(&mut self, _: &Glance<'_>) -> Result<bool, Interrupted> {
        Ok(true)
    }

    fn observed(&mut self, observed: Observed<'_>) -> Result<(), Interrupted> {
        assert!(self.0.insert(observed.record.pid, observed.record).is_none(), "each process is shown once");
        Ok(())
    }

    fn unreadable(&mut self, _: u32) {}
}

fn scan(collector: &mut dyn ProcessCollector) -> BTreeMap<u32, ProcessRecord> {
    let mut all = All::default();
    let counts = collector.enumerate_processes(&mut all).unwrap();
    assert_eq!(counts.processes as usize, all.0.len());
    all.0
}

#[test]
fn both_collectors_see_the_same_processes() {
    let mut linux = Scanner::new(HostProc::open(Path::new("/proc")).unwrap(), crate::Boot::current().unwrap(), LIMIT);
    let mut portable = Portable::new(LIMIT, Masker::new(&[]));
    let before = scan(&mut linux);
    let found = scan(&mut portable);
    let after = scan(&mut linux);
    // What ran all the time, the same by its key and unchanged, is compared; other tests' processes come and go.
    let mut compared = 0;
    for (pid, record) in &before {
        let same = |later: &&ProcessRecord| {
            later.process_key == record.process_key && later.argv == record.argv && later.name == record.name
        };
        // Of a kernel worker the portable name holds the work of the moment.
        let kernel_thread = record.provenance.get("argv").is_some_and(|reason| reason == why::KERNEL_THREAD);
        if after.get(pid).filter(same).is_none() || kernel_thread || record.status.as_deref() == Some("zombie") {
            continue;
        }
        let other = found.get(pid).unwrap_or_else(|| panic!("{pid} is missing: {record:?}"));
        assert_eq!((&other.name, other.ppid.unwrap_or(0), other.uid), (&record.name, record.ppid.unwrap(), record.uid));
        // On Linux sysinfo leaves out what is empty, and white space at the ends.
        let plain = |argument: &String| !argument.is_empty() && argument.trim() == argument;
        if record.argv.as_ref().is_some_and(|argv| argv.values.iter().all(plain)) {
            assert_eq!((&other.command_line, &other.argv), (&record.command_line, &record.argv), "{pid}");
        }
        let apart = other.start_time.unwrap().abs_diff(record.start_time.unwrap());
        assert!(apart < 3_000_000_000, "{pid} started {apart} ns apart");
        compared += 1;
    }
    assert!(compared > 0 && before.contains_key(&std::process::id()), "this process ran all the time");
    assert_eq!(found.get(&std::process::id()).unwrap().executable_path, before[&std::process::id()].executable_path);
}

#[test]
fn what_the_system_does_not_say_is_said_to_be_unavailable() {
    let own = scan(&mut Portable::new(LIMIT, Masker::new(&[]))).remove(&std::process::id()).unwrap();
    for column in ["cgroup", "loginuid", "image_mismatch", "max_rss"] {
        assert_eq!(own.provenance[column], NOT_HERE, "{column}");
    }
    for column in PROCESS {
        let told = own.provenance.contains_key(column.name);
        assert!((column.get)(&own) != Value::Null || told, "{} has neither value nor reason", column.name);
    }
    assert!(own.parent_key.is_some() && own.parent_name.is_some(), "{own:?}");
}

#[test]
fn a_long_command_line_says_that_it_is_cut() {
    let own = scan(&mut Portable::new(3, Masker::off())).remove(&std::process::id()).unwrap();
    assert_eq!(own.command_line_truncated, Some(true));
    assert_eq!(own.command_line.map(|line| line.len()), Some(3));
}

#[test]
fn a_second_scan_knows_the_process_by_the_same_key() {
    let mut portable = Portable::new(LIMIT, Masker::new(&[]));
    let key = |records: BTreeMap<u32, ProcessRecord>| records[&std::process::id()].process_key.clone();
    assert_eq!(key(scan(&mut portable)), key(scan(&mut portable)));
    assert_eq!(key(scan(&mut portable)), key(scan(&mut Portable::new(LIMIT, Masker::new(&[])))));
}

#[test]
fn secrets_are_masked() {
    let mut shell = std::process::Command::new("sh");
    let mut shell = shell
        .args(["-c", "read line", "sh", "--password", "hunter2"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let record = scan(&mut Portable::new(LIMIT, Masker::new(&[]))).remove(&shell.id()).unwrap();
    drop(shell.stdin.take());
    shell.wait().unwrap();
    assert_eq!(record.argv.as_ref().unwrap().values.last().map(String::as_str), Some("***"));
    assert_eq!(record.platform_data["masked"], "argv,command_line");
    assert!(!format!("{record:?}").contains("hunter2"));
}
