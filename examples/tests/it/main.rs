//! The examples as what they are for: short, and told what is wrong with their input.
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

use std::process::Command;
use testkit::{binary, workspace_root};

#[test]
fn the_small_example_is_small() {
    let source = std::fs::read_to_string(workspace_root().join("examples/src/bin/census.rs")).unwrap();
    assert!(source.lines().count() < 80, "{} lines", source.lines().count());
}

#[test]
fn a_collector_that_is_started_by_hand_says_what_it_lacks() {
    let output = Command::new(binary("daemoneye-census")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("DAEMONEYE_COLLECTOR_NAME is missing"), "{stderr}");
}

#[test]
fn a_recording_with_a_mistake_is_refused_with_its_place() {
    let dir = std::env::temp_dir().join(format!("daemoneye-replay-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("events.jsonl");
    std::fs::write(&file, "{\"pid\": 1}\n\n{\"pid\": 2, \"comand_line\": \"x\"}\n").unwrap();
    let mut command = Command::new(binary("daemoneye-replay"));
    command.arg(&file).arg("--data-dir").arg(&dir).arg("--runtime-dir").arg(&dir);
    let output = command.env("DAEMONEYE_COLLECTOR_NAME", "replay").output().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("events.jsonl: line 3: unknown column `comand_line`"), "{stderr}");
}
