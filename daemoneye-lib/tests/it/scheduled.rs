//! Rules that look at a stretch of time.

use crate::fixture::{Fixed, MIDNIGHT, MINUTE, event, identified, process, queries, runtime};
use daemoneye_lib::alerting::{Generated, generate_alert};
use daemoneye_lib::detection::engine::CompiledRule;
use daemoneye_lib::detection::rules::{Mode, RuleProblem, load_text};
use daemoneye_lib::detection::scheduled::{Ran, told};
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::proto::common::{Alert, EventType};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn load(head: &str, sql: &str) -> Result<Arc<CompiledRule>, RuleProblem> {
    let text = format!("id = \"r\"\ntitle = \"T\"\nseverity = \"low\"\n{head}\nsql = \"\"\"\n{sql}\n\"\"\"\n");
    runtime().block_on(load_text(Path::new("r.toml"), &text, "shells = ['sh', 'bash']\n"))
}

/// Shells at the minutes 0 to 9, of the users 0 and 1 in turn, and one process of another kind.
fn source() -> Arc<Fixed> {
    let shells = (0..10).map(|minute| {
        let mut shell = process(100 + minute, if minute % 3 == 0 { "sh" } else { "bash" });
        shell.uid = Some(minute % 2);
        event(EventType::Exec, MIDNIGHT + i64::from(minute) * MINUTE, shell)
    });
    let other = event(EventType::Exec, MIDNIGHT, process(7, "nginx"));
    let events = identified(shells.chain([other]));
    let processes = events.iter().filter_map(|event| event.event.process().cloned()).collect();
    Arc::new(Fixed { events, processes, ..Fixed::default() })
}

fn run(rule: &CompiledRule, minute: i64) -> Ran {
    runtime().block_on(rule.run(&queries(), source(), MIDNIGHT + minute * MINUTE)).unwrap()
}

fn rows(ran: &Ran) -> Vec<String> {
    ran.matches.iter().map(|(found, _)| found.row.clone()).collect()
}

#[test]
fn only_the_events_of_the_window_are_seen_whatever_the_query_selects() {
    let count = load("window = \"5m\"\ndedup = [\"n\"]", "SELECT count(*) AS n FROM processes.events").unwrap();
    let schedule = count.schedule().unwrap();
    assert_eq!((schedule.every, schedule.mode), (Duration::from_secs(30), Mode::All));
    // Both ends belong to it, and nothing of what is after now.
    assert_eq!(rows(&run(&count, 5)), [r#"{"n":7}"#]);
    assert_eq!(rows(&run(&count, 7)), [r#"{"n":6}"#]);
    assert_eq!(rows(&run(&count, 60)), [r#"{"n":0}"#]);
    let ran = run(&count, 7);
    assert_eq!(
        (ran.rows, &ran.touched[..]),
        (6, &[(Table::ProcessEvents, MIDNIGHT + 2 * MINUTE, MIDNIGHT + 7 * MINUTE)][..])
    );
    let by_name = load(
        "window = \"3m\"",
        "SELECT process_key, pid, name FROM processes.events WHERE name IN (@shells) ORDER BY pid",
    )
    .unwrap();
    let ran = run(&by_name, 4);
    let pids: Vec<u32> = ran.matches.iter().map(|(found, _)| found.pid).collect();
    assert_eq!(pids, [101, 102, 103, 104]);
    assert_eq!(by_name.rule.dedup, ["process_key"]);
    assert_eq!(ran.matches[0].0.dedup_key, r#"["00000000000000000000000000000065"]"#);
}

#[test]
fn a_scheduled_rule_may_join_aggregate_and_read_any_table() {
    for sql in [
        "SELECT uid, count(DISTINCT pid) AS n FROM processes.events WHERE name IN (@shells) GROUP BY uid HAVING count(*) > 1",
        "WITH s AS (SELECT uid FROM processes WHERE name = 'sh') SELECT uid, count(*) AS n FROM s GROUP BY uid",
        "SELECT e.uid, p.name AS n FROM processes.events e JOIN processes p ON p.process_key = e.process_key WHERE e.pid = 100",
        "SELECT DISTINCT uid, 1 AS n FROM processes WHERE uid IN (SELECT uid FROM processes.events) ORDER BY uid LIMIT 5",
        "SELECT kind AS uid, count(*) AS n FROM system.gaps GROUP BY kind",
    ] {
        let rule = load("window = \"1h\"\ndedup = [\"uid\"]", sql).unwrap_or_else(|problem| panic!("{sql}: {problem}"));
        run(&rule, 30);
    }
}

#[test]
fn what_is_wrong_with_a_scheduled_rule_is_told() {
    for (head, sql, message, hint) in [
        ("window = \"1m\"", "SELECT count(*) FROM processes.events", "`dedup` is missing", "dedup = ["),
        (
            "window = \"1m\"\ndedup = [\"usr\"]",
            "SELECT user FROM processes.events",
            "`dedup` names `usr`",
            "did you mean `user`?",
        ),
        (
            "window = \"1m\"\ndedup = [\"pid\"]",
            "SELECT naem AS pid FROM processes.events",
            "no such column: naem",
            "`name`",
        ),
        ("window = \"1m\"", "DELETE FROM processes", "DELETE is not allowed", ""),
    ] {
        let problem = load(head, sql).err().unwrap();
        assert!(problem.message.contains(message), "{sql}: {problem:?}");
        assert!(problem.hint.clone().unwrap_or_default().contains(hint), "{sql}: {problem:?}");
        assert!(problem.line > 4, "{problem:?}");
    }
}

#[test]
fn exceptions_of_a_scheduled_rule_are_about_its_rows() {
    let head = |condition: &str| {
        format!("window = \"1h\"\ndedup = [\"uid\"]\nexceptions = [{{ where = \"{condition}\", reason = \"x\" }}]")
    };
    let sql = "SELECT uid, count(*) AS n FROM processes.events WHERE uid IS NOT NULL GROUP BY uid ORDER BY uid";
    let excepting = run(&load(&head("uid = 1"), sql).unwrap(), 30);
    assert_eq!((rows(&excepting), excepting.excepted), (vec![r#"{"uid":0,"n":5}"#.to_owned()], 1));
    let excepting = run(&load(&head("n > 5"), sql).unwrap(), 30);
    assert_eq!((rows(&excepting).len(), excepting.excepted), (2, 0));
    // One that is of no row's kind excepts none, and a row that two of them take out counts once.
    let several = "window = \"1h\"\ndedup = [\"uid\"]\nexceptions = [{ where = \"NULL\", reason = \"x\" }, \
                   { where = \"uid = 1 OR n = 0\", reason = \"x\" }, { where = \"n >= 5\", reason = \"x\" }]";
    let excepting = run(&load(several, sql).unwrap(), 30);
    assert_eq!((rows(&excepting).len(), excepting.excepted), (0, 2));
    let problem = load(&head("pid = 1"), sql).err().unwrap();
    assert!(problem.message.contains("no such column: pid"), "{problem:?}");
    // The place is that of the exception.
    assert_eq!(problem.line, 6, "{problem:?}");
}

#[test]
fn a_row_that_stays_is_one_occurrence_for_each_length_of_the_window() {
    let rule = load(
        "window = \"1h\"\ndedup = [\"uid\"]",
        "SELECT uid, count(*) AS n FROM processes WHERE uid = 1 GROUP BY uid",
    )
    .unwrap();
    let id = |minute: i64| run(&rule, minute).matches[0].0.event_id.clone();
    assert_eq!(id(0), id(59));
    assert_ne!(id(59), id(60));
    let named = load("window = \"1h\"", "SELECT event_id, process_key FROM processes.events WHERE pid = 100").unwrap();
    assert_eq!(run(&named, 5).matches[0].0.event_id, "e-1");
}

#[test]
fn only_what_was_not_there_before_is_added() {
    let rule =
        load("window = \"5m\"\nmode = \"diff\"", "SELECT process_key, pid FROM processes.events ORDER BY pid").unwrap();
    assert_eq!(rule.schedule().unwrap().mode, Mode::Diff);
    let first = told(Mode::Diff, run(&rule, 5).matches, None);
    assert_eq!((first.fresh.len(), first.known.len()), (0, 7), "the first run only learns");
    let second = told(Mode::Diff, run(&rule, 7).matches, Some(&first.known));
    assert_eq!(second.fresh.iter().map(|found| found.pid).collect::<Vec<_>>(), [106, 107]);
    let third = told(Mode::Diff, run(&rule, 7).matches, Some(&second.known));
    assert_eq!((third.fresh, third.found), (vec![], 0));
}

#[test]
fn an_occurrence_is_told_once_however_many_rows_one_alert_has() {
    let many = (0..150).map(|number| process(number, "sh"));
    let source = Arc::new(Fixed { processes: many.collect(), ..Fixed::default() });
    let rule = load("window = \"1h\"\nevery = \"1s\"\ndedup = [\"name\"]", "SELECT name, pid FROM processes").unwrap();
    let mut known = None;
    let mut alert: Option<Alert> = None;
    // Seconds of one length of the window, then the next.
    for (second, expected) in [(0, 150), (1, 150), (2, 150), (3_600, 300), (3_601, 300)] {
        let now = MIDNIGHT + second * 1_000_000_000;
        let ran = runtime().block_on(rule.run(&queries(), Arc::clone(&source) as Arc<_>, now)).unwrap();
        let run = told(Mode::All, ran.matches, known.as_ref());
        assert_eq!(run.found, 150, "the rule still finds them");
        for found in &run.fresh {
            alert = match generate_alert(&rule.rule, found, now, &[], alert.take()) {
                Generated::New(alert) | Generated::Again(alert) => Some(alert),
                Generated::Known => panic!("{found:?} was told twice"),
            };
        }
        known = Some(run.known);
        assert_eq!(alert.as_ref().map(|alert| alert.count), Some(expected), "after {second} s");
    }
}
