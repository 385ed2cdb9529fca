//! The program: its commands, its end, and what it says when it cannot run.

use serde_json::Value as Json;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use testkit::{Child, Signal};

/// procmond with a private place; tests run as root read nothing of the host's configuration.
pub(crate) fn procmond(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procmond"));
    let config = dir.join("config.toml");
    std::fs::write(&config, "").unwrap();
    command.arg("--config").arg(config).arg("--data-dir").arg(dir.join("data"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// What `procmond scan` prints when it runs as this user.
pub(crate) fn scanned_by(uid: Option<u32>) -> Vec<Json> {
    let dir = tempfile::tempdir().unwrap();
    let mut command = procmond(dir.path());
    command.arg("scan");
    if let Some(uid) = uid {
        // The binary and the directory are not where another user may look: a copy in a directory of its own.
        let own = dir.path().join("procmond");
        std::fs::copy(env!("CARGO_BIN_EXE_procmond"), &own).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        command = Command::new(own);
        command.arg("scan").arg("--config").arg(dir.path().join("config.toml"));
        command.arg("--data-dir").arg(dir.path().join("data"));
        command.uid(uid).gid(uid).current_dir("/").env_clear().env("HOME", dir.path()).stdin(Stdio::null());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_scan_prints_every_column_of_every_process() {
    let records = scanned_by(None);
    let own = records.iter().find(|record| record["pid"] == std::process::id()).unwrap();
    let columns: Vec<_> = own.as_object().unwrap().keys().map(String::as_str).collect();
    let expected: Vec<_> = daemoneye_lib::models::columns::PROCESS.iter().map(|column| column.name).collect();
    assert_eq!(columns, expected);
    assert!(own["argv"].is_array() && own["provenance"].is_object());
    assert!(own["start_time"].as_str().unwrap().ends_with('Z'));
    assert!(records.iter().any(|record| record["pid"] == 1));
}

#[test]
fn the_description_of_events_has_every_column_in_order() {
    let path = testkit::workspace_root().join("docs/formats/events.md");
    let text = std::fs::read_to_string(path).unwrap();
    let table = text.split("\n## Columns\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let described: Vec<_> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" |").next())
        .flat_map(|names| names.split(", "))
        .map(|name| name.trim_matches('`'))
        .collect();
    let columns: Vec<_> = daemoneye_lib::models::columns::PROCESS.iter().map(|column| column.name).collect();
    assert_eq!(described, columns);
}

#[test]
fn wrong_usage_and_wrong_configuration_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let output = procmond(dir.path()).arg("--no-such-flag").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = procmond(dir.path()).arg("scan").env("PROCMOND_APP__SCAN_INTERVAL", "5").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("SCAN_INTERVAL_MS"), "{}", stderr(&output));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = procmond(dir.path()).arg("scan").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_line_that_is_no_token_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = procmond(dir.path()).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"not a token\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("error: the line on standard input is no token") && text.contains("hint: "), "{text}");
    assert!(!text.contains("not a token"), "what may be a secret is not repeated");
}

/// A procmond that scans: with a token that no agent gave out, and no agent.
fn collecting(dir: &Path) -> Child {
    let mut command = procmond(dir);
    command.args(["--log-level", "debug"]);
    command.env("PROCMOND_APP__SCAN_INTERVAL_MS", "100").env("PROCMOND_APP__MAX_SCAN_CPU", "100");
    let token = "ab".repeat(32) + "\n";
    let child = Child::spawn_with_input(command, token.as_bytes()).unwrap();
    let known = dir.join("data/procmond/known.bin");
    testkit::wait_for("the first scan to be remembered", Duration::from_secs(20), || known.exists());
    child
}

#[test]
fn it_scans_without_an_agent_and_ends_in_order_when_asked() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = collecting(dir.path());
        let asked = Instant::now();
        child.signal(signal).unwrap();
        let status = child.wait_timeout(Duration::from_secs(10)).unwrap();
        assert!(status.success(), "{status}: {}", child.stderr());
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        let spooled: u64 = std::fs::read_dir(dir.path().join("data/procmond/spool"))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(spooled > 1000, "what was seen waits for an agent: {spooled} bytes");
    }
}

#[test]
fn sighup_makes_it_read_its_configuration_anew() {
    let dir = tempfile::tempdir().unwrap();
    let command = procmond(dir.path());
    let config = dir.path().join("config.toml");
    std::fs::write(&config, "[app]\nscan_interval_ms = 3600000\n").unwrap();
    let token = "ab".repeat(32) + "\n";
    let mut child = Child::spawn_with_input(command, token.as_bytes()).unwrap();
    let known = dir.path().join("data/procmond/known.bin");
    let patience = Duration::from_secs(20);
    testkit::wait_for("the first scan to be remembered", patience, || known.exists());

    std::fs::write(&config, "[app]\nnonsense = 1\n").unwrap();
    child.signal(Signal::HUP).unwrap();
    testkit::wait_for("the refusal", patience, || child.stderr().contains("the old one stays in force: unknown key"));

    let new =
        "[app]\nscan_interval_ms = 100\nmax_scan_cpu = 100\nlog_level = \"debug\"\n[collector]\norphan_timeout_s = 7\n";
    std::fs::write(&config, new).unwrap();
    child.signal(Signal::HUP).unwrap();
    // The next scan was an hour away.
    testkit::wait_for("two scans", patience, || child.stderr().matches("scanned cpu=").count() >= 2);
    let said = child.stderr();
    assert!(said.contains("pending=\"collector.orphan_timeout_s\""), "{said}");
    child.signal(Signal::TERM).unwrap();
    assert!(child.wait_timeout(Duration::from_secs(10)).unwrap().success());
}

#[test]
fn the_second_on_a_data_directory_is_told_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = collecting(dir.path());
    let output = procmond(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("process {}", first.pid())), "{}", stderr(&output));
}

#[test]
fn it_opens_no_network_socket() {
    let dir = tempfile::tempdir().unwrap();
    let child = collecting(dir.path());
    assert_eq!(testkit::network_sockets(child.pid()).unwrap(), [""; 0]);
}
