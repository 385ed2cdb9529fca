//! An ordinary user sees what they may, and is told what they may not.

use crate::support::{NOBODY, PATIENCE, Sleeper, ask, health_of, may_test_as_root, rows, site, text};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt as _;
use testkit::{Monitor, wait_for};

#[test]
fn an_ordinary_user_sees_what_they_may_and_is_told_what_not() {
    if !may_test_as_root("becomes another user") {
        return;
    }
    let others = Sleeper::start();
    let mut monitor = Monitor::start(site().as_user(NOBODY).unwrap()).unwrap();
    let agent = monitor.agent().pid();
    for pid in [agent, monitor.procmond_pid().unwrap()] {
        assert_eq!(std::fs::metadata(format!("/proc/{pid}")).unwrap().uid(), NOBODY);
    }
    let row = |key: &str| {
        let sql =
            format!("SELECT pid, user, executable_path, cwd, provenance FROM processes WHERE process_key = '{key}'");
        wait_for("the process", PATIENCE, || rows(monitor.site(), &sql).pop())
    };
    let other = row(&others.key);
    assert_eq!((&other["pid"], text(&other, "user")), (&json!(others.pid()), "root"), "{other}");
    for column in ["executable_path", "cwd"] {
        assert_eq!(other[column], Value::Null, "{other}");
        assert_eq!(other["provenance"][column], "unavailable: permission denied", "{other}");
    }
    let own = row(&crate::support::key_of(agent));
    assert!(text(&own, "executable_path").ends_with("/daemoneye-agent"), "{own}");

    let (exit, health) = health_of(monitor.site(), "collector procmond");
    assert_eq!(exit, 3, "{health}");
    assert!(text(&health, "detail").contains("not privileged"), "{health}");
    let collectors = rows(monitor.site(), "SELECT limitations FROM system.collectors");
    assert!(collectors[0]["limitations"].to_string().contains("other users'"), "{collectors:?}");
    assert!(monitor.log().contains("not root"), "{}", monitor.log());
    assert!(matches!(ask(monitor.site(), &["alerts", "list"]).exit, 0 | 3));
    monitor.stop().unwrap();
}
