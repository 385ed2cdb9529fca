//! What a scan sees of other users' processes, with and without privileges.

use crate::program::scanned_by;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use testkit::Child;

/// Nobody's uid on any usual system.
const SOMEBODY: u32 = 54_321;
const SOMEBODY_ELSE: u32 = 54_322;

fn sleep_as(uid: u32) -> Child {
    let mut command = Command::new("sleep");
    command.arg("60").uid(uid).gid(uid).current_dir("/");
    Child::spawn(command).unwrap()
}

#[test]
fn root_sees_other_users_processes_whole() {
    if !testkit::require("root", testkit::is_root(), "starts a process of another user") {
        return;
    }
    let other = sleep_as(SOMEBODY);
    let records = scanned_by(None);
    let record = records.iter().find(|record| record["pid"] == other.pid()).unwrap();
    assert_eq!((&record["uid"], &record["euid"]), (&SOMEBODY.into(), &SOMEBODY.into()));
    assert_eq!((&record["cwd"], &record["file_exists"]), (&"/".into(), &true.into()));
    assert_eq!(record["provenance"]["user"], "unavailable: not in /etc/passwd");
}

#[test]
fn an_ordinary_user_sees_what_it_may_and_why_not_the_rest() {
    if !testkit::require("root", testkit::is_root(), "starts processes of two users") {
        return;
    }
    let (own, other) = (sleep_as(SOMEBODY), sleep_as(SOMEBODY_ELSE));
    let records = scanned_by(Some(SOMEBODY));
    let find = |pid: u32| records.iter().find(|record| record["pid"] == pid).unwrap();
    assert_eq!(find(own.pid())["cwd"], "/");
    let record = find(other.pid());
    assert_eq!((&record["name"], &record["command_line"]), (&"sleep".into(), &"sleep 60".into()));
    assert_eq!(record["uid"], SOMEBODY_ELSE);
    for column in ["executable_path", "cwd", "environment", "namespaces", "file_exists"] {
        assert!(record[column].is_null(), "{column}");
        assert_eq!(record["provenance"][column], "unavailable: permission denied", "{column}");
    }
}
