//! Long answers: they flow, they may be cut off by the reader, and they never pass for whole when they broke off.

use crate::agent::Agent;
use crate::program;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

#[test]
fn a_long_answer_arrives_whole() {
    let agent = Agent::start();
    let (out, _, code) = agent.cli(&["query", "rows 50000", "--format", "json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((document["rows"].as_array().unwrap().len(), code), (50_000, 0));
    let (out, _, _) = agent.cli(&["query", "rows 50000"]);
    assert_eq!(out.lines().count(), 50_001);
}

#[test]
fn an_answer_that_breaks_off_is_exit_1_and_no_document() {
    let agent = Agent::start();
    let (out, err, code) = agent.cli(&["query", "break 3000", "--format", "json"]);
    assert!(out.contains("{\"n\":2999}"), "{out}");
    assert!(serde_json::from_str::<Value>(&out).is_err());
    assert!(err.starts_with("error: "), "{err}");
    assert_eq!(code, 1);
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let agent = Agent::start();
    for format in ["table", "json", "jsonl", "csv"] {
        let mut command = program(agent.home());
        command.args(["query", "rows 1000000", "--format", format, "--data-dir"]).arg(agent.home().join("d"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        // The pipe is closed here: the program writes on, and learns it.
        let status = child.wait().unwrap();
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((err.as_str(), status.code()), ("", Some(0)), "{format}");
    }
}
