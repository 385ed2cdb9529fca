//! The shipped rules, all together, in the agent and in the command that tests them.

use crate::support::{HIDDEN, PATIENCE, Sleeper, ask, hidden_sleep, scans_go_by, site, text};
use serde_json::json;
use testkit::{Monitor, Site, wait_for, workspace_root};

/// The rules that raised an alert on this process.
fn raised_by(site: &Site, pid: u32) -> Vec<String> {
    let mut alerts = ask(site, &["alerts", "list"]).rows;
    alerts.retain(|alert| alert["pid"] == json!(pid));
    alerts.iter().map(|alert| text(alert, "rule_id").to_owned()).collect()
}

#[test]
fn a_hidden_program_brings_one_alert_of_all_shipped_rules_together() {
    let mut monitor = Monitor::start(site()).unwrap();
    let site = monitor.site();
    let healthy = ask(site, &["rules", "list"]).rows;
    assert!(healthy.len() >= 20 && healthy.iter().all(|row| text(row, "state") == "healthy"), "{healthy:?}");
    let (_dir, program) = hidden_sleep();
    let sleeper = Sleeper::of(&program);
    wait_for("the alert", PATIENCE, || !raised_by(site, sleeper.pid()).is_empty());
    scans_go_by(&monitor, 3);
    assert_eq!(raised_by(site, sleeper.pid()), [HIDDEN]);
    let tried = site.cli(&["rules", "test", &workspace_root().join("rules").display().to_string()]).unwrap();
    assert_eq!(tried.status, 0, "{tried:?}");
    monitor.stop().unwrap();
}
