//! Two hundred times `kill -9`, of procmond, of the agent, of both, at any moment of their lives.
//!
//! The witness outside is what procmond writes on standard error before it trims its spool: `acknowledged epoch=…
//! through=…`. Everything up to there is the agent's word, and is compared with what the store holds in the end, when
//! nobody collects any more. What a sequence number stood for cannot be told from outside, so events are compared one by
//! one and the others (scans, gaps) by their number: what is left of the acknowledged sequence numbers.

use crate::support::{
    Answer, HIDDEN, PATIENCE, Random, Sleeper, alerts_on, ask, hidden_sleep, number, rows, site, text,
};
use daemoneye_lib::lock::DataDirLock;
use daemoneye_lib::models::time::{now_ns, sql_text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;
use testkit::{Monitor, kill9, wait_for};

const KILLS: usize = 200;
/// Set to a seed that a failure printed, to kill in the same order.
const SEED: &str = "DAEMONEYE_KILL_SEED";
const CONFIG: &str = "[app]\nscan_interval_ms = 100\nmax_scan_cpu = 50.0\nlog_level = \"debug\"\n\
                      [agent]\nmax_restarts_per_minute = 60\n\
                      [procmond]\nsnapshot_interval_ms = 0\n";

#[test]
fn what_was_acknowledged_is_stored_once_and_every_hole_is_told() {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(now_ns() as u64);
    say(&format!("{SEED}={seed}"));
    let mut random = Random(seed);
    let mut monitor = Monitor::start(site().with_config(CONFIG).unwrap()).unwrap();
    // Before procmond remembers anything, its end is the end of nothing.
    let known = monitor.site().data_dir().join("procmond/known.bin");
    wait_for("procmond's first memory", PATIENCE, || known.exists());

    let (_dir, hidden) = hidden_sleep();
    let stop = AtomicBool::new(false);
    let (downs, witnesses) = thread::scope(|scope| {
        let load = scope.spawn(|| load(&hidden, &stop));
        let downs = kill_at_random(&mut monitor, &mut random);
        stop.store(true, Ordering::Relaxed);
        (downs, load.join().unwrap())
    });
    let log = quiesce(&mut monitor);

    // Nobody collects from here on: what is in the store stays as it is.
    let _lock = DataDirLock::acquire(&monitor.site().data_dir().join("procmond")).unwrap();
    monitor.respawn().unwrap();
    let site = monitor.site();
    wait_for("the last agent", PATIENCE, || site.cli(&["health"]).unwrap().status != 69);
    let store = Stored::read(&monitor);
    store.equals(&acknowledged(&log));
    for down in &downs {
        assert!(store.has_hole(down), "no row of system.gaps for the kill {down:?}: {:?}", store.holes);
    }
    for down in downs.iter().step_by(10) {
        let degraded = events_of(&monitor, down);
        assert!(
            degraded.exit == 3 && degraded.reasons.iter().any(|why| why.starts_with("collector_down: ")),
            "{degraded:?}"
        );
    }
    let living: BTreeSet<String> = rows(site, "SELECT process_key FROM processes WHERE end_time IS NULL")
        .iter()
        .map(|row| text(row, "process_key").to_owned())
        .collect();
    for witness in &witnesses {
        assert!(living.contains(&witness.key), "process {} was never seen", witness.pid());
    }
    one_alert_for_all(&monitor, &hidden);
    say(&format!("{} procmonds killed, {} processes watched", downs.len(), witnesses.len()));
}

#[expect(clippy::print_stderr, reason = "a failure can only be repeated with it")]
fn say(what: &str) {
    eprintln!("kills: {what}");
}

/// The stretch, in nanoseconds since 1970, in which a procmond was killed.
#[derive(Debug, Clone, Copy)]
struct Down {
    from: i64,
    to: i64,
}

/// Kills [`KILLS`] times, and starts a new agent after each end of one.
fn kill_at_random(monitor: &mut Monitor, random: &mut Random) -> Vec<Down> {
    let (mut kills, mut downs) = (0, Vec::new());
    while kills < KILLS {
        // Half of them within a start, half of them in the steady state.
        let pause = if random.below(2) == 0 { random.below(150) } else { 150 + random.below(500) };
        sleep(Duration::from_millis(pause));
        let who = random.below(3);
        let procmond = monitor.procmond_pid().filter(|_| who != 1);
        let from = now_ns();
        if let Some(pid) = procmond
            && kill9(pid).is_ok()
        {
            downs.push(Down { from, to: now_ns() });
        } else if who == 0 {
            continue;
        }
        if who != 0 {
            monitor.kill().unwrap();
            monitor.respawn().unwrap();
        }
        kills += 1;
    }
    downs
}

/// Starts short processes at a steady rate, and now and then one that lives to the end.
fn load(hidden: &Path, stop: &AtomicBool) -> Vec<Sleeper> {
    let (mut long, mut short): (Vec<Sleeper>, Vec<Child>) = (Vec::new(), Vec::new());
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match turn % 20 {
            0 => long.push(Sleeper::start()),
            10 => short.push(Command::new(hidden).arg("1").spawn().unwrap()),
            even if even % 2 == 0 => short.push(Command::new("sleep").arg("0.4").spawn().unwrap()),
            _ => short.push(Command::new("sleep").arg("0.02").spawn().unwrap()),
        }
        short.retain_mut(|process| process.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(50));
    }
    for mut process in short {
        process.wait().unwrap();
    }
    long
}

/// Lets everything come to rest: nothing is left in the spool, and nobody of us runs. Returns the log.
fn quiesce(monitor: &mut Monitor) -> String {
    for _ in 0..5 {
        monitor.wait_until_ready().unwrap();
        let attached = "SELECT count(*) FROM system.collectors WHERE state = 'attached' AND spool_items < 20";
        wait_for("the collector to have caught up", PATIENCE, || number(monitor.site(), attached) == 1);
        monitor.stop().unwrap();
        let log = monitor.log();
        let last = log.lines().rev().find(|line| line.contains("unacknowledged="));
        if last.is_some_and(|line| line.ends_with("unacknowledged=0")) {
            return log;
        }
        monitor.respawn().unwrap();
    }
    panic!("procmond never ended with everything acknowledged:\n{}", monitor.log());
}

/// Through which sequence number each epoch was acknowledged.
fn acknowledged(log: &str) -> BTreeMap<String, u64> {
    let mut through = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("collector_core") && line.contains("acknowledged epoch=")) {
        let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        let (Some(epoch), Some(sequence)) =
            (field("epoch="), field("through=").and_then(|text| text.parse::<u64>().ok()))
        else {
            // Its writer was killed within it.
            continue;
        };
        let known = through.entry(epoch.to_owned()).or_insert(0);
        *known = sequence.max(*known);
    }
    assert!(!through.is_empty(), "procmond's log says nothing of acknowledgements");
    through
}

/// What the store holds in the end.
struct Stored {
    /// Epoch and sequence of each event.
    events: BTreeSet<(String, u64)>,
    /// Scans and gaps that procmond told: items that are no events.
    others: u64,
    /// Items that are known to be lost.
    lost: u64,
    holes: Vec<(i64, i64)>,
}

impl Stored {
    fn read(monitor: &Monitor) -> Self {
        let site = monitor.site();
        let ids = ask(site, &["query", "--max-rows", "1000000", "SELECT event_id FROM processes.events"]).rows;
        let events: BTreeSet<(String, u64)> = ids
            .iter()
            .map(|row| {
                let (epoch, sequence) = text(row, "event_id").split_once('-').unwrap();
                (epoch.to_owned(), sequence.parse().unwrap())
            })
            .collect();
        assert_eq!(events.len(), ids.len(), "an event is stored twice");
        let told = "SELECT count(*) FROM system.gaps WHERE gap_id > 0 \
                    AND kind NOT IN ('polling', 'spool_overflow', 'spool_replaced', 'undecodable')";
        assert_eq!(number(site, "SELECT count(*) FROM system.gaps WHERE kind = 'undecodable'"), 0);
        let others = number(site, "SELECT count(*) FROM system.scans") + number(site, told);
        let lost = number(site, "SELECT coalesce(sum(count), 0) FROM system.gaps WHERE kind = 'spool_overflow'");
        let holes =
            rows(site, "SELECT from_time, to_time FROM system.gaps WHERE gap_id > 0 AND kind = 'collector_down'");
        let time = |row: &Value, column| daemoneye_lib::models::time::parse(text(row, column)).unwrap();
        let holes = holes.iter().map(|row| (time(row, "from_time"), time(row, "to_time"))).collect();
        Self { events, others, lost, holes }
    }

    /// Everything that was acknowledged is here, and nothing else is.
    fn equals(&self, acknowledged: &BTreeMap<String, u64>) {
        let beyond: Vec<_> = self
            .events
            .iter()
            .filter(|(epoch, sequence)| acknowledged.get(epoch).is_none_or(|through| sequence > through))
            .collect();
        assert!(beyond.is_empty(), "stored and not acknowledged: {beyond:?}");
        let numbers: u64 = acknowledged.values().sum();
        let stored = self.events.len() as u64 + self.others + self.lost;
        say(&format!(
            "{numbers} items in {} epochs: {} events, {} scans and gaps, {} told as lost",
            acknowledged.len(),
            self.events.len(),
            self.others,
            self.lost
        ));
        assert_eq!(numbers, stored, "acknowledged and stored");
    }

    fn has_hole(&self, down: &Down) -> bool {
        // Times in answers are cut to microseconds.
        self.holes.iter().any(|(from, to)| *from <= down.to && to + 1_000 >= down.from)
    }
}

fn events_of(monitor: &Monitor, down: &Down) -> Answer {
    let sql = "SELECT event_id FROM processes.events WHERE event_time >= :from AND event_time <= :to";
    let (from, to) = (format!("from={}", sql_text(down.from)), format!("to={}", sql_text(down.to)));
    ask(monitor.site(), &["query", sql, "--param", &from, "--param", &to])
}

/// However often rows went through the rules again, each event was counted once.
fn one_alert_for_all(monitor: &Monitor, hidden: &Path) {
    let events = format!(
        "SELECT count(*) FROM processes.events WHERE executable_path = '{}' AND event_type IN ('seen', 'changed')",
        hidden.display()
    );
    let events = number(monitor.site(), &events);
    let alerts = alerts_on(monitor.site(), hidden);
    assert_eq!(alerts.len(), 1, "{HIDDEN}: {alerts:?}");
    assert_eq!(alerts[0]["count"].as_u64(), Some(events), "{alerts:?}");
}
