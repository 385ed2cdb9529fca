//! The life of rules while the agent runs: changed, broken, mended, switched off and on, on a schedule, tried on what is stored.

use crate::support::{FAST, PATIENCE, Sleeper, ask, health_of, query, rows, scans_go_by, text};
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;
use testkit::{Monitor, Site, wait_for};

fn rule(id: &str, more: &str, sql: &str) -> String {
    format!("id = \"{id}\"\ntitle = \"A test\"\nseverity = \"low\"\n{more}\nsql = \"\"\"\n{sql}\n\"\"\"\n")
}

const SLEEPS: &str = "SELECT process_key, pid, name FROM processes.events WHERE name = 'sleep' AND event_type = 'seen'";

fn site() -> Site {
    Site::new().unwrap().with_config(FAST).unwrap()
}

/// The row of a rule in the list.
fn listed(site: &Site, id: &str) -> Option<Value> {
    ask(site, &["rules", "list"]).rows.into_iter().find(|row| text(row, "rule_id") == id)
}

fn state(site: &Site, id: &str) -> String {
    listed(site, id).map(|row| text(&row, "state").to_owned()).unwrap_or_default()
}

/// The rules that raised an alert on this process.
fn raised_by(site: &Site, pid: u32) -> Vec<String> {
    let alerts = ask(site, &["alerts", "list"]).rows;
    let mut rules: Vec<String> = alerts
        .iter()
        .filter(|alert| alert["pid"] == json!(pid))
        .map(|alert| text(alert, "rule_id").to_owned())
        .collect();
    rules.sort();
    rules
}

#[test]
fn a_change_in_the_directory_is_in_force_within_seconds_and_a_broken_one_leaves_the_old_rule() {
    let place = site();
    place.write_rule("one", &rule("one", "", SLEEPS)).unwrap();
    let mut monitor = Monitor::start(place).unwrap();
    let site = monitor.site();
    let first = Sleeper::start();
    wait_for("the first alert", PATIENCE, || raised_by(site, first.pid()) == ["one"]);

    site.write_rule("two", &rule("two", "", SLEEPS)).unwrap();
    wait_for("the second rule", PATIENCE, || state(site, "two") == "healthy");
    let second = Sleeper::start();
    wait_for("both alerts", PATIENCE, || raised_by(site, second.pid()) == ["one", "two"]);
    assert_eq!(raised_by(site, first.pid()), ["one"], "what a rule did not see stays unseen");

    site.write_rule("two", &rule("two", "", "SELECT naem FROM processes.events")).unwrap();
    wait_for("the broken version", PATIENCE, || state(site, "two") == "unhealthy");
    let row = listed(site, "two").unwrap();
    assert!(text(&row, "reason").contains("no such column: naem"), "{row}");
    let (exit, health) = health_of(site, "rules");
    assert_eq!((exit, text(&health, "status")), (3, "degraded"), "{health}");
    assert!(text(&health, "detail").contains("stays in force"), "{health}");
    let third = Sleeper::start();
    wait_for("both alerts again", PATIENCE, || raised_by(site, third.pid()) == ["one", "two"]);

    let quiet = SLEEPS.replace("'sleep'", "'nothing'");
    site.write_rule("two", &rule("two", "", &quiet)).unwrap();
    wait_for("the mended version", PATIENCE, || {
        listed(site, "two").is_some_and(|row| text(&row, "sql").contains("nothing") && text(&row, "state") == "healthy")
    });
    fs::remove_dir_all(site.rules_dir().join("one")).unwrap();
    wait_for("the end of the first rule", PATIENCE, || listed(site, "one").is_none());
    let fourth = Sleeper::start();
    scans_go_by(&monitor, 3);
    assert_eq!(raised_by(site, fourth.pid()), [""; 0]);
    let log = monitor.log();
    for change in ["added", "kept", "changed", "removed"] {
        assert!(log.lines().any(|line| line.contains("rule_changed") && line.contains(change)), "{change}: {log}");
    }
    monitor.stop().unwrap();
}

#[test]
fn no_alert_is_lost_or_doubled_while_rules_are_replaced() {
    let place = site();
    place.write_rule("steady", &rule("steady", "dedup = [\"pid\"]", SLEEPS)).unwrap();
    let mut monitor = Monitor::start(place).unwrap();
    let site = monitor.site();
    let mut sleepers = Vec::new();
    for round in 0..8 {
        // The rule itself is another each time, in its description alone.
        let more = format!("dedup = [\"pid\"]\ndescription = \"{round}\"");
        site.write_rule("steady", &rule("steady", &more, SLEEPS)).unwrap();
        sleepers.extend([Sleeper::start(), Sleeper::start()]);
        std::thread::sleep(Duration::from_millis(300));
    }
    wait_for("the last version", PATIENCE, || {
        listed(site, "steady").is_some_and(|row| text(&row, "description") == "7")
    });
    wait_for("an alert on each", PATIENCE, || sleepers.iter().all(|one| !raised_by(site, one.pid()).is_empty()));
    for sleeper in &sleepers {
        assert_eq!(raised_by(site, sleeper.pid()), ["steady"]);
    }
    let counts = rows(site, "SELECT count, count(*) AS n FROM alerts GROUP BY count");
    assert_eq!(counts.len(), 1, "{counts:?}");
    assert_eq!(counts[0]["count"], json!(1));
    monitor.stop().unwrap();
}

#[test]
fn a_disabled_rule_stays_so_over_a_restart_and_says_so() {
    let place = site();
    place.write_rule("one", &rule("one", "", SLEEPS)).unwrap();
    place.write_rule("two", &rule("two", "", SLEEPS)).unwrap();
    let mut monitor = Monitor::start(place).unwrap();
    assert_eq!(monitor.cli(&["rules", "disable", "three"]).unwrap().status, 4);
    let disabled = monitor.cli(&["rules", "disable", "one"]).unwrap();
    assert_eq!((disabled.status, disabled.stderr.as_str()), (0, "the rule one is disabled\n"));
    assert_eq!(monitor.cli(&["rules", "disable", "one"]).unwrap().stderr, "the rule one is already disabled\n");
    monitor.stop().unwrap();
    monitor.restart().unwrap();

    let site = monitor.site();
    assert_eq!(state(site, "one"), "disabled");
    let (_, health) = health_of(site, "rules");
    assert_eq!(text(&health, "status"), "ok", "{health}");
    assert!(text(&health, "detail").contains("1 disabled"), "{health}");
    let sleeper = Sleeper::start();
    wait_for("an alert of the other", PATIENCE, || raised_by(site, sleeper.pid()) == ["two"]);
    let shown = ask(site, &["rules", "show", "one"]);
    assert_eq!((shown.rows.len(), &shown.rows[0]["enabled"]), (1, &json!(false)));
    assert_eq!(ask(site, &["rules", "show", "three"]).exit, 4);

    assert_eq!(monitor.cli(&["rules", "enable", "one"]).unwrap().status, 0);
    assert_eq!(state(site, "one"), "healthy");
    let sleeper = Sleeper::start();
    wait_for("an alert of both", PATIENCE, || raised_by(site, sleeper.pid()) == ["one", "two"]);
    let log = monitor.log();
    assert!(log.lines().any(|line| line.contains("rule_changed by an operator") && line.contains("one")), "{log}");
    monitor.stop().unwrap();
}

#[test]
fn a_rule_with_a_window_counts_and_one_of_mode_diff_tells_only_what_is_new() {
    let place = site();
    // Other tests sleep, too.
    let program = place.root().join("sleep");
    fs::copy("/bin/sleep", &program).unwrap();
    let ours = format!("executable_path = '{}'", program.display());
    let counting = format!(
        "SELECT name, count(DISTINCT process_key) AS n FROM processes.events WHERE {ours} AND event_type = 'seen' \
         GROUP BY name HAVING count(DISTINCT process_key) >= 3"
    );
    let head = "window = \"10m\"\nevery = \"1s\"\ndedup = [\"name\"]";
    place.write_rule("counting", &rule("counting", head, &counting)).unwrap();
    let new = format!("SELECT process_key, pid, name FROM processes WHERE {ours} AND end_time IS NULL");
    let head = "window = \"10m\"\nevery = \"1s\"\nmode = \"diff\"\ndedup = [\"process_key\"]";
    place.write_rule("new", &rule("new", head, &new)).unwrap();
    let before = Sleeper::of(&program);
    let mut monitor = Monitor::start(place).unwrap();
    let ran = |monitor: &Monitor, id: &str| {
        listed(monitor.site(), id).and_then(|row| row["evaluations"].as_u64()).unwrap_or_default()
    };
    let seen = |monitor: &Monitor, key: &str| {
        !rows(monitor.site(), &format!("SELECT pid FROM processes WHERE process_key = '{key}'")).is_empty()
    };
    wait_for("the first process to be stored", PATIENCE, || seen(&monitor, &before.key));
    let runs = ran(&monitor, "new");
    wait_for("some runs since", PATIENCE, || ran(&monitor, "new") > runs + 2);
    let told_at_first = raised_by(monitor.site(), before.pid());
    assert!(!told_at_first.contains(&"counting".to_owned()), "one is not three");

    let (second, third) = (Sleeper::of(&program), Sleeper::of(&program));
    wait_for("the new ones", PATIENCE, || {
        [&second, &third].into_iter().all(|one| raised_by(monitor.site(), one.pid()).contains(&"new".to_owned()))
    });
    assert_eq!(raised_by(monitor.site(), before.pid()), told_at_first, "what is known is not told again");
    let alert =
        wait_for("the count", PATIENCE, || ask(monitor.site(), &["alerts", "list", "--rule", "counting"]).rows.pop());
    assert_eq!((text(&alert, "name"), &alert["row"]["name"]), ("sleep", &json!("sleep")));
    assert!(alert["row"]["n"].as_u64().unwrap() >= 3, "{alert}");
    let row = listed(monitor.site(), "new").unwrap();
    assert_eq!((&row["window_s"], &row["every_s"], text(&row, "mode")), (&json!(600), &json!(1), "diff"));

    let alerts = |monitor: &Monitor| ask(monitor.site(), &["alerts", "list", "--rule", "new"]).rows.len();
    let told = alerts(&monitor);
    let known = monitor.site().data_dir().join("agent/rules/new.known");
    wait_for("what was returned to be remembered", PATIENCE, || {
        // Magic, digest, number, rows, checksum.
        fs::metadata(&known).is_ok_and(|file| file.len() >= 8 + 32 + 4 + 3 * 16 + 32)
    });
    monitor.stop().unwrap();
    monitor.restart().unwrap();
    wait_for("two runs after the restart", PATIENCE, || ran(&monitor, "new") > 1);
    assert_eq!(alerts(&monitor), told, "a restart makes nothing new");
    let fourth = Sleeper::of(&program);
    wait_for("one more", PATIENCE, || raised_by(monitor.site(), fourth.pid()).contains(&"new".to_owned()));
    let runs = rows(monitor.site(), "SELECT DISTINCT rule_id FROM detection.runs ORDER BY rule_id");
    assert_eq!(runs, [json!({"rule_id": "counting"}), json!({"rule_id": "new"})]);
    monitor.stop().unwrap();
}

#[test]
fn more_rows_of_one_alert_than_it_lists_are_counted_once_also_over_a_restart() {
    let place = site();
    let six = "WITH d AS (SELECT 1 AS n UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 \
               UNION ALL SELECT 6) SELECT 'k' AS kind, a.n AS a, b.n AS b, c.n AS c FROM d a, d b, d c";
    let head =
        "window = \"7d\"\nevery = \"1s\"\ndedup = [\"kind\"]\nexceptions = [{ where = \"a = 1\", reason = \"x\" }]";
    place.write_rule("many", &rule("many", head, six)).unwrap();
    let mut monitor = Monitor::start(place).unwrap();
    let row = |monitor: &Monitor| listed(monitor.site(), "many").unwrap_or_default();
    let runs_go_by = |monitor: &Monitor| {
        let ran = || row(monitor)["evaluations"].as_u64().unwrap_or_default();
        let before = ran();
        wait_for("some runs", PATIENCE, || ran() > before + 2);
    };
    runs_go_by(&monitor);
    let count = |monitor: &Monitor| rows(monitor.site(), "SELECT count FROM alerts WHERE rule_id = 'many'");
    assert_eq!(count(&monitor), [json!({"count": 180})]);
    let shown = row(&monitor);
    let of = |column: &str| shown[column].as_u64().unwrap_or_default();
    assert_eq!((of("matches"), of("excepted")), (180 * of("evaluations"), 36 * of("evaluations")), "{shown}");
    monitor.stop().unwrap();
    monitor.restart().unwrap();
    runs_go_by(&monitor);
    assert_eq!(count(&monitor), [json!({"count": 180})], "a restart makes no occurrence");
    monitor.stop().unwrap();
}

#[test]
fn it_is_told_when_it_is_lost_which_rules_were_disabled() {
    let place = site();
    place.write_rule("one", &rule("one", "", SLEEPS)).unwrap();
    let mut monitor = Monitor::start(place).unwrap();
    assert_eq!(monitor.cli(&["rules", "disable", "one"]).unwrap().status, 0);
    monitor.stop().unwrap();
    fs::write(monitor.site().data_dir().join("agent/rules/disabled.json"), "{\"version\":1").unwrap();
    monitor.restart().unwrap();
    let site = monitor.site();
    assert_eq!(state(site, "one"), "healthy", "it runs");
    let (exit, health) = health_of(site, "rules");
    assert_eq!((exit, text(&health, "status")), (3, "degraded"), "{health}");
    assert!(text(&health, "detail").contains("which rules were disabled is lost, and all of them run"), "{health}");
    assert_eq!(monitor.cli(&["rules", "disable", "one"]).unwrap().status, 0);
    let (_, health) = health_of(site, "rules");
    assert!(!text(&health, "detail").contains("lost"), "{health}");
    monitor.stop().unwrap();
}

#[test]
fn a_rule_is_tried_on_what_is_stored_before_it_is_in_force() {
    let place = site();
    place.write_rule("none", &rule("none", "", &SLEEPS.replace("'sleep'", "'nothing'"))).unwrap();
    let mut monitor = Monitor::start(place).unwrap();
    let site = monitor.site();
    let sleeper = Sleeper::start();
    let stored = format!("SELECT pid FROM processes.events WHERE process_key = '{}'", sleeper.key);
    wait_for("the process to be stored", PATIENCE, || !rows(site, &stored).is_empty());

    let draft = site.root().join("draft");
    fs::create_dir(&draft).unwrap();
    fs::write(draft.join("lists.toml"), "idle = ['sleep']\n").unwrap();
    let sql = SLEEPS.replace("= 'sleep'", "IN (@idle)");
    fs::write(draft.join("rule.toml"), rule("draft", "", &sql)).unwrap();
    let draft = draft.display().to_string();
    let tried = ask(site, &["rules", "test", &draft, "--history", "1h"]);
    assert!(tried.rows.iter().any(|alert| alert["pid"] == json!(sleeper.pid())), "{tried:?}");
    assert_eq!(tried.exit, 3, "polling is never complete: {tried:?}");
    let alerts = tried.rows.len();
    assert!(tried.stderr.contains(&format!("{alerts} alerts (")) && tried.stderr.contains(" µs a row"), "{tried:?}");
    let days = ask(site, &["rules", "test", &draft, "--history", "1h", "--by-day"]);
    let sum: u64 = days.rows.iter().filter_map(|day| day["alerts"].as_u64()).sum();
    assert!(sum >= alerts as u64, "{days:?}");
    assert_eq!(raised_by(site, sleeper.pid()), [""; 0], "nothing was raised by trying");

    assert_eq!(ask(site, &["rules", "test", "none", "--history", "1h"]).rows, Vec::<Value>::new());
    let unknown = ask(site, &["rules", "test", "no-such-rule", "--history", "1h"]);
    assert_eq!(unknown.exit, 4, "{unknown:?}");
    let counting = "SELECT count(*) AS n FROM processes.events HAVING count(*) > 0";
    let head = "window = \"1h\"\nevery = \"10m\"\ndedup = [\"n\"]";
    fs::write(site.root().join("counting.toml"), rule("counting", head, counting)).unwrap();
    let counting = site.root().join("counting.toml").display().to_string();
    let tried = ask(site, &["rules", "test", &counting, "--history", "1h"]);
    assert_eq!(tried.rows.len(), 1, "{tried:?}");
    assert!(tried.stderr.contains(" in 1 evaluations"), "{tried:?}");
    fs::write(site.root().join("counting.toml"), rule("counting", "", "SELECT naem FROM processes")).unwrap();
    let refused = ask(site, &["rules", "test", &counting, "--history", "1h"]);
    assert!(refused.exit == 5 && refused.stderr.contains("no such column: naem"), "{refused:?}");
    monitor.stop().unwrap();
}

#[test]
fn what_a_query_would_read_is_told_without_reading_it() {
    let mut monitor = Monitor::start(site()).unwrap();
    let sql =
        "SELECT name, count(*) FROM processes.events WHERE event_time > '2026-01-01' AND name = 'sh' GROUP BY name";
    let told = ask(monitor.site(), &["explain", sql]);
    assert_eq!(told.exit, 0, "{told:?}");
    let read = &told.rows[0];
    assert_eq!((text(read, "step"), text(read, "table_name")), ("read", "processes.events"), "{told:?}");
    let mut columns: Vec<&str> = read["columns"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    columns.sort_unstable();
    assert_eq!(columns, ["event_time", "name"], "only these: {told:?}");
    assert!(read["pushed_down"][0].as_str().unwrap().contains("event_time"), "{told:?}");
    assert_eq!(text(read, "from_time"), "2026-01-01T00:00:00.000000Z");
    assert!(read["blocks"].is_u64() && read["blocks_read"].as_u64() <= read["blocks"].as_u64(), "{told:?}");
    assert!(read["rows_at_most"].as_u64().unwrap() >= 1, "this test at least was seen: {told:?}");
    assert!(told.rows[1..].iter().all(|row| text(row, "step") == "plan"), "{told:?}");
    assert!(told.rows[1..].iter().any(|row| text(row, "detail").contains("Aggregate")), "{told:?}");
    assert_eq!(ask(monitor.site(), &["explain", "DELETE FROM processes"]).exit, 5);
    // Nobody waits longer for a plan than for an answer.
    let many: Vec<String> = (0..400).map(|number| format!("command_line LIKE '%{number}%'")).collect();
    let many = format!("SELECT pid FROM processes WHERE {}", many.join(" OR "));
    let late = ask(monitor.site(), &["query", "--timeout", "1ms", &many]);
    assert!(late.exit == 1 && late.stderr.contains("could not be planned within 0.001 s"), "{late:?}");
    assert!(query(monitor.site(), &many).rows.len() < 10_000, "given its time, it is answered");
    monitor.stop().unwrap();
}
