//! Work that has no end: it is cut where its time is over, ends with whoever asked for it, and holds nobody up.

use crate::support::{FAST, PATIENCE, ask, number, site};
use std::fs;
use testkit::{Child, Monitor, Signal, Site, wait_for};

/// More rows than there are seconds.
const ENDLESS: &str = "SELECT count(*) AS n FROM processes.events a, processes.events b, processes.events c, processes.events d, \
                       processes.events e, processes.events f, processes.events g";

fn running(site: &Site) -> String {
    let metrics = site.cli(&["metrics"]).unwrap().stdout;
    metrics.lines().find_map(|line| line.strip_prefix("daemoneye_queries_running ")).unwrap_or_default().to_owned()
}

#[test]
fn a_query_that_takes_too_long_is_cut_short_and_says_so() {
    let mut monitor = Monitor::start(site()).unwrap();
    let cut = ask(monitor.site(), &["query", "--timeout", "500ms", ENDLESS]);
    assert_eq!(cut.exit, 3, "{cut:?}");
    let why = "time_limit: the query was cut short after 0.5 s";
    assert!(cut.reasons.iter().any(|reason| reason == why), "{cut:?}");
    wait_for("the end of its work", PATIENCE, || running(monitor.site()) == "0");
    let gaps = ask(monitor.site(), &["query", "SELECT collector, count FROM system.gaps WHERE kind = 'query_limit'"]);
    assert_eq!((&gaps.rows[0]["collector"], &gaps.rows[0]["count"]), (&"agent".into(), &1.into()), "{gaps:?}");
    assert!(!gaps.reasons.iter().any(|reason| reason.contains("query_limit")), "it concerns no other answer: {gaps:?}");
    monitor.stop().unwrap();
}

#[test]
fn a_query_ends_with_whoever_asked_it() {
    let patient = format!("{FAST}[agent]\nquery_timeout_ms = 3600000\n");
    let mut monitor = Monitor::start(Site::new().unwrap().with_config(&patient).unwrap()).unwrap();
    let site = monitor.site();
    let ask_for_ever = || {
        let mut command = site.command("daemoneye-cli").unwrap();
        command.args(["query", ENDLESS]);
        Child::spawn(command).unwrap()
    };
    // As many as run at once: they leave the others their time, and the next its place.
    let mut asking: Vec<Child> = (0..4).map(|_| ask_for_ever()).collect();
    wait_for("all to run", PATIENCE, || running(site) == "4");
    assert_eq!(ask(site, &["health"]).exit, 3, "health is told meanwhile");
    for child in &mut asking {
        child.signal(Signal::TERM).unwrap();
        child.wait_timeout(PATIENCE).unwrap();
    }
    wait_for("the end of their work", PATIENCE, || running(site) == "0");
    assert!(number(site, "SELECT count(*) FROM processes") > 0);
    monitor.stop().unwrap();
}

#[test]
fn a_trial_has_the_time_of_a_query_and_leaves_its_place_to_the_next() {
    let mut monitor = Monitor::start(site()).unwrap();
    let site = monitor.site();
    let head = "id = \"endless\"\ntitle = \"T\"\nseverity = \"low\"\nwindow = \"1h\"\ndedup = [\"n\"]\n";
    let file = site.root().join("endless.toml");
    fs::write(&file, format!("{head}sql = \"{ENDLESS}\"\n")).unwrap();
    let file = file.display().to_string();
    // The limit is that of the configuration in force, not that of the start.
    fs::write(site.config_file(), format!("{FAST}[agent]\nquery_timeout_ms = 700\n")).unwrap();
    monitor.agent().signal(Signal::HUP).unwrap();
    wait_for("the new limit", PATIENCE, || monitor.log().contains("the configuration was read anew"));
    let site = monitor.site();
    for _ in 0..2 {
        let cut = ask(site, &["rules", "test", &file, "--history", "1h"]);
        assert_eq!(cut.exit, 3, "{cut:?}");
        let why = "time_limit: the trial was cut short after 0.7 s";
        assert!(cut.reasons.iter().any(|reason| reason.starts_with(why)), "{cut:?}");
    }
    // One that takes long to be planned is no reason to wait either.
    let many: Vec<String> = (0..1_500).map(|number| format!("command_line LIKE '%{number}%'")).collect();
    let slow = site.root().join("slow.toml");
    let head = head.replace("endless", "slow").replace("\"n\"", "\"pid\"");
    fs::write(&slow, format!("{head}sql = \"SELECT pid FROM processes WHERE {}\"\n", many.join(" OR "))).unwrap();
    fs::write(site.config_file(), format!("{FAST}[agent]\nquery_timeout_ms = 100\n")).unwrap();
    monitor.agent().signal(Signal::HUP).unwrap();
    let site = monitor.site();
    wait_for("a trial that is not planned in time", PATIENCE, || {
        let late = ask(site, &["rules", "test", &slow.display().to_string(), "--history", "1h"]);
        late.exit == 1 && late.stderr.contains("the rule could not be planned within 0.1 s")
    });
    monitor.stop().unwrap();
}
