//! One event, and one request, followed by its name through the logs of the programs.

use crate::support::{FAST, PATIENCE, Sleeper, alerts_on, hidden_sleep, site, text};
use serde_json::Value;
use testkit::{Monitor, wait_for};

/// The events that were logged, in order; there is nothing between them, but the last may not be whole yet.
fn logged(log: &str) -> Vec<Value> {
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The first event of this module with this message for which more holds.
fn find(log: &[Value], target: &str, message: &str, more: impl Fn(&Value) -> bool) -> Option<Value> {
    let is_it =
        |event: &&Value| text(event, "target").starts_with(target) && text(event, "message") == message && more(event);
    log.iter().find(is_it).cloned()
}

/// Whether a batch, `collector/epoch/first-last`, holds an event, `epoch-sequence`.
fn holds(batch: &str, event: &str) -> bool {
    let (epoch, sequence) = event.split_once('-').unwrap();
    let parts: Vec<&str> = batch.split('/').collect();
    let (first, last) = parts[2].split_once('-').unwrap();
    let number = |text: &str| text.parse::<u64>().unwrap();
    parts[1] == epoch && (number(first)..=number(last)).contains(&number(sequence))
}

#[test]
fn an_event_is_followed_through_the_logs_of_both_programs() {
    let place = site().with_config(&format!("{FAST}log_level = \"debug\"\nlog_format = \"json\"\n")).unwrap();
    let monitor = Monitor::start(place).unwrap();
    let (_dir, program) = hidden_sleep();
    let _sleeper = Sleeper::of(&program);
    let alert = wait_for("an alert", PATIENCE, || alerts_on(monitor.site(), &program).pop());
    let (alert_id, event) = (text(&alert, "alert_id"), alert["event_ids"][0].as_str().unwrap().to_owned());

    let seen = |target: &str, message: &str, more: &dyn Fn(&Value) -> bool| {
        wait_for(message, PATIENCE, || find(&logged(&monitor.log()), target, message, more))
    };
    let published = seen("collector_core", "published", &|line| holds(text(line, "batch"), &event));
    let batch = text(&published, "batch").to_owned();
    seen("daemoneye_agent::collecting::ingest", "arrived", &|line| text(line, "batch") == batch);
    let in_batch = |line: &Value| text(&line["span"], "batches").split(' ').any(|name| name == batch);
    for message in ["committed", "evaluated"] {
        seen("daemoneye_agent::pipeline", message, &in_batch);
    }
    seen("daemoneye_agent::pipeline", "matched", &|line| in_batch(line) && text(line, "event") == event);
    let raised = seen("daemoneye_agent::pipeline", "alert", &|line| in_batch(line) && text(line, "event") == event);
    assert_eq!((text(&raised, "alert"), &raised["is_new"]), (alert_id, &Value::Bool(true)), "{raised}");
    seen("daemoneye_agent::pipeline", "delivering", &|line| {
        in_batch(line) && text(line, "alert") == alert_id && text(line, "sink") == "log"
    });
    seen("daemoneye_agent::pipeline", "delivery", &|line| {
        text(line, "alert") == alert_id && text(line, "sink") == "log" && text(line, "status") == "delivered"
    });
    let (epoch, sequence) = event.split_once('-').unwrap();
    seen("collector_core", "acknowledged", &|line| {
        text(line, "epoch") == epoch && line["through"].as_u64() >= sequence.parse().ok()
    });
}

#[test]
fn a_request_has_the_same_name_on_both_sides() {
    let place = site().with_config(&format!("{FAST}log_level = \"debug\"\nlog_format = \"json\"\n")).unwrap();
    let monitor = Monitor::start(place).unwrap();
    for (arguments, topic, exit) in [
        (&["query", "SELECT count(*) FROM system.rules_that_are_none"][..], "requests.query", 5),
        (&["query", "SELECT count(*) FROM detection.rules"], "requests.query", 0),
        (&["health"], "requests.health", 3),
        (&["metrics"], "requests.metrics", 0),
    ] {
        let output = monitor.cli(arguments).unwrap();
        assert_eq!(output.status, exit, "{output:?}");
        // The command line also tells the operator what was wrong.
        let log: String =
            output.stderr.lines().filter(|line| line.starts_with('{')).map(|line| format!("{line}\n")).collect();
        let asked = find(&logged(&log), "daemoneye_eventbus", "asked", |line| text(line, "topic") == topic);
        let asked = asked.unwrap_or_else(|| panic!("{output:?}"));
        let request = text(&asked, "request");
        assert_eq!(request.len(), 16, "{asked}");
        let message = if exit == 5 { "a query was refused" } else { "answered" };
        wait_for("the agent's side", PATIENCE, || {
            find(&logged(&monitor.log()), "daemoneye_agent", message, |line| {
                (text(&line["span"], "id"), text(&line["span"], "topic")) == (request, topic)
            })
        });
    }
}
