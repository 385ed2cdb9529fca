//! The iterators beside `/proc`, on this host.

use super::*;
use crate::boot::Boot;
use crate::reader::HostProc;
use crate::scan::{Interrupted, Observed, ProcessCollector as _, Scanner};
use daemoneye_lib::proto::common::ProcessRecord;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Wants everything.
#[derive(Default)]
struct All(BTreeMap<(u32, String), ProcessRecord>);

impl Visitor for All {
    fn wants(&mut self, _: &Glance<'_>) -> Result<bool, Interrupted> {
        Ok(true)
    }

    fn observed(&mut self, observed: Observed<'_>) -> Result<(), Interrupted> {
        let record = observed.record;
        self.0.insert((record.pid, record.process_key.clone()), record);
        Ok(())
    }

    fn unreadable(&mut self, _: u32) {}
}

fn scan(iterators: bool) -> BTreeMap<(u32, String), ProcessRecord> {
    let proc = HostProc::open(Path::new("/proc")).unwrap();
    let boot = Boot { time_ns: 0, ..Boot::current().unwrap() };
    let scanner = Scanner::new(proc, boot, 1 << 18);
    let mut scanner = if iterators { scanner.with_iterators().unwrap() } else { scanner };
    let mut all = All::default();
    scanner.enumerate_processes(&mut all).unwrap();
    assert_eq!(scanner.roster.is_some(), iterators, "the iterators gave out");
    all.0
}

/// A record without what moves from one look to the next.
fn still(record: &ProcessRecord) -> ProcessRecord {
    let mut record = record.clone();
    (record.cpu_usage, record.cpu_time_ns, record.memory_usage, record.max_rss) = (None, None, None, None);
    (record.status, record.collection_time) = (None, 0);
    record.provenance.remove("cpu_usage");
    record
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sleeper(program: &Path, change: impl FnOnce(&mut Command)) -> Ended {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    change(&mut command);
    command.arg("600");
    Ended(command.spawn().unwrap())
}

/// What is there when nothing stands out: each process in its own way hard to read.
fn crowd(dir: &Path) -> Vec<Ended> {
    let sleep = Path::new("/bin/sleep");
    let (copy, odd) = (dir.join("gone"), dir.join("odd\n (deleted)"));
    std::fs::copy(sleep, &copy).unwrap();
    std::fs::copy(sleep, &odd).unwrap();
    let crowd = vec![
        sleeper(sleep, |_| {}),
        sleeper(sleep, |command| _ = command.arg0("sl \u{fc}\n").env("LD_LIBRARY_PATH", "/nowhere")),
        sleeper(sleep, |command| _ = command.args(vec!["0"; 30_000])),
        sleeper(sleep, |command| _ = command.args(vec!["0"; 150_000])),
        sleeper(sleep, |command| _ = command.arg0("")),
        sleeper(sleep, |command| _ = command.uid(65_534).gid(65_534).current_dir("/tmp")),
        sleeper(&copy, |_| {}),
        sleeper(&odd, |_| {}),
        // It writes a title over its arguments that is longer than they were.
        sleeper(Path::new("/usr/bin/perl"), |command| _ = command.args(["-e", "$0 = 'x' x 300; sleep 600"])),
        sleeper(Path::new("/bin/true"), |_| {}),
    ];
    let [true_, stopped] = [crowd.last().unwrap(), crowd.first().unwrap()].map(|child| child.0.id());
    let stat = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    testkit::wait_for("a zombie", PATIENCE, || stat(true_).contains(") Z "));
    let pid = rustix::process::Pid::from_raw(i32::try_from(stopped).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    testkit::wait_for("a stopped process", PATIENCE, || stat(stopped).contains(") T "));
    for child in &crowd[..9] {
        let line = format!("/proc/{}/comm", child.0.id());
        testkit::wait_for("the programs", PATIENCE, || {
            std::fs::read_to_string(&line).is_ok_and(|name| !name.contains("procmond"))
        });
    }
    std::fs::remove_file(copy).unwrap();
    crowd
}

#[test]
fn iterators_and_proc_give_the_same_rows() {
    if !testkit::require("root", testkit::is_root(), "loads eBPF programs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut crowd = crowd(dir.path());
    let iterated = scan(true);
    let read = scan(false);
    let own: Vec<u32> = crowd.iter().map(|child| child.0.id()).collect();
    let (mut compared, mut ours) = (0, 0);
    for (process, expected) in &read {
        // Others of this host come, go and change meanwhile; a later look tells whether one did.
        let Some(found) = iterated.get(process) else {
            assert!(!own.contains(&process.0), "{process:?} is missing");
            continue;
        };
        ours += u32::from(own.contains(&process.0));
        if still(found) == still(expected) {
            compared += 1;
        } else {
            let again = scan(true);
            let again = again.get(process).map(still);
            assert!(again.is_none_or(|again| again == still(expected)), "{found:#?}\n{expected:#?}");
        }
        let states = (found.status.as_deref(), expected.status.as_deref());
        assert!(!own.contains(&process.0) || states.0 == states.1, "{states:?} of {process:?}");
    }
    assert_eq!(ours as usize, own.len());
    let running = crowd.iter_mut().filter_map(|child| child.0.try_wait().unwrap().is_none().then_some(()));
    assert_eq!(running.count(), own.len() - 1, "all but the zombie still run");
    assert!(compared > 10, "{compared} of {}", read.len());
    for pid in &own {
        assert!(iterated.keys().any(|(met, _)| met == pid) && read.keys().any(|(met, _)| met == pid));
    }
}
