//! Records from processes that a test makes up.

use super::*;
use crate::provenance as why;
use crate::reader::fake::{FakeProc, FakeProcess, file};
use daemoneye_lib::proto::common::ProcessRecord;
use std::collections::BTreeMap;

static BOOT: Boot = Boot { id: String::new(), time_ns: 0, ticks_per_second: 100, page_size: 4096 };

#[derive(Default)]
struct All {
    records: Vec<ProcessRecord>,
    parents: Vec<Option<u64>>,
    unreadable: Vec<u32>,
}

impl Visitor for All {
    fn wants(&mut self, _: &Glance<'_>) -> Result<bool, Interrupted> {
        Ok(true)
    }

    fn observed(&mut self, observed: Observed<'_>) -> Result<(), Interrupted> {
        self.records.push(observed.record);
        self.parents.push(observed.parent_start);
        Ok(())
    }

    fn unreadable(&mut self, pid: u32) {
        self.unreadable.push(pid);
    }
}

fn scan(proc: FakeProc) -> (All, ScanCounts) {
    let mut all = All::default();
    let counts = Scanner::new(proc, BOOT.clone(), 1 << 18).enumerate_processes(&mut all).unwrap();
    (all, counts)
}

fn one(process: FakeProcess) -> ProcessRecord {
    let (mut all, _) = scan(FakeProc::new([(7, process)]));
    all.records.remove(0)
}

#[track_caller]
fn assert_absent(record: &ProcessRecord, column: &str, reason: &str) {
    assert_eq!(record.provenance.get(column).map(String::as_str), Some(reason), "{column}");
    let columns = daemoneye_lib::models::columns::PROCESS;
    let get = columns.iter().find(|other| other.name == column).unwrap().get;
    assert_eq!(get(record), daemoneye_lib::models::columns::Value::Null, "{column}");
}

#[test]
fn a_record_holds_what_a_scan_can_know() {
    let record = one(FakeProcess { ticks: 250, ..FakeProcess::new("web", 0, 500) });
    assert_eq!((record.pid, record.ppid, record.name.as_deref()), (7, Some(0), Some("web")));
    assert_eq!(record.command_line.as_deref(), Some("web --flag"));
    assert_eq!(record.argv.as_ref().unwrap().values, ["web", "--flag"]);
    assert_eq!(record.executable_path.as_deref(), Some("/bin/program"));
    assert_eq!((record.file_exists, record.image_mismatch), (Some(true), Some(false)));
    assert_eq!((record.uid, record.euid, record.gid, record.egid), (Some(1000), Some(1000), Some(1000), Some(1000)));
    assert_eq!((record.start_time, record.cpu_time_ns), (Some(5_000_000_000), Some(2_500_000_000)));
    assert_eq!((record.tty.as_deref(), record.status.as_deref()), (Some("pts/0"), Some("sleeping")));
    assert_eq!((record.cgroup.as_deref(), record.cwd.as_deref()), (Some("/user.slice"), Some("/home")));
    assert_eq!((record.loginuid, record.memory_usage), (Some(1000), Some(40_960)));
    assert_eq!(record.environment.get("LD_PRELOAD").map(String::as_str), Some("/evil.so"));
    assert_eq!(record.environment.len(), 1);
    assert_eq!(record.namespaces.get("pid"), Some(&7));
    assert_eq!((record.provenance[why::EVERY].as_str(), record.source.as_str()), (why::SCRAPED, "poll"));
    assert_eq!(record.provenance["cpu_usage"], why::INFERRED);
    for column in ["invoked_path", "exit_code", "exit_signal"] {
        assert_absent(&record, column, why::POLLING);
    }
    assert_absent(&record, "executable_hash", why::NOT_HASHED);
    assert_absent(&record, "container_id", why::NOT_CONTAINED);
    assert_absent(&record, "parent_key", why::NO_PARENT);
}

#[test]
fn every_column_without_a_value_has_a_reason() {
    let mut proc = FakeProc::new([
        (1, FakeProcess::new("init", 0, 1)),
        (2, FakeProcess { flags: 0x0020_0000, ..FakeProcess::new("kthreadd", 0, 1) }),
        (3, FakeProcess::new("zombie", 1, 9).zombie()),
        (4, FakeProcess { denied: vec![c"exe", c"cwd", c"environ", c"ns/cgroup"], ..FakeProcess::new("other", 1, 9) }),
        (5, FakeProcess { program: Some(b"/gone (deleted)"), ..FakeProcess::new("x", 99, 9) }),
    ]);
    proc.processes.get_mut(&4).unwrap().image.links = 0;
    for record in scan(proc).0.records {
        for column in daemoneye_lib::models::columns::PROCESS {
            let null = (column.get)(&record) == daemoneye_lib::models::columns::Value::Null;
            let reason = record.provenance.get(column.name).filter(|reason| reason.starts_with("unavailable: "));
            // An object may be empty because there is nothing.
            let may_be_empty = matches!(column.name, "environment" | "namespaces" | "platform_data");
            assert!(
                null == reason.is_some() || (null && may_be_empty),
                "{} of {:?}: {reason:?}",
                column.name,
                record.name
            );
        }
    }
}

#[test]
fn what_a_process_does_not_have_is_told_apart_from_what_is_denied() {
    let kernel = one(FakeProcess { flags: 0x0020_0000, ..FakeProcess::new("kthreadd", 0, 1) });
    assert_absent(&kernel, "executable_path", why::KERNEL_THREAD);
    assert_absent(&kernel, "argv", why::KERNEL_THREAD);
    let zombie = one(FakeProcess::new("done", 0, 1).zombie());
    assert_eq!(zombie.status.as_deref(), Some("zombie"));
    assert_absent(&zombie, "executable_path", why::ENDED);
    assert_absent(&zombie, "command_line", why::ENDED);
    let denied = one(FakeProcess { denied: vec![c"exe"], ..FakeProcess::new("other", 0, 1) });
    assert_absent(&denied, "executable_path", why::DENIED);
    assert_eq!(denied.command_line.as_deref(), Some("other --flag"));
    let unset = one(FakeProcess { loginuid: u32::MAX, ..FakeProcess::new("daemon", 0, 1) });
    assert_absent(&unset, "loginuid", why::NOT_SET);
}

#[test]
fn a_container_is_told_with_its_pod_and_its_runtime() {
    let contained = |cgroup| one(FakeProcess { cgroup, ..FakeProcess::new("web", 0, 1) });
    let record = contained(
        "0::/kubepods.slice/kubepods-poddc380811_8168_4a9e_9b4a_56ded1b6fe9c.slice/\
         cri-containerd-605439acbd4fb18c145069289094b17f17e0cfa938f78012d4960bc797305f22.scope\n",
    );
    let id = "605439acbd4fb18c145069289094b17f17e0cfa938f78012d4960bc797305f22";
    assert_eq!(record.container_id.as_deref(), Some(id));
    assert_eq!(record.platform_data["pod_id"], "dc380811-8168-4a9e-9b4a-56ded1b6fe9c");
    assert_eq!(record.platform_data["container_runtime"], "containerd");
    assert!(contained("0::/user.slice\n").platform_data.is_empty());
}

#[test]
fn the_state_of_the_executable_is_told() {
    let gone = file(1);
    let unlinked = crate::reader::FileId { links: 0, ..gone };
    // Link text, image, files in the process's root, files in ours; path, file_exists, image_mismatch.
    for (link, image, theirs, ours, path, exists, mismatch) in [
        ("/a", gone, vec![("/a", 1)], vec![], "/a", true, false),
        ("/a (deleted)", unlinked, vec![], vec![], "/a", false, true),
        ("/a (deleted)", unlinked, vec![("/a", 2)], vec![], "/a", true, true),
        ("/a (deleted)", gone, vec![("/b", 1)], vec![], "/a", false, true),
        ("/a (deleted)", gone, vec![("/a", 1)], vec![], "/a", true, false),
        ("/a (deleted)", gone, vec![("/a (deleted)", 1)], vec![], "/a (deleted)", true, false),
        ("/a (deleted) (deleted)", unlinked, vec![], vec![], "/a (deleted)", false, true),
        ("/chroot/a", gone, vec![("/a", 1)], vec![("/chroot/a", 1)], "/chroot/a", true, false),
        ("/memfd:x (deleted)", unlinked, vec![], vec![], "/memfd:x", false, true),
    ] {
        let mut proc =
            FakeProc::new([(7, FakeProcess { program: Some(link.as_bytes()), image, ..FakeProcess::new("x", 0, 1) })]);
        proc.files = theirs.into_iter().map(|(path, inode)| (path.as_bytes(), file(inode))).collect();
        proc.our_files = ours.into_iter().map(|(path, inode): (&str, _)| (path.as_bytes(), file(inode))).collect();
        let record = scan(proc).0.records.remove(0);
        let found = (record.executable_path.as_deref(), record.file_exists, record.image_mismatch);
        assert_eq!(found, (Some(path), Some(exists), Some(mismatch)), "{link}");
    }
}

#[test]
fn a_path_that_may_not_be_looked_at_is_neither_there_nor_not() {
    let record =
        one(FakeProcess { program: Some(b"/elsewhere"), denied: vec![c"root"], ..FakeProcess::new("x", 0, 1) });
    assert_eq!(record.executable_path.as_deref(), Some("/elsewhere"));
    assert_absent(&record, "file_exists", why::DENIED);
    assert_absent(&record, "image_mismatch", why::DENIED);
}

#[test]
fn a_parent_is_who_was_there_before() {
    let (all, _) = scan(FakeProc::new([
        (10, FakeProcess::new("late", 0, 900)),
        (11, FakeProcess::new("child", 12, 500)),
        (12, FakeProcess::new("parent", 10, 400)),
        (13, FakeProcess::new("orphan", 99, 500)),
    ]));
    let [_, child, parent, orphan] = &all.records[..] else { panic!("{}", all.records.len()) };
    assert_eq!(child.parent_key.as_ref(), Some(&parent.process_key), "also of a higher pid");
    assert_eq!(child.parent_name.as_deref(), Some("parent"));
    assert_eq!(child.parent_executable_path.as_deref(), Some("/bin/program"));
    assert_eq!(child.parent_command_line.as_deref(), Some("parent --flag"));
    assert_eq!(all.parents, [None, Some(400), None, None]);
    assert_absent(parent, "parent_key", why::PARENT_ENDED);
    assert_absent(parent, "parent_name", why::PARENT_ENDED);
    assert_absent(orphan, "parent_key", why::PARENT_ENDED);
    assert_eq!(orphan.ppid, Some(99));
}

#[test]
fn a_long_command_line_is_repeated_in_part_by_its_children() {
    let long = FakeProcess { command_line: vec![b'x'; 5000], ..FakeProcess::new("parent", 0, 1) };
    let (all, _) = scan(FakeProc::new([(1, long), (2, FakeProcess::new("child", 1, 2))]));
    let [parent, child] = &all.records[..] else { panic!("{}", all.records.len()) };
    assert_eq!(parent.command_line.as_deref().map(str::len), Some(5000));
    assert_eq!(parent.command_line_truncated, Some(false));
    assert_eq!(child.parent_command_line.as_deref().map(str::len), Some(4096));
    assert_eq!(child.platform_data["cut"], "parent_command_line");
}

#[test]
fn a_command_line_over_the_limit_says_that_it_was_cut() {
    let process = FakeProcess { command_line: vec![b'x'; (1 << 18) + 1], ..FakeProcess::new("x", 0, 1) };
    let record = one(process);
    assert_eq!(record.command_line.as_deref().map(str::len), Some(1 << 18));
    assert_eq!(record.command_line_truncated, Some(true));
}

#[test]
fn processes_that_vanish_or_deny_are_counted() {
    let mut proc = FakeProc::new([
        (1, FakeProcess::new("fine", 0, 1)),
        (2, FakeProcess { gone: vec![c"stat"], ..FakeProcess::new("vanishes", 0, 1) }),
        (3, FakeProcess { gone: vec![c"status"], ..FakeProcess::new("vanishes later", 0, 1) }),
        (4, FakeProcess::new("hidden", 0, 1)),
        (5, FakeProcess { denied: vec![c"exe"], ..FakeProcess::new("denies", 0, 1) }),
    ]);
    proc.hidden = Some(4);
    let (all, counts) = scan(proc);
    assert_eq!(counts, ScanCounts { processes: 3, vanished: 2, denied: 2 });
    assert_eq!(all.records.len(), 2);
    assert_eq!(all.unreadable, [4]);
}

#[test]
fn a_list_that_cannot_be_read_is_an_error() {
    let proc = FakeProc { broken: true, ..FakeProc::default() };
    let error = Scanner::new(proc, BOOT.clone(), 1).enumerate_processes(&mut All::default()).unwrap_err();
    assert!(error.to_string().starts_with("cannot list the processes in /proc: "), "{error}");
}

#[test]
fn of_the_environment_what_is_configured_is_told() {
    let (wanted, names) = watch::channel(Arc::from(["HOME".to_owned()]));
    let mut scanner =
        Scanner::new(FakeProc::new([(1, FakeProcess::new("x", 0, 1))]), BOOT.clone(), 1).collecting(names);
    let mut environment = || {
        let mut all = All::default();
        scanner.enumerate_processes(&mut all).unwrap();
        all.records.remove(0)
    };
    assert_eq!(environment().environment, BTreeMap::from([("HOME".to_owned(), "/".to_owned())]));
    wanted.send_replace(Arc::from([]));
    let record = environment();
    assert!(record.environment.is_empty());
    assert_absent(&record, "environment", why::NOT_COLLECTED);
}

#[test]
fn secrets_are_in_no_column_and_the_record_says_so() {
    let with = |line: &str, parent| FakeProcess {
        command_line: line.replace(' ', "\0").into_bytes(),
        ..FakeProcess::new("app", parent, 1)
    };
    let proc = || FakeProc::new([(1, with("app --password hunter2 run", 0)), (2, with("child -v", 1))]);
    let (all, _) = scan(proc());
    assert!(!format!("{:?}", all.records).contains("hunter2"));
    let [parent, child] = &all.records[..] else { panic!("two") };
    assert_eq!(parent.argv.as_ref().unwrap().values, ["app", "--password", "***", "run"]);
    assert_eq!(parent.command_line.as_deref(), Some("app --password *** run"));
    assert_eq!(parent.platform_data["masked"], "argv,command_line");
    assert_eq!(child.parent_command_line.as_deref(), Some("app --password *** run"));
    assert_eq!(child.platform_data["masked"], "parent_command_line");

    let mut all = All::default();
    let scanner = Scanner::new(proc(), BOOT.clone(), 1 << 18);
    scanner.masking(Masker::off()).enumerate_processes(&mut all).unwrap();
    assert_eq!(all.records[0].command_line.as_deref(), Some("app --password hunter2 run"));
    assert!(all.records.iter().all(|record| record.platform_data.is_empty()));
}
