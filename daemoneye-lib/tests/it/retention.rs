//! What is too old or too much goes, nothing else does, and what went is remembered.

use crate::fixture::{MIDNIGHT, MINUTE, Take as _, arrived, current, event, ids, item, process, scan, seen, store};
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::event::Epoch;
use daemoneye_lib::proto::common::{Alert, EventType};
use daemoneye_lib::proto::ipc::{Gap, collected_item::Item};
use daemoneye_lib::storage::{Extent, Keep, Removed, Store};

const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// So many events, one a minute, of processes that live half a minute.
fn filled(minutes: u32) -> (tempfile::TempDir, Store) {
    let (directory, store) = store();
    let mut first = 1;
    for chunk in (0..minutes).collect::<Vec<_>>().chunks(5_000) {
        let items: Vec<_> = chunk
            .iter()
            .flat_map(|number| {
                let at = MIDNIGHT + i64::from(*number) * MINUTE;
                let mut record = process(*number + 1, "x");
                record.start_time = Some(at);
                record.command_line = Some(format!("x {}", number.wrapping_mul(2_654_435_761)));
                let mut end = record.clone();
                end.end_time = Some(at + MINUTE / 2);
                [seen(at, record), item(Item::Process(event(EventType::Exit, at + MINUTE / 2, end)))]
            })
            .collect();
        let count = items.len() as u64;
        let appended = store.take(&[arrived(1, first, items)], 0).unwrap();
        store.commit_alerts(&[], &[], appended.next_row).unwrap();
        first += count;
    }
    (directory, store)
}

fn rows(store: &Store) -> (u64, u64) {
    let snapshot = store.snapshot().unwrap();
    (ids(&snapshot).len() as u64, current(&snapshot, "pid").len() as u64)
}

#[test]
fn what_is_too_old_goes_to_the_block_and_the_rest_stays() {
    let minutes = 20_000;
    let (_directory, store) = filled(minutes);
    assert_eq!(rows(&store), (40_000, 20_000));
    let since = MIDNIGHT + 7 * DAY;
    let keep = Keep { since: Some(since), ..Keep::default() };
    let would = store.prune(keep, true).unwrap();
    assert_eq!(rows(&store), (40_000, 20_000), "a dry run removes nothing");
    assert_eq!(store.snapshot().unwrap().removed_until(Table::ProcessEvents).unwrap(), None);

    let removed = store.prune(keep, false).unwrap();
    assert_eq!(removed, would);
    let (events, processes) = rows(&store);
    assert_eq!((events + removed.events, processes + removed.processes), (40_000, 20_000));
    // Two events a minute; a block has two thousand, and only whole ones go.
    let old = 2 * 7 * 24 * 60;
    assert!((old - 2_250..=old).contains(&removed.events), "{removed:?}");
    let until = store.snapshot().unwrap().removed_until(Table::ProcessEvents).unwrap();
    assert!(until.is_some_and(|until| until < since && until > since - 2 * DAY), "{until:?}");
    let verified = store.snapshot().unwrap().verify(Extent::All).unwrap();
    assert_eq!(verified.problems, Vec::<String>::new());
    assert!(store.prune(keep, false).unwrap().is_nothing(), "a second time nothing is left to do");

    let everything = Keep { since: Some(i64::MAX), ..Keep::default() };
    store.prune(everything, false).unwrap();
    assert_eq!(rows(&store), (0, 0));
    // What comes again is still known, and what comes next is taken.
    let again = store.take(&[arrived(1, 1, vec![seen(MIDNIGHT, process(1, "x"))])], 0).unwrap();
    assert_eq!((again.events.len(), again.duplicates), (0, 1));
    let next = seen(MIDNIGHT, process(1, "x"));
    assert_eq!(store.take(&[arrived(1, 40_001, vec![next])], 0).unwrap().events.len(), 1);
}

#[test]
fn rows_that_the_rules_have_not_seen_stay() {
    let (_directory, store) = store();
    let items = (0..600).map(|at| seen(MIDNIGHT + at, process(1, "x"))).collect();
    store.take(&[arrived(1, 1, items)], 0).unwrap();
    let everything = Keep { since: Some(i64::MAX), ..Keep::default() };
    assert_eq!(store.prune(everything, false).unwrap(), Removed::default());
    store.commit_alerts(&[], &[], 300).unwrap();
    assert_eq!(store.prune(everything, false).unwrap().events, 250, "a run is removed whole");
    assert_eq!(store.snapshot().unwrap().unevaluated(usize::MAX).unwrap().0.len(), 300);
}

#[test]
fn a_store_that_holds_too_much_loses_its_oldest_partitions() {
    let (_directory, store) = filled(60_000);
    let bytes = |store: &Store| store.snapshot().unwrap().sizes().unwrap().iter().map(|size| size.bytes).sum::<u64>();
    let before = bytes(&store);
    let most = before / 2;
    let keep = Keep { bytes: Some(most), ..Keep::default() };
    let removed = store.prune(keep, false).unwrap();
    assert!(removed.events > 0 && removed.processes > 0, "{removed:?}");
    assert!(bytes(&store) <= most, "{} of {before}", bytes(&store));
    let left = ids(&store.snapshot().unwrap());
    assert_eq!(left.last().unwrap(), &format!("{}-120000", Epoch([1; 16])), "the newest stay");
    assert_eq!(left.len() as u64, 120_000 - removed.events);
    // The file does not grow again: what is free is used.
    let file = store.file_bytes().unwrap();
    let items = (0..2_000).map(|at| seen(MIDNIGHT + 60 * DAY + at, process(1, "x"))).collect();
    store.take(&[arrived(1, 120_001, items)], u64::MAX >> 1).unwrap();
    assert!(store.file_bytes().unwrap() <= file);
}

#[test]
fn old_scans_closed_gaps_and_alerts_go_and_open_gaps_stay() {
    let (_directory, store) = store();
    store.take(&[arrived(1, 1, vec![scan(1, MIDNIGHT, false), scan(2, MIDNIGHT + DAY, false)])], 0).unwrap();
    let gap = |from: i64, to| Gap { kind: "x".into(), from, to, ..Gap::default() };
    for (collector, to) in [("a", Some(MIDNIGHT)), ("b", None), ("c", Some(MIDNIGHT + DAY))] {
        store.open_gap(collector, gap(MIDNIGHT - DAY, to)).unwrap();
    }
    let alert = |id: &str, last_seen| Alert {
        alert_id: id.into(),
        rule_id: "r".into(),
        dedup_key: id.into(),
        last_seen,
        ..Alert::default()
    };
    store.commit_alerts(&[alert("old", MIDNIGHT), alert("new", MIDNIGHT + DAY)], &[], 0).unwrap();
    let since = Some(MIDNIGHT + HOUR);
    let removed = store.prune(Keep { since, alerts_since: since, bytes: None }, false).unwrap();
    assert_eq!((removed.scans, removed.gaps, removed.alerts), (1, 1, 1), "{removed:?}");
    assert_eq!(store.latest_alert("r", "old").unwrap(), None);
    assert!(store.latest_alert("r", "new").unwrap().is_some());
    let left: Vec<_> = store.snapshot().unwrap().gaps().unwrap().into_iter().map(|row| row.collector).collect();
    assert_eq!(left, ["b", "c"]);
    assert_eq!(store.snapshot().unwrap().removed_until(Table::Alerts).unwrap(), Some(MIDNIGHT));
    assert_eq!(store.snapshot().unwrap().removed_until(Table::ProcessEvents).unwrap(), None);
}

#[test]
fn a_collector_with_ever_new_epochs_is_remembered_by_its_newest() {
    let (_directory, store) = store();
    for epoch in 0..80 {
        store.take(&[arrived(epoch, 1, vec![seen(MIDNIGHT, process(1, "x"))])], 0).unwrap();
    }
    let mut known: Vec<_> =
        store.snapshot().unwrap().committed("procmond").unwrap().iter().map(|(epoch, _)| epoch.0[0]).collect();
    known.sort_unstable();
    assert_eq!(known, (16..80).collect::<Vec<_>>());
}
