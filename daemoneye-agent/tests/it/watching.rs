//! Alerts on their way to people: shown as they come, and an output that is gone.

use crate::support::{HIDDEN, PATIENCE, Sleeper, alerts_on, health_of, hidden_sleep, site, text};
use serde_json::Value;
use std::fs;
use std::process::Stdio;
use testkit::{Child, Monitor, Signal, Site, wait_for};

fn watch(site: &Site, arguments: &[&str]) -> Child {
    let mut command = site.command("daemoneye-cli").unwrap();
    command.args(["alerts", "watch"]).args(arguments);
    let child = Child::spawn(command).unwrap();
    wait_for("it to watch", PATIENCE, || child.stderr().contains("alerts are shown as they come"));
    child
}

#[test]
fn alerts_are_shown_as_they_come_to_all_who_watch() {
    let mut monitor = Monitor::start(site()).unwrap();
    let site = monitor.site();
    let mut lines = watch(site, &["--format", "jsonl", "--severity", "high"]);
    let mut table = watch(site, &[]);
    let mut two = watch(site, &["--format", "csv", "--severity", "high", "--severity", "critical"]);
    let mut other = watch(site, &["--format", "jsonl", "--severity", "low"]);
    // One that takes nothing holds nobody up.
    let mut stuck = watch(site, &["--format", "jsonl"]);
    stuck.signal(Signal::STOP).unwrap();

    let (_dir, program) = hidden_sleep();
    // On a busy machine a scan may find one before it has become what it is to be.
    let sleepers = || [(); 3].map(|()| Sleeper::of(&program));
    let _first = sleepers();
    let path = program.display().to_string();
    wait_for("all who watch", PATIENCE, || [&lines, &table, &two].iter().all(|child| child.stdout().contains(&path)));
    let shown = lines.stdout();
    let shown: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let own = shown.iter().find(|alert| text(alert, "executable_path") == path).unwrap();
    assert_eq!(text(own, "rule_id"), HIDDEN);
    // A batch may hold several of them.
    assert!((1..=3).contains(&own["count"].as_u64().unwrap()), "{own}");
    let stored = alerts_on(site, &program);
    let stored = stored.iter().find(|alert| alert["alert_id"] == own["alert_id"]).unwrap();
    assert_eq!(own["pid"], stored["pid"]);
    let columns = |alert: &Value| alert.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(columns(own), columns(stored), "as `alerts list` has them");
    let printed = table.stdout();
    assert!(printed.lines().next().is_some_and(|line| line.starts_with("last_seen")), "{printed}");
    let line = printed.lines().find(|line| line.contains(text(own, "alert_id"))).unwrap();
    assert!(line.contains("high") && line.contains(text(own, "alert_id")), "{printed}");

    let told = lines.stdout().matches(&path).count();
    let _more = sleepers();
    wait_for("the next", PATIENCE, || lines.stdout().matches(&path).count() > told);
    assert_eq!(other.stdout(), "", "another severity");
    for child in [&mut lines, &mut table, &mut two, &mut other] {
        child.signal(Signal::INT).unwrap();
        assert!(child.wait_timeout(PATIENCE).unwrap().success(), "{}", child.stderr());
    }
    let document = site.cli(&["alerts", "watch", "--format", "json"]).unwrap();
    assert!(document.status == 2 && document.stderr.contains("use jsonl or csv"), "{document:?}");
    // The end of the agent is told.
    let mut left = watch(site, &["--format", "jsonl"]);
    stuck.signal(Signal::CONT).unwrap();
    stuck.signal(Signal::INT).unwrap();
    stuck.wait_timeout(PATIENCE).unwrap();
    monitor.stop().unwrap();
    assert_eq!(left.wait_timeout(PATIENCE).unwrap().code(), Some(1));
    assert!(left.stderr().contains("the agent ended the connection"), "{}", left.stderr());
}

#[test]
fn an_agent_whose_output_is_closed_goes_on_and_says_so() {
    let site = site();
    let mut command = site.agent().unwrap();
    let log = fs::File::create(site.root().join("stderr")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut agent = command.spawn().unwrap();
    drop(agent.stdout.take());
    wait_for("health", PATIENCE, || matches!(site.cli(&["health"]).unwrap().status, 0 | 3));
    let (_dir, program) = hidden_sleep();
    let sleepers = [(); 3].map(|()| Sleeper::of(&program));
    wait_for("an alert in the other sink", PATIENCE, || {
        fs::read_to_string(site.data_dir().join("alerts.jsonl"))
            .is_ok_and(|text| sleepers.iter().any(|sleeper| text.contains(&sleeper.key)))
    });
    let alerts = wait_for("the trouble to be known", PATIENCE, || {
        let (_, alerts) = health_of(&site, "alerts");
        (text(&alerts, "status") == "degraded").then_some(alerts)
    });
    assert!(text(&alerts, "detail").starts_with("the sink `console` does not take them: "), "{alerts}");
    assert!(!alerts_on(&site, &program).is_empty());
    assert!(agent.try_wait().unwrap().is_none(), "it ended");
    agent.kill().unwrap();
    agent.wait().unwrap();
}
