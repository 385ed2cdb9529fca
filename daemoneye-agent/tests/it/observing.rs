//! Collectors that observe in another way than before, or lack a part: shown, and told in the answers that it concerns.

use crate::support::{Answer, PATIENCE, health_of, query, rows, text};
use daemoneye_lib::models::time::{parse, sql_text};
use serde_json::{Value, json};
use std::fs;
use testkit::{Monitor, Signal, Site, binary, wait_for};

const RECORDED: &str = r#"{"pid": 100, "name": "gdb", "executable_path": "/usr/bin/gdb"}
{"table": "security.events", "event_type": "ptrace", "pid": 100, "name": "gdb", "target_pid": 1, "target_name": "init"}
{"table": "network.connections", "event_type": "connect", "pid": 100, "remote_port": 443}
"#;

fn rule(id: &str, table: &str) -> String {
    format!(
        "id = \"{id}\"\ntitle = \"t\"\nseverity = \"low\"\nwindow = \"1h\"\nevery = \"1s\"\ndedup = [\"n\"]\n\
         sql = \"SELECT count(*) AS n FROM {table} WHERE pid = 100\"\n"
    )
}

fn config(site: &Site, settings: &str) -> String {
    let (program, events) = (binary("daemoneye-replay"), site.root().join("events.jsonl"));
    let command = format!("[{:?}, {:?}]", program.to_string_lossy(), events.to_string_lossy());
    format!(
        "[collectors.procmond]\nenabled = false\n[collectors.replay]\ncommand = {command}\n\
         [collectors.replay.settings]\n{settings}"
    )
}

fn replaying(settings: &str) -> Monitor {
    let site = Site::new().unwrap();
    fs::write(site.root().join("events.jsonl"), RECORDED).unwrap();
    site.write_rule("traced", &rule("traced", "security.events")).unwrap();
    site.write_rule("connected", &rule("connected", "network.connections")).unwrap();
    let config = config(&site, settings);
    Monitor::start(site.with_config(&config).unwrap().in_test_mode()).unwrap()
}

fn reconfigure(monitor: &mut Monitor, settings: &str) {
    fs::write(monitor.site().config_file(), config(monitor.site(), settings)).unwrap();
    monitor.agent().signal(Signal::HUP).unwrap();
}

fn collector(monitor: &Monitor) -> Value {
    let found =
        rows(monitor.site(), "SELECT mode, mode_reason, features FROM system.collectors WHERE collector = 'replay'");
    found.into_iter().next().unwrap_or_default()
}

fn gaps(monitor: &Monitor) -> Vec<Value> {
    let sql =
        "SELECT kind, to_time, tables FROM system.gaps WHERE kind = 'polling' OR kind LIKE 'without%' ORDER BY gap_id";
    rows(monitor.site(), sql)
}

/// The condition that an event came after this gap, a millisecond later at least: times are shown without their last digits.
fn behind(gap: &Value) -> String {
    let until = parse(&text(gap, "to_time").replace('T', " ").replace('Z', "")).unwrap();
    format!(" WHERE event_time > '{}'", sql_text(until + 1_000_000))
}

fn says(answer: &Answer, reason: &str) -> bool {
    answer.reasons.iter().any(|why| why.starts_with(reason))
}

fn detail(monitor: &Monitor) -> String {
    text(&health_of(monitor.site(), "collector replay").1, "detail").to_owned()
}

#[test]
fn a_part_that_a_collector_lacks_makes_answers_from_its_tables_degraded_and_no_others() {
    let mut monitor = replaying(
        "[collectors.replay.settings.features]\n\
         exec = { available = true, tables = [\"processes.events\", \"processes\"] }\n\
         ptrace = { reason = \"this kernel has no BTF\", tables = [\"security.events\"] }\n\
         module_load = { reason = \"not run: this kernel has no modules\" }\n",
    );
    wait_for("its features", PATIENCE, || !collector(&monitor)["features"].is_null());
    let features = collector(&monitor)["features"].clone();
    let expected = json!({
        "exec": "available",
        "module_load": "unavailable: not run: this kernel has no modules",
        "ptrace": "unavailable: this kernel has no BTF",
    });
    assert_eq!(features, expected);
    assert!(detail(&monitor).contains("ptrace (this kernel has no BTF)"), "{}", detail(&monitor));
    assert_eq!(gaps(&monitor), [json!({"kind": "without_ptrace", "to_time": null, "tables": ["security.events"]})]);

    let over = |table: &str| query(monitor.site(), &format!("SELECT count(*) AS n FROM {table}"));
    let answer = over("security.events");
    assert!(says(&answer, "without_ptrace: this kernel has no BTF (replay, "), "{answer:?}");
    for table in ["processes", "processes.events", "network.connections", "alerts"] {
        let answer = over(table);
        assert!(!says(&answer, "without_"), "{table}: {answer:?}");
    }
    // What a rule finds is judged by the tables that it reads.
    let doubted = |rule: &str| -> Vec<bool> {
        let sql = format!("SELECT completeness FROM detection.runs WHERE rule_id = '{rule}' ORDER BY run_time DESC");
        rows(monitor.site(), &sql).iter().map(|row| row["completeness"].to_string().contains("no BTF")).collect()
    };
    wait_for("a run of the rule over them", PATIENCE, || doubted("traced").contains(&true));
    wait_for("as many of the other", PATIENCE, || doubted("connected").len() >= doubted("traced").len());
    assert!(!doubted("connected").contains(&true));

    reconfigure(
        &mut monitor,
        "[collectors.replay.settings.features]\nptrace = { available = true, tables = [\"security.events\"] }\n",
    );
    let over =
        |condition: &str| query(monitor.site(), &format!("SELECT count(*) AS n FROM security.events{condition}"));
    let gap = wait_for("its return", PATIENCE, || gaps(&monitor).into_iter().find(|gap| !gap["to_time"].is_null()));
    assert!(says(&over(""), "without_ptrace: "), "what it missed, it missed");
    let later = over(&behind(&gap));
    assert!(!says(&later, "without_ptrace: "), "{later:?}");
    assert!(!detail(&monitor).contains("unavailable"), "{}", detail(&monitor));
    monitor.stop().unwrap();
}

#[test]
fn answers_are_judged_by_the_mode_of_their_own_stretch_of_time() {
    let mut monitor = replaying("mode = \"poll\"\nmode_reason = \"nothing better is there\"\n");
    wait_for("its mode", PATIENCE, || text(&collector(&monitor), "mode") == "poll");
    let over = |monitor: &Monitor, condition: &str| {
        query(monitor.site(), &format!("SELECT count(*) AS n FROM processes.events{condition}"))
    };
    assert!(says(&over(&monitor, ""), "polling: processes are seen only when a scan finds them"));
    assert!(says(&query(monitor.site(), "SELECT pid FROM processes"), "polling: "));

    reconfigure(&mut monitor, "mode = \"connector\"\nmode_reason = \"the ring is gone\"\n");
    let gap =
        wait_for("the end of polling", PATIENCE, || gaps(&monitor).into_iter().find(|gap| !gap["to_time"].is_null()));
    let after = behind(&gap);
    let judged = |monitor: &Monitor| {
        assert!(says(&over(monitor, ""), "polling: "), "it touches the stretch of polling");
        assert!(!says(&over(monitor, &after), "polling: "), "{:?}", over(monitor, &after));
        assert!(!says(&query(monitor.site(), "SELECT pid FROM processes"), "polling: "), "now nobody polls");
    };
    judged(&monitor);
    assert_eq!(text(&collector(&monitor), "mode_reason"), "the ring is gone");
    wait_for("health to tell", PATIENCE, || detail(&monitor).starts_with("mode connector (the ring is gone)"));

    // It registers with another agent as it observes now, not as it began.
    monitor.kill().unwrap();
    monitor.restart().unwrap();
    wait_for("its return", PATIENCE, || text(&collector(&monitor), "mode") == "connector");
    assert_eq!(gaps(&monitor).len(), 1);
    judged(&monitor);
    monitor.stop().unwrap();
}
