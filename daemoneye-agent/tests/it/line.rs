//! A process that lives longer than the interval between two scans, on its whole way to an alert.

use crate::support::{
    HIDDEN, PATIENCE, Sleeper, alerts_on, ask, health_of, hidden_sleep, query, rows, scans_go_by, site, text,
};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use testkit::{Monitor, find_binary, wait_for};

#[test]
fn a_process_becomes_an_event_a_row_and_one_alert() {
    let monitor = Monitor::start(site()).unwrap();
    let site = monitor.site();
    let (_dir, program) = hidden_sleep();
    let sleeper = Sleeper::of(&program);
    let (pid, key) = (sleeper.pid(), sleeper.key.clone());

    let alert = wait_for("an alert", PATIENCE, || alerts_on(site, &program).pop());
    assert_eq!((text(&alert, "rule_id"), &alert["pid"], text(&alert, "process_key")), (HIDDEN, &json!(pid), &*key));
    assert_eq!((text(&alert, "severity"), text(&alert, "status")), ("high", "open"));
    assert_eq!(alert["row"]["pid"], json!(pid), "{alert}");
    let console = format!("{}", program.display());
    assert!(fs::read_to_string(site.data_dir().join("alerts.jsonl")).unwrap().contains(&key));

    scans_go_by(&monitor, 3);
    let again = alerts_on(site, &program);
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(again[0]["count"], json!(1), "{again:?}");

    let seen =
        rows(site, &format!("SELECT pid, event_type, event_id FROM processes.events WHERE process_key = '{key}'"));
    assert!(seen.iter().all(|event| event["pid"] == json!(pid)), "{seen:?}");
    assert_eq!(seen.iter().filter(|event| text(event, "event_type") == "seen").count(), 1, "{seen:?}");
    assert!(seen.iter().all(|event| text(event, "event_type") != "exit"), "{seen:?}");
    let row = format!("SELECT pid, name, executable_path, end_time FROM processes WHERE process_key = '{key}'");
    let found = rows(site, &row);
    assert_eq!(found, [json!({"pid": pid, "name": "sleep", "executable_path": console, "end_time": null})]);

    drop(sleeper);
    let ended = wait_for("the end", PATIENCE, || rows(site, &row).pop().filter(|row| !row["end_time"].is_null()));
    assert_eq!(text(&ended, "executable_path"), console, "what is known of it stays known");
    let exits = rows(
        site,
        &format!("SELECT event_id FROM processes.events WHERE process_key = '{key}' AND event_type = 'exit'"),
    );
    assert_eq!(exits.len(), 1, "{exits:?}");

    let second = Sleeper::of(&program);
    wait_for("the second run", PATIENCE, || alerts_on(site, &program).iter().any(|alert| alert["count"] != json!(1)));
    let after = alerts_on(site, &program);
    assert_eq!(after.len(), 1, "the same file is the same alert: {after:?}");
    assert_eq!((&after[0]["count"], &after[0]["alert_id"]), (&json!(2), &alert["alert_id"]));
    assert_ne!(second.key, key);
}

#[test]
fn health_is_starting_until_the_first_scan_is_committed() {
    let place = site();
    // procmond's place is taken by a program that becomes procmond when it is told to.
    let programs = place.root().join("programs");
    fs::create_dir(&programs).unwrap();
    let (gate, real) = (place.root().join("go"), find_binary("procmond").unwrap());
    let script =
        format!("#!/bin/sh\nwhile [ ! -e {} ]; do sleep 0.05; done\nexec {} \"$@\"\n", gate.display(), real.display());
    fs::write(programs.join("procmond"), script).unwrap();
    fs::set_permissions(programs.join("procmond"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut monitor = Monitor::spawn(place.with_own_programs().unwrap()).unwrap();

    wait_for("the agent to answer", PATIENCE, || monitor.cli(&["health"]).unwrap().status != 69);
    let (exit, collector) = health_of(monitor.site(), "collector procmond");
    assert_eq!((exit, text(&collector, "status")), (1, "starting"), "{collector}");
    let answer = ask(monitor.site(), &["query", "SELECT pid FROM processes"]);
    assert_eq!((answer.exit, answer.rows.len()), (3, 0), "nobody looked: {answer:?}");
    assert!(answer.reasons[0].starts_with("collector_down"), "{answer:?}");

    fs::write(&gate, "").unwrap();
    monitor.wait_until_ready().unwrap();
    let (exit, collector) = health_of(monitor.site(), "collector procmond");
    assert_eq!((exit, text(&collector, "status")), (3, "degraded"), "{collector}");
    assert!(text(&collector, "detail").starts_with("polling only"), "{collector}");
    for component in ["agent", "store", "rules", "alerts"] {
        let (_, component) = health_of(monitor.site(), component);
        assert_eq!(text(&component, "status"), "ok", "{component}");
    }
}

#[test]
fn the_time_before_the_first_start_is_no_gap_and_the_time_between_two_starts_is() {
    let mut monitor = Monitor::start(site()).unwrap();
    let kinds = |monitor: &Monitor| -> Vec<String> {
        rows(monitor.site(), "SELECT kind FROM system.gaps ORDER BY gap_id")
            .iter()
            .map(|gap| text(gap, "kind").to_owned())
            .collect()
    };
    assert_eq!(kinds(&monitor), ["polling"]);
    let only_polling = |answer: &crate::support::Answer| {
        !answer.reasons.is_empty() && answer.reasons.iter().all(|reason| reason.starts_with("polling: "))
    };
    let now = query(monitor.site(), "SELECT pid FROM processes");
    assert!(only_polling(&now) && !now.rows.is_empty(), "{now:?}");

    monitor.stop().unwrap();
    monitor.restart().unwrap();
    assert_eq!(kinds(&monitor), ["polling", "collector_down"]);
    let now = query(monitor.site(), "SELECT pid FROM processes");
    assert!(only_polling(&now), "the present is judged as of now: {now:?}");
    let ever = query(monitor.site(), "SELECT pid FROM processes.events");
    assert!(ever.reasons.iter().any(|reason| reason.starts_with("collector_down: ")), "{ever:?}");
    let repeated =
        "SELECT process_key FROM processes.events WHERE event_type = 'seen' GROUP BY process_key HAVING count(*) > 1";
    assert_eq!(rows(monitor.site(), repeated), Vec::<serde_json::Value>::new(), "what still runs is not told again");
}
