//! What one scan of this host says of processes that a test starts.

use daemoneye_lib::models::{key::process_key, text::unescape};
use daemoneye_lib::proto::common::ProcessRecord;
use procmond::Boot;
use procmond::reader::HostProc;
use procmond::scan::{Glance, Interrupted, Observed, ProcessCollector as _, ScanCounts, Scanner, Visitor};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use testkit::Child;

struct Wanted {
    pids: Option<Vec<u32>>,
    records: Vec<ProcessRecord>,
}

impl Visitor for Wanted {
    fn wants(&mut self, glance: &Glance<'_>) -> Result<bool, Interrupted> {
        Ok(self.pids.as_ref().is_none_or(|pids| pids.contains(&glance.pid)))
    }

    fn observed(&mut self, observed: Observed<'_>) -> Result<(), Interrupted> {
        self.records.push(observed.record);
        Ok(())
    }

    fn unreadable(&mut self, _: u32) {}
}

fn scan(pids: Option<Vec<u32>>) -> (Vec<ProcessRecord>, ScanCounts) {
    let proc = HostProc::open(Path::new("/proc")).unwrap();
    let mut wanted = Wanted { pids, records: Vec::new() };
    let counts = Scanner::new(proc, Boot::current().unwrap(), 256 * 1024).enumerate_processes(&mut wanted).unwrap();
    (wanted.records, counts)
}

fn record_of(pid: u32) -> ProcessRecord {
    let (mut records, _) = scan(Some(vec![pid]));
    assert_eq!(records.len(), 1, "process {pid} is seen once");
    records.remove(0)
}

/// Starts the command and waits until it runs the program of this name.
fn started(command: Command, name: &[u8]) -> Child {
    let child = Child::spawn(command).unwrap();
    let of = |file| std::fs::read(format!("/proc/{}/{file}", child.pid())).unwrap_or_default();
    // The name comes first, the arguments a moment later.
    let runs = || of("comm").trim_ascii_end() == name && !of("cmdline").is_empty();
    testkit::wait_for("the child to run its program", Duration::from_secs(10), runs);
    child
}

/// A copy of `sleep` with this name, in a directory of its own.
fn sleep_as(name: &OsStr) -> (tempfile::TempDir, Command) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::copy("/bin/sleep", &path).unwrap();
    let mut command = Command::new(path);
    command.arg("60");
    (dir, command)
}

fn argv(record: &ProcessRecord) -> Vec<Vec<u8>> {
    record.argv.as_ref().unwrap().values.iter().map(|argument| unescape(argument)).collect()
}

#[test]
fn this_process_is_seen_as_it_is() {
    let pid = std::process::id();
    let record = record_of(pid);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(record.process_key, process_key(&boot_id, pid, testkit::start_ticks(pid).unwrap()));
    let arguments: Vec<_> = std::env::args_os().map(|argument| argument.as_bytes().to_vec()).collect();
    assert_eq!(argv(&record), arguments);
    assert_eq!(record.executable_path.as_deref(), std::env::current_exe().unwrap().to_str());
    assert_eq!((record.file_exists, record.image_mismatch), (Some(true), Some(false)));
    assert_eq!(record.cwd.as_deref(), std::env::current_dir().unwrap().to_str());
    assert_eq!(record.ppid, Some(std::os::unix::process::parent_id()));
    assert!(record.parent_key.is_some() && record.parent_name.is_some());
    assert!(record.memory_usage > Some(0) && record.max_rss >= record.memory_usage.map(|resident| resident / 2));
    let age = record.collection_time - record.start_time.unwrap();
    assert!((0..3_600_000_000_000).contains(&age), "{age}");
    let namespace = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(namespace.to_str().unwrap(), format!("net:[{}]", record.namespaces["net"]));
}

#[test]
fn all_processes_are_seen_once_and_threads_are_none() {
    let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(|| std::thread::sleep(Duration::from_secs(2)))).collect();
    let listed = || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).collect::<Vec<_>>()
    };
    let tasks: Vec<u32> = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    assert!(tasks.len() > 8);
    let before = listed();
    let (records, counts) = scan(None);
    let after = listed();
    let mut seen: Vec<_> = records.iter().map(|record| record.pid).collect();
    // Those there before and after are there in between; all those seen are one or the other.
    for pid in before.iter().filter(|pid| after.contains(pid)) {
        assert!(seen.contains(pid), "{pid}");
    }
    assert_eq!(seen.iter().filter(|pid| tasks.contains(pid)).count(), 1, "the process, none of its threads");
    assert_eq!(counts.processes as usize, records.len());
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), records.len());
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn arguments_come_whole_and_exact() {
    let odd = OsStr::from_bytes(b"\xff\xfe not utf-8 \\x41");
    let long = "y".repeat(127 * 1024);
    let mut command = Command::new("sh");
    // The second command keeps the shell from replacing itself.
    command.args(["-c", "sleep 60; :"]).arg0("").arg(odd).arg("").arg(&long).arg("with space");
    let child = started(command, b"sh");
    let record = record_of(child.pid());
    let expected = [&b""[..], b"-c", b"sleep 60; :", odd.as_bytes(), b"", long.as_bytes(), b"with space"];
    assert_eq!(argv(&record), expected);
    assert_eq!(record.command_line_truncated, Some(false));
    assert!(record.command_line.unwrap().contains("\\xFF\\xFE not utf-8 \\x5Cx41"));
}

#[test]
fn an_argument_of_128_kib_is_whole() {
    // The longest that the kernel takes: MAX_ARG_STRLEN with its NUL.
    let longest = "z".repeat(128 * 1024 - 1);
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 60; :", &longest]);
    let child = started(command, b"sh");
    let record = record_of(child.pid());
    assert_eq!(record.argv.unwrap().values[3], longest);
    assert_eq!(record.command_line_truncated, Some(false));
}

#[test]
fn a_longer_command_line_says_that_it_is_cut() {
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 60; :"]).args(std::iter::repeat_n("w".repeat(100 * 1024), 3));
    let child = started(command, b"sh");
    let record = record_of(child.pid());
    assert_eq!(record.command_line_truncated, Some(true));
    let length = record.command_line.unwrap().len();
    assert!((255 * 1024..=256 * 1024).contains(&length), "{length}");
}

#[test]
fn names_may_be_hostile() {
    for name in [&b"x) R 1 1 (y"[..], b"new\nline", b"\xff\xfe\x80"] {
        let (_dir, command) = sleep_as(OsStr::from_bytes(name));
        let program = command.get_program().as_bytes().to_vec();
        let child = started(command, name);
        let record = record_of(child.pid());
        assert_eq!(unescape(record.name.as_deref().unwrap()), name);
        assert_eq!(unescape(record.executable_path.as_deref().unwrap()), program);
        assert_eq!(record.ppid, Some(std::process::id()));
        assert_eq!((record.file_exists, record.image_mismatch), (Some(true), Some(false)));
    }
}

#[test]
fn a_deleted_and_a_replaced_executable_are_told() {
    let (dir, command) = sleep_as(OsStr::new("tool"));
    let path = dir.path().join("tool");
    let child = started(command, b"tool");
    std::fs::remove_file(&path).unwrap();
    let record = record_of(child.pid());
    assert_eq!(record.executable_path.as_deref(), path.to_str());
    assert_eq!((record.file_exists, record.image_mismatch), (Some(false), Some(true)));
    std::fs::copy("/bin/sleep", &path).unwrap();
    let record = record_of(child.pid());
    assert_eq!(record.executable_path.as_deref(), path.to_str());
    assert_eq!((record.file_exists, record.image_mismatch), (Some(true), Some(true)));
}

#[test]
fn a_name_that_ends_in_deleted_is_not_a_deleted_one() {
    let (dir, command) = sleep_as(OsStr::new("t (deleted)"));
    let child = started(command, b"t (deleted)");
    let record = record_of(child.pid());
    assert_eq!(record.executable_path.as_deref(), dir.path().join("t (deleted)").to_str());
    assert_eq!((record.file_exists, record.image_mismatch), (Some(true), Some(false)));
}

#[test]
fn a_zombie_is_told_as_one() {
    // The shell becomes a sleep that never asks for the end of its child.
    let mut command = Command::new("sh");
    command.args(["-c", "true & exec sleep 60"]);
    let child = started(command, b"sleep");
    let children = format!("/proc/{0}/task/{0}/children", child.pid());
    let zombie = testkit::wait_for("the child's child to end", Duration::from_secs(10), || {
        let pid: u32 = std::fs::read_to_string(&children).ok()?.trim().parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.contains(") Z ").then_some(pid)
    });
    let record = record_of(zombie);
    assert_eq!((record.status.as_deref(), record.ppid), (Some("zombie"), Some(child.pid())));
    assert_eq!((&record.executable_path, &record.command_line), (&None, &None));
    assert_eq!(record.provenance["command_line"], "unavailable: process has ended");
}

#[test]
fn only_the_named_variables_of_an_environment_are_told() {
    let mut command = Command::new("sleep");
    command.arg("60").env("SUDO_USER", "alice").env("API_TOKEN", "secret");
    let child = started(command, b"sleep");
    let record = record_of(child.pid());
    assert_eq!(record.environment.get("SUDO_USER").map(String::as_str), Some("alice"));
    assert!(!record.environment.contains_key("API_TOKEN"));
    assert!(!format!("{record:?}").contains("secret"));
}
