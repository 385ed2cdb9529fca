//! Each defect is found by the check that is about it, for its reason; what the defect does not touch passes.

use daemoneye_conformance::{CHECKS, Subject};
use std::time::Duration;
use testkit::binary;

/// The defect, the check that finds it, and what it says.
const DEFECTS: &[(&str, &str, &str)] = &[
    ("wrong-name", "hello", "it calls itself \"somebody\""),
    ("short-epoch", "registration", "its epoch has 8 bytes"),
    ("hasty", "registration", "it publishes events before it is registered"),
    ("double-column", "schema", "the column \"pid\" twice"),
    ("stray-table", "schema", "\"network.connections\" is registered without its domain \"network\""),
    ("speechless", "schema", "why it lacks the feature \"counting\""),
    ("trespasser", "events", "is of the domain \"network\", which it has not registered"),
    ("foreign-topic", "events", "it publishes events on events.process.procmond-2"),
    ("holes", "events", "must follow"),
    ("undecodable", "events", "cannot be decoded"),
    ("flood", "flow", "it publishes 3 batches, and has credit for 2"),
    ("renumbers", "replay", "must follow"),
    ("forgets", "replay", "must follow"),
    ("ignores-commits", "trim", "is committed: a batch begins with sequence"),
    ("forgetful", "restart", "next_sequence 1"),
    ("silent", "status", "its status: not within"),
    ("restless", "pause", "paused it told"),
    ("credulous", "settings", "it takes settings that it cannot know"),
    ("pushy", "tasks", "has registered no task"),
    ("wrong-hash", "answers", "and not \"0000"),
    ("unfiltered", "answers", "it enumerates 2 processes"),
    ("obliging", "answers", "it has an answer about process 4194305"),
    ("fragile", "garbage", "it ended"),
    ("deaf", "shutdown", "it still runs"),
    ("keeps-back", "shutdown", "was seen before its end and kept back"),
    ("abrupt", "signal", "not with code 0"),
];

/// Checks that every one of these passes: they come before what is defective.
const BEFORE: &[&str] = &["hello"];

#[test]
fn each_defect_fails_for_its_reason() {
    std::thread::scope(|scope| {
        // Each waits most of its time.
        for part in DEFECTS.chunks(DEFECTS.len().div_ceil(4)) {
            scope.spawn(move || part.iter().for_each(|(defect, check, why)| fails(defect, check, why)));
        }
    });
}

fn fails(defect: &str, check: &str, why: &str) {
    let mut subject =
        Subject::new("wrong", [binary("daemoneye-defective").into_os_string(), "--defect".into(), defect.into()]);
    let judge = |name: &str, subject: &Subject| {
        CHECKS.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}")).judge(subject)
    };
    for before in BEFORE.iter().filter(|before| **before != check) {
        assert_eq!(judge(before, &subject), Ok(()), "{defect}: {before}");
    }
    if defect == "silent" {
        subject.patience = Duration::from_secs(5);
    }
    let fault = judge(check, &subject).expect_err(&format!("{defect}: {check} passes"));
    assert!(fault.0.contains(why), "{defect}: {check} fails, but says: {fault}");
}
