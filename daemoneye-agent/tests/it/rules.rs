//! Rules as they are found: good ones run beside bad ones, and bad ones are told with their place.

use crate::support::{FAST, PATIENCE, Sleeper, ask, health_of, rows, text};
use serde_json::{Value, json};
use std::fs;
use testkit::{Monitor, Site, wait_for};

fn rule(id: &str, sql: &str) -> String {
    format!("id = \"{id}\"\ntitle = \"A test\"\nseverity = \"low\"\nsql = \"\"\"\n{sql}\n\"\"\"\n")
}

const SLEEPS: &str = "SELECT process_key, pid, name FROM processes.events WHERE name = 'sleep' AND event_type = 'seen'";

#[test]
fn a_broken_or_repeated_rule_is_told_and_the_others_run() {
    let site = Site::new().unwrap().with_config(FAST).unwrap();
    site.write_rule("a-first", &rule("sleeps", SLEEPS)).unwrap();
    site.write_rule("b-second", &rule("sleeps", "SELECT process_key, pid FROM processes.events")).unwrap();
    site.write_rule(
        "broken-sql",
        &rule("broken-sql", "SELECT process_key, pid\nFROM processes.events\nWHERE nonsense = 1"),
    )
    .unwrap();
    site.write_rule("broken-toml", "id = \"broken-toml\"\ntitle = = 2\n").unwrap();
    site.write_rule("forbidden", &rule("forbidden", "DELETE FROM processes.events")).unwrap();
    let file = |id: &str| site.rules_dir().join(id).join("rule.toml").display().to_string();
    let [first, second, sql, toml, forbidden] =
        ["a-first", "b-second", "broken-sql", "broken-toml", "forbidden"].map(file);
    let mut monitor = Monitor::start(site).unwrap();

    let listed = ask(monitor.site(), &["rules", "list"]).rows;
    assert_eq!(listed.len(), 5, "{listed:?}");
    let of = |file: &str| -> &Value { listed.iter().find(|row| text(row, "file") == file).unwrap() };
    assert_eq!((text(of(&first), "rule_id"), text(of(&first), "state")), ("sleeps", "healthy"));
    for (file, words) in [
        (&second, vec![first.as_str(), second.as_str(), "sleeps"]),
        // The query begins in the file's fifth line.
        (&sql, vec!["nonsense", "7:7"]),
        (&toml, vec!["2:9"]),
        (&forbidden, vec!["DELETE", "5:1"]),
    ] {
        let row = of(file);
        assert_eq!(text(row, "state"), "refused", "{row}");
        for word in words {
            assert!(text(row, "reason").contains(word), "{word}: {row}");
        }
    }
    let (exit, health) = health_of(monitor.site(), "rules");
    assert_eq!((exit, text(&health, "status")), (3, "degraded"), "{health}");
    assert!(text(&health, "detail").starts_with("1 in force"), "{health}");

    let sleeper = Sleeper::start();
    let alert = wait_for("an alert of the rule that works", PATIENCE, || {
        monitor.alerts().unwrap().into_iter().find(|alert| alert["pid"] == json!(sleeper.pid()))
    });
    assert_eq!(text(&alert, "rule_id"), "sleeps");
    let ran = rows(monitor.site(), "SELECT DISTINCT rule_id FROM detection.runs");
    assert_eq!(ran, [json!({"rule_id": "sleeps"})]);
    monitor.stop().unwrap();
}

#[test]
fn without_a_directory_of_rules_monitoring_begins_and_says_so() {
    let site = Site::new().unwrap().with_config(FAST).unwrap();
    let none = site.root().join("none/yet");
    let mut monitor = Monitor::start(site.with_rules(&none)).unwrap();
    let (exit, health) = health_of(monitor.site(), "rules");
    assert_eq!((exit, text(&health, "status")), (3, "degraded"), "{health}");
    assert!(text(&health, "detail").contains(&none.display().to_string()), "{health}");
    assert!(text(&health, "hint").contains("--rules-dir"), "{health}");
    assert!(fs::read_dir(&none).unwrap().next().is_none());
    assert_eq!(ask(monitor.site(), &["rules", "list"]).rows, Vec::<Value>::new());
    monitor.stop().unwrap();
}
