//! The load of measurements: every start that is due happens, with an argument of its own, and what was late is told.

use crate::xtask;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::Child;

const LIMIT: Duration = Duration::from_secs(60);

/// A program that notes its argument and then does this.
fn program(dir: &Path, act: &str) -> PathBuf {
    let path = dir.join("program");
    fs::write(&path, format!("#!/bin/sh\necho \"$1\" >> {}/started\n{act}\n", dir.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn spawn(arguments: &[&str], program: &Path) -> Value {
    let mut command = xtask(&[&["spawn", "--seconds", "1"], arguments].concat());
    command.arg(program);
    let mut load = Child::spawn(command).unwrap();
    let status = load.wait_timeout(LIMIT).unwrap();
    assert!(status.success(), "{}", load.stderr());
    serde_json::from_str(&load.stdout()).unwrap()
}

#[test]
fn every_start_has_an_argument_of_its_own_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = spawn(&["--rate", "20", "--run", "a-run"], &program(dir.path(), "echo noise"));
    let started = fs::read_to_string(dir.path().join("started")).unwrap();
    let different: BTreeSet<_> = started.lines().map(str::to_owned).collect();
    assert_eq!(
        (started.lines().count() as u64, different.len()),
        (told["spawned"].as_u64().unwrap(), started.lines().count())
    );
    assert!(different.iter().all(|argument| argument.starts_with("a-run.")), "{different:?}");
    assert_eq!(told["spawned"].as_u64().unwrap() + told["left_out"].as_u64().unwrap(), 20, "{told}");
    assert!(told["children_cpu_us"].as_u64().unwrap() > 0 && told["own_cpu_us"].as_u64().unwrap() > 0, "{told}");
}

/// Sixteen run at a time, a fifth of a second each: not so many as are due, which is made up for and told.
#[test]
fn a_start_that_is_late_is_told_and_not_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let told = spawn(&["--rate", "100"], &program(dir.path(), "sleep 0.2"));
    let number = |name: &str| told[name].as_u64().unwrap();
    assert!(number("late") > 0 && number("worst_late_us") > 10_000, "{told}");
    assert_eq!(number("spawned") + number("left_out"), 100, "{told}");
    assert_eq!(fs::read_to_string(dir.path().join("started")).unwrap().lines().count() as u64, number("spawned"));
}

#[test]
fn full_speed_knows_no_lateness_and_a_missing_program_is_an_error() {
    let told = spawn(&[], Path::new("/bin/true"));
    assert!(told["rate"].is_null() && told["late"] == 0 && told["left_out"] == 0, "{told}");
    assert!(told["spawned"].as_u64().unwrap() > 1, "{told}");
    let mut load = Child::spawn(xtask(&["spawn", "--seconds", "1", "/no/such/program"])).unwrap();
    assert_eq!(load.wait_timeout(LIMIT).unwrap().code(), Some(1));
    assert!(load.stderr().contains("/no/such/program"), "{}", load.stderr());
}
