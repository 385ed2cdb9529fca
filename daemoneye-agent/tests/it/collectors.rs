//! Collectors besides procmond: run by configuration, watched, ordered about, and refused.

use crate::support::{FAST, PATIENCE, ask, health_of, number, query, rows, text};
use serde_json::{Value, json};
use std::fs;
use testkit::{Monitor, Signal, Site, binary, wait_for, workspace_root};

/// A configuration with one more collector.
fn with(name: &str, program: &str, rest: &str) -> String {
    let program = binary(program);
    format!("{FAST}[collectors.{name}]\ncommand = {:?}\n{rest}\n", program.to_string_lossy())
}

fn census(rest: &str) -> Site {
    Site::new().unwrap().with_config(&with("census", "daemoneye-census", rest)).unwrap().in_test_mode()
}

const FAST_CENSUS: &str = "[collectors.census.settings]\ninterval_ms = 50";

fn counts(site: &Site) -> u64 {
    number(site, "SELECT count(*) FROM system.scans WHERE collector = 'census'")
}

fn component(monitor: &Monitor, name: &str, status: &str) -> Option<Value> {
    let (_, health) = health_of(monitor.site(), &format!("collector {name}"));
    (text(&health, "status") == status).then_some(health)
}

#[test]
fn a_collector_named_in_the_configuration_is_run_watched_and_ended() {
    let mut monitor = Monitor::start(census(FAST_CENSUS)).unwrap();
    wait_for("its counts", PATIENCE, || counts(monitor.site()) > 3);
    // It counts at its own pace until its settings have come.
    wait_for("its health with its settings", PATIENCE, || {
        component(&monitor, "census", "ok")
            .filter(|health| text(health, "detail").starts_with("mode count (it only counts), a scan every 50 ms"))
    });
    let ours = rows(monitor.site(), "SELECT max(processes) AS n FROM system.scans WHERE collector = 'census'");
    assert!(ours[0]["n"].as_u64().unwrap() > 2, "{ours:?}");
    assert!(monitor.site().data_dir().join("census/spool").is_dir());

    let pid = monitor.site().pid_of("daemoneye-censu").unwrap();
    testkit::kill9(pid).unwrap();
    let again = wait_for("another one", PATIENCE, || {
        let found =
            rows(monitor.site(), "SELECT pid, restarts, state FROM system.collectors WHERE collector = 'census'");
        found.into_iter().find(|row| text(row, "state") == "attached" && row["pid"] != json!(pid))
    });
    assert_eq!(again["restarts"], json!(1), "{again}");
    monitor.stop().unwrap();
}

#[test]
fn settings_that_a_collector_refuses_are_shown() {
    let monitor = Monitor::start(census("[collectors.census.settings]\nintervall = 50")).unwrap();
    let health = wait_for("the refusal", PATIENCE, || {
        component(&monitor, "census", "degraded").filter(|health| text(health, "detail").contains("refuses"))
    });
    assert!(text(&health, "detail").contains("the only setting is interval_ms"), "{health}");
    wait_for("its counts all the same", PATIENCE, || counts(monitor.site()) > 0);
}

#[test]
fn an_operator_pauses_a_collector_and_answers_say_what_was_not_seen() {
    let monitor = Monitor::start(census(FAST_CENSUS)).unwrap();
    let site = monitor.site();
    wait_for("its counts", PATIENCE, || counts(site) > 0);
    let order = |verb: &str, name: &str| ask(site, &["collectors", verb, name]);
    assert_eq!(order("pause", "procmond").exit, 0);
    let health = wait_for("the pause", PATIENCE, || {
        component(&monitor, "procmond", "degraded").filter(|health| text(health, "detail").contains("paused"))
    });
    assert!(text(&health, "hint").contains("collectors resume"), "{health}");
    let answer = query(site, "SELECT pid FROM processes");
    assert!(answer.reasons.iter().any(|why| why.starts_with("paused: ")), "{answer:?}");
    assert_eq!(number(site, "SELECT count(*) FROM system.collectors WHERE state = 'paused'"), 1);

    assert_eq!(order("resume", "procmond").exit, 0);
    let told = "SELECT count(*) FROM system.gaps WHERE kind = 'paused' AND to_time IS NOT NULL AND gap_id > 0";
    wait_for("the gap", PATIENCE, || number(site, told) == 1);
    let answer = query(site, "SELECT pid FROM processes");
    assert!(!answer.reasons.iter().any(|why| why.starts_with("paused: ")), "it is over: {answer:?}");

    let nobody = order("pause", "nobody");
    assert_eq!(nobody.exit, 4, "{nobody:?}");
    assert!(nobody.stderr.contains("the collectors are: census, procmond"), "{nobody:?}");
    let listed = ask(site, &["collectors", "list"]).rows;
    assert_eq!(listed.len(), 2, "{listed:?}");
}

#[test]
fn a_collector_that_says_nothing_any_more_is_a_failure() {
    let monitor = Monitor::start(census(FAST_CENSUS)).unwrap();
    wait_for("its counts", PATIENCE, || counts(monitor.site()) > 0);
    let pid = monitor.site().pid_of("daemoneye-censu").unwrap();
    let signal = |signal: &str| {
        let sent = std::process::Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    let health = wait_for("its silence", PATIENCE, || component(&monitor, "census", "failed"));
    assert!(text(&health, "detail").contains("tells nothing of its state"), "{health}");
    assert_eq!(number(monitor.site(), "SELECT count(*) FROM system.collectors WHERE state = 'unresponsive'"), 1);
    signal("-CONT");
    wait_for("its recovery", PATIENCE, || component(&monitor, "census", "ok"));
}

#[test]
fn a_program_that_is_not_there_is_told_and_the_others_run() {
    let config = format!("{FAST}[collectors.ghost]\ncommand = [\"/no/such/program\", \"--flag\"]\n");
    let mut monitor = Monitor::spawn(Site::new().unwrap().with_config(&config).unwrap()).unwrap();
    let health = wait_for("the failure", PATIENCE, || component(&monitor, "ghost", "failed"));
    assert!(text(&health, "detail").contains("/no/such/program cannot be started"), "{health}");
    wait_for("procmond", PATIENCE, || component(&monitor, "procmond", "degraded"));
    monitor.agent().signal(Signal::TERM).unwrap();
}

#[test]
fn without_procmond_answers_say_that_nobody_looked() {
    let config = format!("{FAST}[collectors.procmond]\nenabled = false\n");
    let mut monitor = Monitor::start(Site::new().unwrap().with_config(&config).unwrap()).unwrap();
    let (exit, health) = health_of(monitor.site(), "collector procmond");
    assert_eq!((exit, text(&health, "status")), (3, "degraded"), "{health}");
    let answer = query(monitor.site(), "SELECT pid FROM processes");
    assert!(answer.rows.is_empty(), "{answer:?}");
    assert!(answer.reasons.iter().any(|why| why.contains("switched off by the configuration")), "{answer:?}");
    assert_eq!(monitor.procmond_pid(), None);
    monitor.stop().unwrap();
}

const RECORDED: &str = r#"{"pid": 100, "name": "nginx", "executable_path": "/usr/sbin/nginx", "start_time": "2026-01-01T00:00:00Z"}
{"pid": 101, "ppid": 100, "name": "sh", "executable_path": "/usr/bin/dash", "argv": ["sh", "-c", "id"], "parent_name": "nginx", "parent_executable_path": "/usr/sbin/nginx", "_case": "fires"}

{"pid": 102, "ppid": 1, "name": "sh", "executable_path": "/usr/bin/dash", "argv": ["sh"], "parent_name": "systemd", "_case": "does not"}
{"pid": 101, "event_type": "exit"}
"#;

fn replaying() -> Site {
    let site = Site::new().unwrap().with_rules(&workspace_root().join("rules"));
    let events = site.root().join("events.jsonl");
    fs::write(&events, RECORDED).unwrap();
    let program = binary("daemoneye-replay");
    let command = format!("[{:?}, {:?}]", program.to_string_lossy(), events.to_string_lossy());
    let config = format!("[collectors.procmond]\nenabled = false\n[collectors.replay]\ncommand = {command}\n");
    site.with_config(&config).unwrap()
}

#[test]
fn recorded_events_go_the_whole_way_to_alerts_in_test_mode() {
    let mut monitor = Monitor::start(replaying().in_test_mode()).unwrap();
    let all = "SELECT count(*) FROM processes.events";
    wait_for("the events", PATIENCE, || number(monitor.site(), all) == 4);
    let alert = wait_for("the alert", PATIENCE, || monitor.alerts().unwrap().pop());
    assert_eq!((text(&alert, "rule_id"), &alert["pid"]), ("linux-shell-from-web-server", &json!(101)), "{alert}");
    let family = "SELECT c.name FROM processes AS c JOIN processes AS p ON c.parent_key = p.process_key \
                  WHERE p.name = 'nginx' AND c.end_time IS NOT NULL";
    assert_eq!(rows(monitor.site(), family), [json!({"name": "sh"})], "keys were made");

    // Neither a kill nor a restart tells the recording again.
    let pid = monitor.site().pid_of("daemoneye-repla").unwrap();
    testkit::kill9(pid).unwrap();
    wait_for("another one", PATIENCE, || {
        number(monitor.site(), "SELECT count(*) FROM system.collectors WHERE state = 'attached' AND restarts = 1") == 1
    });
    monitor.stop().unwrap();
    monitor.restart().unwrap();
    assert_eq!(number(monitor.site(), all), 4);
    assert_eq!(monitor.alerts().unwrap().len(), 1);
}

#[test]
fn recorded_events_are_refused_outside_of_test_mode() {
    let monitor = Monitor::spawn(replaying()).unwrap();
    let health = wait_for("the refusal", PATIENCE, || component(&monitor, "replay", "failed"));
    assert!(text(&health, "detail").contains("DAEMONEYE_AGENT_TEST_MODE=1"), "{health}");
    assert_eq!(number(monitor.site(), "SELECT count(*) FROM processes.events"), 0);
    wait_for("its own log to say so", PATIENCE, || {
        monitor.log().contains("cannot register: the collector `replay` replays")
    });
}

#[test]
fn new_settings_reach_a_collector_while_it_runs() {
    let mut monitor = Monitor::start(census(FAST_CENSUS)).unwrap();
    let interval = |monitor: &Monitor| {
        let sql = "SELECT pid, scan_interval_ms FROM system.collectors WHERE collector = 'census'";
        let row = rows(monitor.site(), sql).remove(0);
        (row["pid"].clone(), row["scan_interval_ms"].clone())
    };
    wait_for("its first settings", PATIENCE, || interval(&monitor).1 == json!(50));
    let (pid, _) = interval(&monitor);
    let mut reconfigure = |rest: &str| {
        fs::write(monitor.site().config_file(), with("census", "daemoneye-census", rest)).unwrap();
        monitor.agent().signal(Signal::HUP).unwrap();
    };
    reconfigure("[collectors.census.settings]\ninterval_ms = 70");
    wait_for("its new settings", PATIENCE, || interval(&monitor) == (pid.clone(), json!(70)));
    let mut reconfigure = |rest: &str| {
        fs::write(monitor.site().config_file(), with("census", "daemoneye-census", rest)).unwrap();
        monitor.agent().signal(Signal::HUP).unwrap();
    };
    reconfigure("[collectors.census.settings]\nintervall = 1");
    wait_for("its refusal", PATIENCE, || {
        component(&monitor, "census", "degraded").filter(|health| text(health, "detail").contains("refuses"))
    });
    assert_eq!(interval(&monitor), (pid, json!(70)), "what was in force still is");
}

#[test]
fn all_instances_are_asked_what_they_see_and_one_of_them_for_a_hash() {
    let config = with("bare", "daemoneye-defective", "instances = 2");
    let monitor = Monitor::start(Site::new().unwrap().with_config(&config).unwrap()).unwrap();
    let site = monitor.site();
    let attached = "SELECT count(*) FROM system.collectors WHERE collector LIKE 'bare%' AND state = 'attached'";
    wait_for("both instances", PATIENCE, || number(site, attached) == 2);
    let seen = ask(site, &["collect", "now", "--collector", "bare", "--filter", "pid=1"]);
    let pids: Vec<_> = seen.rows.iter().map(|row| row["pid"].clone()).collect();
    assert_eq!(pids, [json!(1), json!(1)], "each of them says what it sees: {seen:?}");
    let file = site.root().join("abc");
    fs::write(&file, "abc").unwrap();
    let hashed = ask(site, &["hash", "--collector", "bare", file.to_str().unwrap()]);
    assert_eq!(hashed.rows.len(), 1, "one of them is enough: {hashed:?}");
    let nobody = ask(site, &["collect", "now", "--collector", "bare", "--filter", "pid=4194305"]);
    assert!(nobody.exit == 4 && nobody.stderr.contains("there is no such process"), "{nobody:?}");
    let unknown = ask(site, &["collect", "now", "--collector", "nobody"]);
    assert!(unknown.exit == 4 && unknown.stderr.contains("there is no collector `nobody`"), "{unknown:?}");
}

#[test]
fn several_instances_of_one_collector_run_side_by_side() {
    let mut monitor = Monitor::start(census("instances = 3\n[collectors.census.settings]\ninterval_ms = 50")).unwrap();
    let names = ["census", "census@2", "census@3"];
    let scans =
        "SELECT collector FROM system.scans WHERE collector LIKE 'census%' GROUP BY collector ORDER BY collector";
    wait_for("the counts of all", PATIENCE, || {
        rows(monitor.site(), scans) == names.map(|name| json!({"collector": name}))
    });
    let attached =
        "SELECT count(DISTINCT pid) FROM system.collectors WHERE collector LIKE 'census%' AND state = 'attached'";
    assert_eq!(number(monitor.site(), attached), 3);
    for name in names {
        assert!(monitor.site().data_dir().join(name).join("spool").is_dir(), "{name}");
        wait_for("its health", PATIENCE, || component(&monitor, name, "ok"));
    }
    monitor.stop().unwrap();
}
