//! A steady stream of events into a store that removes what is too much, and its memory each minute.

use crate::memory;
use bench::Host;
use daemoneye_lib::models::time;
use daemoneye_lib::storage::{Keep, Store};
use std::time::{Duration, Instant};

/// Commits in a second.
const COMMITS: u64 = 10;
/// What the store may hold: the stream passes it after some minutes.
const MAX_BYTES: u64 = 64 << 20;

pub(crate) fn run(rate: u64, minutes: u64) {
    let dir = tempfile::Builder::new().prefix("daemoneye-soak-").tempdir_in("/tmp").unwrap();
    let (store, _) = Store::open(&dir.path().join("events.redb")).unwrap();
    let events = (rate / COMMITS).max(1);
    let mut host = Host::new(time::now_ns(), 1_000_000_000 / rate.max(1).cast_signed());
    let mut evaluated = 0;
    let began = Instant::now();
    println!("| minute | events | removed | behind, ms | file, MB | resident, MB | of it at most, MB |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    let (mut sent, mut removed) = (0, 0);
    for minute in 1..=minutes {
        for tick in 0..60 * COMMITS {
            let due = Duration::from_millis(((minute - 1) * 60 * COMMITS + tick) * 1_000 / COMMITS);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            host.set_now(time::now_ns());
            evaluated = store.append(&[host.batch(events)], evaluated).unwrap().next_row;
            sent += events;
        }
        let keep = Keep { bytes: Some(MAX_BYTES), ..Keep::default() };
        removed += store.prune(keep, false).unwrap().events;
        let behind = began.elapsed().saturating_sub(Duration::from_secs(minute * 60)).as_millis();
        let (now, most) = memory();
        let file = store.file_bytes().unwrap() as f64 / 1e6;
        println!("| {minute} | {sent} | {removed} | {behind} | {file:.0} | {now:.1} | {most:.1} |");
    }
}
