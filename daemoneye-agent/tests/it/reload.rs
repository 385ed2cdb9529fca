//! SIGHUP: another configuration while everything runs, or the end when the terminal is gone.

use crate::support::{FAST, PATIENCE, Sleeper, alerts_on, ask, health_of, hidden_sleep, number, rows, site, text};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use testkit::{Child, Monitor, Signal, Site, find_binary, wait_for};

/// Tells the agent to read this in place of what its file says.
fn reconfigure(monitor: &mut Monitor, text: &str) {
    fs::write(monitor.site().config_file(), text).unwrap();
    monitor.agent().signal(Signal::HUP).unwrap();
}

#[test]
fn another_configuration_takes_effect_while_everything_runs() {
    let mut monitor = Monitor::start(site()).unwrap();
    let procmond = monitor.procmond_pid();
    let (_dir, program) = hidden_sleep();
    let alerts = monitor.site().root().join("other.jsonl");
    let new = format!(
        "[app]\nscan_interval_ms = 300\nmax_scan_cpu = 50.0\nlog_level = \"debug\"\n\
         [agent]\nquery_max_rows = 2\nquery_memory_bytes = 33554432\n\
         [sinks.other]\ntype = \"file\"\npath = \"{}\"\n",
        alerts.display()
    );
    reconfigure(&mut monitor, &new);
    let site = monitor.site();
    wait_for("both to have read it", PATIENCE, || {
        monitor.log().matches("the configuration was read anew").count() == 2
    });
    // procmond: the pace, and how much it logs.
    wait_for("the new interval", PATIENCE, || {
        rows(site, "SELECT scan_interval_ms FROM system.collectors") == [json!({"scan_interval_ms": 300})]
    });
    wait_for("procmond's debug log", PATIENCE, || monitor.log().contains("scanned cpu="));
    // The agent: limits, sinks, and how much it logs.
    let cut = ask(site, &["query", "SELECT pid FROM processes"]);
    assert_eq!(cut.rows.len(), 2, "{cut:?}");
    assert!(cut.reasons.iter().any(|reason| reason.contains("after 2 rows")), "{cut:?}");
    let sleeper = Sleeper::of(&program);
    wait_for("the alert in the new sink", PATIENCE, || {
        fs::read_to_string(&alerts).is_ok_and(|text| text.contains(&sleeper.key))
    });
    assert!(monitor.log().contains("delivering"), "{}", monitor.log());
    let old = fs::read_to_string(site.data_dir().join("alerts.jsonl")).unwrap();
    assert!(!old.contains(&sleeper.key), "the old sink still writes: {old}");
    let alert = alerts_on(site, &program).remove(0);
    let deliveries =
        format!("SELECT DISTINCT sink FROM alerts.deliveries WHERE alert_id = '{}'", text(&alert, "alert_id"));
    assert_eq!(rows(site, &deliveries), [json!({"sink": "other"})]);
    // What cannot change while it runs is named.
    let (_, health) = health_of(site, "configuration");
    assert!(text(&health, "detail").contains("waiting for a restart: agent.query_memory_bytes"), "{health}");
    assert!(text(&health, "hint").contains("restart the agent"), "{health}");
    assert_eq!(monitor.procmond_pid(), procmond, "nothing was started again");
    monitor.stop().unwrap();
}

/// What health says of the agent's configuration, asked by a command line that does not read the same file.
fn configuration(site: &Site) -> Value {
    let mut cli = Command::new(find_binary("daemoneye-cli").unwrap());
    cli.env_clear().env("HOME", site.root().join("home")).args(["health", "--format", "json"]);
    cli.arg("--data-dir").arg(site.data_dir()).arg("--runtime-dir").arg(site.runtime_dir());
    let output = cli.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = document["rows"].as_array().unwrap();
    rows.iter().find(|row| text(row, "component") == "configuration").unwrap().clone()
}

#[test]
fn a_broken_configuration_changes_nothing_and_is_told() {
    let mut monitor = Monitor::start(site()).unwrap();
    let broken = [
        (format!("{FAST}log_levle = \"debug\"\n"), "unknown key `app.log_levle`"),
        (format!("{FAST}log_level = \"debug\"\n[sinks.x]\ntype = \"file\"\npath = \"/nowhere/x\"\n"), "/nowhere/x"),
    ];
    for (text_of_file, why) in &broken {
        reconfigure(&mut monitor, text_of_file);
        let health = wait_for("health to tell", PATIENCE, || {
            let health = configuration(monitor.site());
            text(&health, "detail").contains(why).then_some(health)
        });
        assert_eq!(text(&health, "status"), "degraded", "{health}");
        assert!(text(&health, "detail").contains("that of before stays in force"), "{health}");
        assert!(text(&health, "hint").contains("config check"), "{health}");
    }
    assert!(monitor.log().contains("the old one stays in force"), "{}", monitor.log());
    assert!(!monitor.log().contains("delivering"), "the level of the broken file is in force");
    let (_dir, program) = hidden_sleep();
    let sleeper = Sleeper::of(&program);
    let log = monitor.site().data_dir().join("alerts.jsonl");
    wait_for("the alert in the sink of before", PATIENCE, || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains(&sleeper.key))
    });
    reconfigure(&mut monitor, FAST);
    wait_for("the failure's end", PATIENCE, || text(&configuration(monitor.site()), "status") == "ok");
    assert!(number(monitor.site(), "SELECT count(*) FROM processes") > 0);
    monitor.stop().unwrap();
}

#[test]
fn a_terminal_that_is_gone_ends_everything() {
    let exists = Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success());
    if !testkit::require("script", exists, "gives a program a terminal and takes it away") {
        return;
    }
    let place = site();
    let agent = place.agent().unwrap();
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy());
    let words: Vec<String> = std::iter::once(agent.get_program()).chain(agent.get_args()).map(quoted).collect();
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--command", &format!("exec {}", words.join(" ")), "/dev/null"]);
    terminal.env("HOME", place.root().join("home")).current_dir(place.root());
    let mut terminal = Child::spawn(terminal).unwrap();
    wait_for("the agent", PATIENCE, || matches!(place.cli(&["health"]).unwrap().status, 0 | 3));
    terminal.signal(Signal::KILL).unwrap();
    wait_for("the end of everything", PATIENCE, || place.processes().is_empty());
    assert!(!place.runtime_dir().join("agent.sock").exists(), "it did not end in order");
}
