//! Events of networks, files, performance and security go the same way as those of processes: by the bus, into the store, through the
//! rules, to whoever asks.

use crate::support::{FAST, PATIENCE, ask, number, query, rows, text};
use serde_json::json;
use std::fs;
use testkit::{Monitor, Site, binary, wait_for};

const RECORDED: &str = r#"{"pid": 100, "name": "curl", "executable_path": "/usr/bin/curl"}
{"table": "network.connections", "event_type": "connect", "pid": 100, "name": "curl", "protocol": "tcp", "family": "ipv4", "remote_address": "192.0.2.66", "remote_port": 4444, "_case": "fires"}
{"table": "network.connections", "event_type": "connect", "pid": 100, "name": "curl", "protocol": "tcp", "family": "ipv4", "remote_address": "192.0.2.7", "remote_port": 443, "_case": "does not"}
{"table": "filesystem.events", "event_type": "created", "pid": 100, "path": "/etc/cron.d/x", "size": 12, "mode": 420}
{"table": "performance.samples", "scope": "system", "metric": "load_1m", "value": 2.5, "unit": "processes"}
{"table": "security.events", "event_type": "credentials", "pid": 100, "name": "curl", "old_uid": 1000, "new_uid": 0, "old_euid": 1000, "new_euid": 0}
{"table": "security.events", "event_type": "memory_exec", "pid": 100, "name": "curl", "object": "anonymous", "count": 7}
"#;

const ROOT: &str = r#"id = "root-without-exec"
title = "A process became root without exec"
severity = "critical"
sql = "SELECT process_key, pid, name, old_uid, new_uid FROM security.events WHERE event_type = 'credentials' AND new_euid = 0 AND old_euid <> 0"
"#;

const RULE: &str = r#"id = "odd-port"
title = "Connection to an odd port"
severity = "high"
sql = "SELECT remote_address, remote_port FROM network.connections WHERE event_type = 'connect' AND remote_port = 4444"
"#;

/// A site with a recording, a rule over connections, and more configuration.
fn replaying(more: &str, flags: &str) -> Site {
    let site = Site::new().unwrap();
    let events = site.root().join("events.jsonl");
    fs::write(&events, RECORDED).unwrap();
    site.write_rule("odd-port", RULE).unwrap();
    site.write_rule("root-without-exec", ROOT).unwrap();
    let (program, events) = (binary("daemoneye-replay"), events);
    let command = format!("[{:?}, {:?}{flags}]", program.to_string_lossy(), events.to_string_lossy());
    let config = format!("[collectors.procmond]\nenabled = false\n[collectors.replay]\ncommand = {command}\n{more}");
    site.with_config(&config).unwrap().in_test_mode()
}

const ALL: &str = "SELECT (SELECT count(*) FROM processes.events) + (SELECT count(*) FROM network.connections) \
                   + (SELECT count(*) FROM filesystem.events) + (SELECT count(*) FROM performance.samples) \
                   + (SELECT count(*) FROM security.events)";

#[test]
fn events_of_every_domain_are_stored_queried_and_judged_by_rules() {
    let mut monitor = Monitor::start(replaying("", "")).unwrap();
    wait_for("the events", PATIENCE, || number(monitor.site(), ALL) == 7);
    let raised = |rule: &str| monitor.alerts().unwrap().into_iter().find(|alert| text(alert, "rule_id") == rule);
    let alert = wait_for("the alert", PATIENCE, || raised("odd-port"));
    assert_eq!(alert["pid"], json!(100), "{alert}");
    let alert = wait_for("the other", PATIENCE, || raised("root-without-exec"));
    let key = rows(monitor.site(), "SELECT process_key FROM processes WHERE pid = 100");
    assert_eq!((&alert["process_key"], &alert["name"]), (&key[0]["process_key"], &json!("curl")), "{alert}");
    let memory = "SELECT object, count FROM security.events WHERE event_type = 'memory_exec' AND object = 'anonymous'";
    assert_eq!(rows(monitor.site(), memory), [json!({"object": "anonymous", "count": 7})]);
    let joined = "SELECT n.remote_port AS port, p.executable_path AS path FROM network.connections AS n \
                  JOIN processes AS p ON p.process_key = n.process_key WHERE n.remote_address = '192.0.2.7'";
    assert_eq!(rows(monitor.site(), joined), [json!({"port": 443, "path": "/usr/bin/curl"})]);
    assert_eq!(rows(monitor.site(), "SELECT path, size FROM filesystem.events WHERE path LIKE '/etc/%'").len(), 1);
    let load = "SELECT value, unit FROM performance.samples WHERE metric = 'load_1m' AND event_time > '2020-01-01'";
    assert_eq!(rows(monitor.site(), load), [json!({"value": 2.5, "unit": "processes"})]);
    let stats = ask(monitor.site(), &["data", "stats"]);
    let fresh = |table: &str| {
        let name = format!("{table}, fresh");
        stats.rows.iter().find(|row| text(row, "table") == name).unwrap()["rows"].as_u64()
    };
    let tables = ["network.connections", "performance.samples", "security.events"];
    assert_eq!(tables.map(fresh), [Some(2), Some(1), Some(2)], "{stats:?}");
    let target = monitor.site().root().join("connections.jsonl");
    let flags =
        ["data", "export", "--table", "network.connections", "--format", "jsonl", "-o", &target.to_string_lossy()];
    let exported = monitor.site().cli(&flags).unwrap();
    assert!(matches!(exported.status, 0 | 3), "{exported:?}");
    assert_eq!(fs::read_to_string(&target).unwrap().lines().count(), 2);
    let target = monitor.site().root().join("security.jsonl");
    let flags = ["data", "export", "--table", "security.events", "--format", "jsonl", "-o", &target.to_string_lossy()];
    assert!(matches!(monitor.site().cli(&flags).unwrap().status, 0 | 3));
    assert!(fs::read_to_string(&target).unwrap().contains("\"count\":7"), "{target:?}");

    monitor.stop().unwrap();
    monitor.restart().unwrap();
    assert_eq!(number(monitor.site(), ALL), 7, "they outlive the agent, and are not told again");
    assert_eq!(monitor.alerts().unwrap().len(), 2);
}

#[test]
fn an_answer_says_when_nobody_looks() {
    let monitor = Monitor::start(Site::new().unwrap().in_test_mode()).unwrap();
    let unwatched = |sql: &str| query(monitor.site(), sql).reasons.iter().any(|why| why.starts_with("unwatched: "));
    assert!(unwatched("SELECT count(*) FROM network.connections"));
    assert!(unwatched("SELECT count(*) FROM filesystem.events"));
    assert!(unwatched("SELECT count(*) FROM security.events"));
    assert!(!unwatched("SELECT count(*) FROM processes.events"));
    assert!(!unwatched("SELECT count(*) FROM alerts"));
    let other = Monitor::start(replaying("", "")).unwrap();
    wait_for("the events", PATIENCE, || number(other.site(), ALL) == 7);
    let answer = query(other.site(), "SELECT count(*) FROM network.connections");
    assert!(!answer.reasons.iter().any(|why| why.starts_with("unwatched")), "{answer:?}");
    let collectors =
        rows(other.site(), "SELECT domains, source_caps FROM system.collectors WHERE collector = 'replay'");
    assert_eq!(collectors[0]["domains"], json!(["process", "network", "filesystem", "performance", "security"]));
    assert_eq!(collectors[0]["source_caps"], json!(["process", "network", "filesystem", "performance", "security"]));
}

#[test]
fn retention_drops_events_of_every_domain_and_says_so() {
    let monitor = Monitor::start(replaying("[agent]\nretention_s = 3600\n", ", \"--from\", \"2026-01-01\"")).unwrap();
    wait_for("the end of what is old", PATIENCE, || {
        let gone = "SELECT count(*) FROM system.gaps WHERE kind = 'retention'";
        number(monitor.site(), gone) == 5 && number(monitor.site(), ALL) == 0
    });
    let answer = query(monitor.site(), "SELECT count(*) FROM network.connections");
    assert!(answer.reasons.iter().any(|why| why.starts_with("retention: ")), "{answer:?}");
}

#[test]
fn a_replay_in_test_mode_names_everything_alike_each_time() {
    let told = || {
        let monitor = Monitor::start(replaying("", ", \"--from\", \"2026-01-01\"")).unwrap();
        wait_for("the events", PATIENCE, || number(monitor.site(), ALL) == 7);
        wait_for("the alerts", PATIENCE, || monitor.alerts().unwrap().len() == 2);
        let of = |sql: &str| rows(monitor.site(), sql);
        (
            of("SELECT event_id, event_time FROM network.connections ORDER BY event_id"),
            of("SELECT event_id, event_time, process_key FROM processes.events"),
            of("SELECT alert_id, first_seen, process_key FROM alerts ORDER BY alert_id"),
        )
    };
    let first = told();
    assert_eq!(first.0[0]["event_time"], json!("2026-01-01T00:00:02.000000Z"));
    assert_eq!(first, told());
}

#[test]
fn a_collector_of_connections_tells_them_and_has_procmond_hash_what_listens() {
    let program = binary("daemoneye-connections");
    let config = format!(
        "{FAST}[collectors.connections]\ncommand = {:?}\n[collectors.connections.settings]\ninterval_ms = 100\nhash_listeners = true\n",
        program.to_string_lossy()
    );
    let mut monitor = Monitor::start(Site::new().unwrap().with_config(&config).unwrap().in_test_mode()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It keeps the socket as its standard input.
    let input = std::process::Stdio::from(std::os::fd::OwnedFd::from(listener));
    let mut owner = std::process::Command::new("sleep").arg("600").stdin(input).spawn().unwrap();
    let site = monitor.site();
    let listens = format!(
        "SELECT n.event_type, n.pid, n.name, n.protocol, p.name AS process FROM network.connections AS n \
         LEFT JOIN processes AS p ON p.process_key = n.process_key WHERE n.local_port = {port} AND n.pid = {}",
        owner.id()
    );
    let seen = wait_for("the socket and its process", PATIENCE, || {
        rows(site, &listens).into_iter().find(|row| text(row, "process") == "sleep")
    });
    assert_eq!((text(&seen, "event_type"), text(&seen, "name"), text(&seen, "protocol")), ("listen", "sleep", "tcp"));
    let asked = format!(
        "SELECT target, task_type, status, error, result, finished_at FROM system.triggers \
         WHERE collector = 'connections' AND reason LIKE '% port {port}' AND status <> 'due'"
    );
    let trigger = wait_for("the trigger", PATIENCE, || rows(site, &asked).pop());
    assert_eq!((text(&trigger, "target"), text(&trigger, "task_type")), ("procmond", "CHECK_PROCESS_HASH"));
    assert_eq!(text(&trigger, "status"), "done", "{trigger}");
    assert_eq!(trigger["result"]["hash"]["value"].as_str().unwrap().len(), 64, "{trigger}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    let closed = format!("SELECT count(*) FROM network.connections WHERE local_port = {port} AND event_type = 'close'");
    wait_for("its end", PATIENCE, || number(site, &closed) == 1);
    monitor.stop().unwrap();
}

#[test]
fn a_trigger_that_cannot_be_carried_out_says_why() {
    let program = binary("daemoneye-connections");
    let config = format!(
        "[collectors.procmond]\nenabled = false\n[collectors.connections]\ncommand = {:?}\n\
         [collectors.connections.settings]\ninterval_ms = 100\nhash_listeners = true\n",
        program.to_string_lossy()
    );
    let monitor = Monitor::start(Site::new().unwrap().with_config(&config).unwrap().in_test_mode()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked =
        format!("SELECT status, error FROM system.triggers WHERE reason LIKE '% port {port}' AND status <> 'due'");
    let trigger = wait_for("the trigger", PATIENCE, || rows(monitor.site(), &asked).pop());
    assert_eq!(text(&trigger, "status"), "refused");
    assert!(text(&trigger, "error").contains("`procmond` is not attached (disabled)"), "{trigger}");
}
