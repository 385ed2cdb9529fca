//! An agent for tests: it waits for nothing, names things alike each time, and says what it is.

use crate::support::{FAST, PATIENCE, ask, rows, text};
use serde_json::json;
use testkit::{Monitor, Site, wait_for, workspace_root};

fn epoch_of(monitor: &Monitor) -> String {
    text(&rows(monitor.site(), "SELECT epoch FROM system.collectors")[0], "epoch").to_owned()
}

#[test]
fn test_mode_is_quick_repeats_its_ids_and_says_so() {
    let place = || Site::new().unwrap().with_rules(&workspace_root().join("rules"));
    let start = || Monitor::start(place().with_variable("DAEMONEYE_AGENT_TEST_MODE", "1")).unwrap();
    let mut monitor = start();
    wait_for("short intervals", PATIENCE, || {
        let interval = rows(monitor.site(), "SELECT scan_interval_ms FROM system.collectors");
        // It stretches where the machine is busy.
        interval[0]["scan_interval_ms"].as_u64().is_some_and(|interval| interval < 1_000)
    });
    let health = ask(monitor.site(), &["health"]);
    assert!(health.reasons.iter().any(|reason| reason.starts_with("test mode")), "{health:?}");
    assert!(monitor.log().contains("TEST MODE"), "{}", monitor.log());
    let checked = ask(monitor.site(), &["config", "check", "--component", "agent"]);
    assert!(checked.rows.iter().any(|row| text(row, "key") == "DAEMONEYE_AGENT_TEST_MODE"), "{checked:?}");
    let first = epoch_of(&monitor);
    monitor.stop().unwrap();

    // Another one, elsewhere, gives the same names.
    let other = start();
    assert_eq!(epoch_of(&other), first);
    let events = rows(other.site(), "SELECT event_id FROM processes.events ORDER BY event_id LIMIT 1");
    assert_eq!(events, [json!({"event_id": format!("{first}-1")})]);

    let ordinary = Monitor::start(place().with_config(FAST).unwrap()).unwrap();
    assert_ne!(epoch_of(&ordinary), first, "without test mode every spool has an epoch of its own");
    assert!(!ask(ordinary.site(), &["health"]).reasons.iter().any(|reason| reason.starts_with("test mode")));
}
