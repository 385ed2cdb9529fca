//! Requests over the bus: answers, refusals, and who may ask.

use crate::agent::Agent;
use crate::finish;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

#[test]
fn an_answer_in_every_format() {
    let agent = Agent::start();
    assert_eq!(agent.cli(&["query", "rows 2"]), ("n\n0\n1\n".to_owned(), String::new(), 0));
    let (out, err, code) = agent.cli(&["query", "rows 2", "--format", "json"]);
    assert_eq!(
        out,
        "{\"columns\":[\"n\"],\"rows\":[\n{\"n\":0},\n{\"n\":1}\n],\"completeness\":{\"status\":\"complete\",\"reasons\":[]}}\n"
    );
    assert_eq!((err.as_str(), code), ("", 0));
    let complete = "completeness: complete\n".to_owned();
    assert_eq!(agent.cli(&["query", "rows 1", "--format", "csv"]), ("n\r\n0\r\n".to_owned(), complete.clone(), 0));
    assert_eq!(agent.cli(&["query", "rows 1", "--format", "jsonl"]), ("{\"n\":0}\n".to_owned(), complete, 0));
}

#[test]
fn the_format_may_be_configured() {
    let agent = Agent::start();
    let path = agent.home().join("c.toml");
    std::fs::write(&path, "[cli]\nformat = \"csv\"\n").unwrap();
    let (out, _, _) = agent.cli(&["query", "rows 1", "--config", path.to_str().unwrap()]);
    assert_eq!(out, "n\r\n0\r\n");
}

#[test]
fn parameters_arrive_with_names_and_types() {
    let agent = Agent::start();
    let (out, _, code) = agent.cli(&["query", "echo :a ?", "--param", "a=-5", "--param", "b=x", "--format", "csv"]);
    assert_eq!(out, "n\r\na=Some(Integer(-5))\r\n\"=Some(Text(\"\"b=x\"\"))\"\r\n");
    assert_eq!(code, 0);
}

#[test]
fn a_refused_query_is_exit_5_with_a_caret() {
    let agent = Agent::start();
    let (out, err, code) = agent.cli(&["query", "SELECT pidd", "--format", "json"]);
    assert_eq!((out.as_str(), code), ("", 5));
    let wanted =
        "error: no such thing: pidd (line 1, column 8)\n  |\n1 | SELECT pidd\n  |        ^\nhint: ask for `rows`\n";
    assert_eq!(err, wanted);
}

#[test]
fn health_is_told() {
    let agent = Agent::start();
    let (out, _, code) = agent.cli(&["health", "--format", "jsonl"]);
    assert_eq!(
        (out.as_str(), code),
        ("{\"component\":\"store\",\"status\":\"ok\",\"detail\":null,\"hint\":null}\n", 0)
    );
}

#[test]
fn an_agent_that_does_not_serve_yet_cannot_be_reached() {
    let agent = Agent::start_mute();
    let (_, err, code) = agent.cli(&["health"]);
    assert!(err.contains("hint: the agent is still starting"), "{err}");
    assert_eq!(code, 69);
}

#[test]
fn another_user_is_told_that_the_socket_is_not_his() {
    const NOBODY: u32 = 65_534;
    if !testkit::require("root", testkit::is_root(), "only root can become another user") {
        return;
    }
    let agent = Agent::start();
    let open = |path: &Path| std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    [agent.home(), &agent.home().join("d"), &agent.runtime_dir()].into_iter().for_each(open);
    // Where this program was built need not be open to others. Another process copies it: a descriptor of ours, open for
    // writing, could be inherited by a program that another test starts, and the copy would be busy.
    let program = agent.home().join("cli");
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_daemoneye-cli")).arg(&program).status().unwrap();
    assert!(copied.success());
    let mut command = Command::new(program);
    command.env_clear().env("HOME", "/").uid(NOBODY).gid(NOBODY).current_dir("/");
    command.arg("health").arg("--data-dir").arg(agent.home().join("d"));
    let (_, err, code) = finish(command);
    assert!(err.starts_with("error: no permission to use ") && err.contains("hint: run daemoneye-cli as"), "{err}");
    assert_eq!(code, 5);
}
