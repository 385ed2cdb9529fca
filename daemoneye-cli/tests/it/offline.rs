//! What needs no agent: usage, configuration, and being told that there is none.

use crate::{cli, finish, program, short_dir};
use serde_json::Value;

#[test]
fn wrong_usage_is_exit_2() {
    let home = short_dir();
    for wrong in [
        &["no-such-command"][..],
        &["query"],
        &["query", "SELECT 1", "--file", "x"],
        &["query", "SELECT 1", "--timeout", "soon"],
        &["processes", "--format", "xml"],
        &["alerts", "list", "--severity", "dire"],
        &["health", "--log-level", "loud"],
    ] {
        let (out, err, code) = cli(home.path(), wrong);
        assert_eq!((out.as_str(), code), ("", 2), "{wrong:?}: {err}");
        assert!(err.starts_with("error: "), "{wrong:?}: {err}");
    }
}

#[test]
fn help_is_an_answer() {
    let home = short_dir();
    let (out, err, code) = cli(home.path(), &["--help"]);
    assert_eq!((err.as_str(), code), ("", 0));
    for command in
        ["query", "explain", "tables", "processes", "alerts", "rules", "health", "metrics", "collectors", "config"]
    {
        assert!(out.contains(&format!("\n  {command} ")), "{command} is not in:\n{out}");
    }
}

#[test]
fn without_an_agent_the_socket_and_the_way_out_are_named() {
    let home = short_dir();
    for command in
        [&["health"][..], &["metrics"], &["processes"], &["query", "SELECT 1"], &["alerts", "list"], &["rules", "list"]]
    {
        let (out, err, code) = cli(home.path(), command);
        assert_eq!((out.as_str(), code), ("", 69), "{command:?}: {err}");
        let socket = home.path().join("d/run/agent.sock");
        assert!(err.starts_with(&format!("error: no agent listens on {}\nhint: ", socket.display())), "{err}");
        assert!(err.contains("daemoneye-agent run"), "{err}");
    }
}

#[test]
fn too_much_sql_is_refused_before_anyone_is_asked() {
    let home = short_dir();
    let path = home.path().join("big.sql");
    std::fs::write(&path, vec![b'x'; 10 << 20]).unwrap();
    let (_, err, code) = cli(home.path(), &["query", "--file", path.to_str().unwrap()]);
    assert_eq!((err.lines().next(), code), (Some("error: the SQL has more than 65536 bytes"), 5));
}

#[test]
fn config_show_follows_flags_on_both_sides_of_the_subcommand() {
    let home = short_dir();
    let value = |arguments: &[&str]| {
        let mut command = program(home.path());
        command.args(arguments).env("DAEMONEYE_AGENT_APP__SCAN_INTERVAL_MS", "2500");
        let (out, err, code) = finish(command);
        assert_eq!((err.as_str(), code), ("", 0));
        let document: Value = serde_json::from_str(&out).unwrap();
        let row = |key: &str| {
            let rows = document["rows"].as_array().unwrap();
            let row = rows.iter().find(|row| row["key"] == key).unwrap();
            (row["value"].as_str().unwrap().to_owned(), row["origin"].as_str().unwrap().to_owned())
        };
        (row("app.data_dir"), row("app.runtime_dir"), row("app.scan_interval_ms"))
    };
    let before = value(&["--data-dir", "/x", "config", "show", "--origin", "--format", "json"]);
    let after = value(&["--format", "json", "config", "show", "--origin", "--data-dir", "/x"]);
    assert_eq!(before, after);
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(before.0, pair("\"/x\"", "--data-dir"));
    assert_eq!(before.1, pair("\"/x/run\"", "derived from app.data_dir"));
    assert_eq!(before.2, pair("2500", "DAEMONEYE_AGENT_APP__SCAN_INTERVAL_MS"));
}

#[test]
fn config_check_names_the_mistake() {
    let home = short_dir();
    let path = home.path().join("c.toml");
    std::fs::write(&path, "[agent]\nquery_max_row = 1\n").unwrap();
    let (out, err, code) = cli(home.path(), &["config", "check", "--config", path.to_str().unwrap()]);
    let wanted = format!(
        "error: unknown key `agent.query_max_row` ({}:2:1); the nearest known one is `agent.query_max_rows`\n",
        path.display()
    );
    assert_eq!((out.as_str(), err, code), ("", wanted, 1));
}
