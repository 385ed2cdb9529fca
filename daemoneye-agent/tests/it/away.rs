//! The agent is away: its collector goes on into the spool, and comes back with everything, or ends when nobody comes.

use crate::support::{FAST, PATIENCE, Sleeper, number, procmond_scans, rows, scans_go_by, site, text};
use serde_json::json;
use testkit::{Monitor, wait_for};

const ROUNDS: usize = 10;
const A_ROUND: usize = 40;

#[test]
fn what_happens_while_the_agent_is_away_is_there_when_it_is_back() {
    let place = site().with_config(&format!("{FAST}log_level = \"debug\"\n")).unwrap();
    let mut monitor = Monitor::start(place).unwrap();
    let procmond = monitor.procmond_pid();
    monitor.kill().unwrap();
    let mut keys = Vec::new();
    for _ in 0..ROUNDS {
        let round: Vec<Sleeper> = std::iter::repeat_with(Sleeper::start).take(A_ROUND).collect();
        procmond_scans(&monitor, 1);
        keys.extend(round.iter().map(|sleeper| sleeper.key.clone()));
    }
    procmond_scans(&monitor, 1);
    monitor.restart().unwrap();
    assert_eq!(monitor.procmond_pid(), procmond, "the collector was not adopted");
    scans_go_by(&monitor, 1);

    let seen = |event: &str| -> Vec<String> {
        let sql = format!("SELECT process_key FROM processes.events WHERE event_type = '{event}'");
        rows(monitor.site(), &sql).iter().map(|row| text(row, "process_key").to_owned()).collect()
    };
    wait_for("every end to be told", PATIENCE, || {
        let ended = seen("exit");
        keys.iter().all(|key| ended.contains(key))
    });
    let (begun, ended) = (seen("seen"), seen("exit"));
    for key in &keys {
        let count = |told: &[String]| told.iter().filter(|told| *told == key).count();
        assert_eq!((count(&begun), count(&ended)), (1, 1), "{key}");
    }
    let kinds = rows(monitor.site(), "SELECT kind FROM system.gaps");
    assert_eq!(kinds, [json!({"kind": "polling"})], "nobody was blind");
    assert_eq!(number(monitor.site(), "SELECT count(*) - count(DISTINCT event_id) FROM processes.events"), 0);
    let collector = rows(monitor.site(), "SELECT restarts FROM system.collectors");
    assert_eq!(collector, [json!({"restarts": 0})]);
    monitor.stop().unwrap();
}

#[test]
fn a_collector_to_which_no_agent_comes_back_ends() {
    let place = site().with_config(&format!("{FAST}[collector]\norphan_timeout_s = 1\n")).unwrap();
    let mut monitor = Monitor::start(place).unwrap();
    monitor.kill().unwrap();
    wait_for("the orphan's end", PATIENCE, || monitor.procmond_pid().is_none());
    assert!(monitor.log().contains("no agent came back"), "{}", monitor.log());
    monitor.restart().unwrap();
    let gaps = rows(monitor.site(), "SELECT kind FROM system.gaps WHERE kind <> 'polling'");
    assert_eq!(gaps, [json!({"kind": "collector_down"})]);
}
