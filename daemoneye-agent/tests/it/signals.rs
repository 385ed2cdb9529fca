//! How it ends, and how it goes on when a part of it ends.

use crate::support::{FAST, PATIENCE, health_of, query, rows, scans_go_by, site, text};
use serde_json::json;
use testkit::{Monitor, Signal, kill9, wait_for};

#[test]
fn sigterm_and_sigint_end_everything_within_three_seconds() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut monitor = Monitor::start(site()).unwrap();
        monitor.stop_by(signal).unwrap();
        assert!(!monitor.site().runtime_dir().join("agent.sock").exists(), "the socket stays behind");
    }
}

#[test]
fn a_signal_ends_an_adopted_collector_too() {
    let mut monitor = Monitor::start(site()).unwrap();
    let procmond = monitor.procmond_pid();
    monitor.kill().unwrap();
    monitor.restart().unwrap();
    assert_eq!(monitor.procmond_pid(), procmond, "it was not adopted");
    monitor.stop().unwrap();
}

#[test]
fn a_collector_that_was_killed_is_started_again() {
    let monitor = Monitor::start(site()).unwrap();
    let first = monitor.procmond_pid().unwrap();
    kill9(first).unwrap();
    let collector = wait_for("another procmond", PATIENCE, || {
        let mut collectors = rows(monitor.site(), "SELECT pid, restarts, state FROM system.collectors");
        collectors.pop().filter(|row| text(row, "state") == "attached" && row["pid"] != json!(first))
    });
    assert_eq!(collector["restarts"], json!(1), "{collector}");
    scans_go_by(&monitor, 1);
    let (exit, health) = health_of(monitor.site(), "collector procmond");
    assert_eq!(exit, 3, "{health}");
    assert!(text(&health, "detail").contains("restarted 1 times"), "{health}");
    let gaps = rows(monitor.site(), "SELECT reason FROM system.gaps WHERE kind = 'collector_down'");
    assert_eq!(gaps, [json!({"reason": "procmond ended without a clean stop"})]);
}

#[test]
fn a_collector_that_ends_too_often_is_a_failure_that_says_so() {
    let place = site().with_config(&format!("{FAST}[agent]\nmax_restarts_per_minute = 1\n")).unwrap();
    let monitor = Monitor::start(place).unwrap();
    for _ in 0..2 {
        let procmond = wait_for("procmond", PATIENCE, || monitor.procmond_pid());
        kill9(procmond).unwrap();
        wait_for("its end", PATIENCE, || monitor.procmond_pid() != Some(procmond));
    }
    let health = wait_for("the failure", PATIENCE, || {
        let (exit, health) = health_of(monitor.site(), "collector procmond");
        (exit == 1 && text(&health, "status") == "failed").then_some(health)
    });
    assert!(text(&health, "detail").contains("ended 2 times within a minute"), "{health}");
    assert!(text(&health, "hint").contains("nothing is collected"), "{health}");
    assert_eq!(monitor.procmond_pid(), None, "a third one was started");
    let answer = query(monitor.site(), "SELECT pid FROM processes");
    assert!(answer.reasons.iter().any(|reason| reason.starts_with("collector_down")), "{answer:?}");
}
