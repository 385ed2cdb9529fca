//! Exactly once, in order, and every hole a gap.

use crate::fixture::{COLLECTOR, MIDNIGHT, MINUTE, Take as _, arrived, ids, item, process, scan, seen, store};
use daemoneye_lib::models::event::{Epoch, event_id};
use daemoneye_lib::proto::ipc::Gap;
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::storage::{Arrived, Store};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn items(from: u64, count: u64) -> Vec<Vec<u8>> {
    (from..from + count).map(|number| seen(MIDNIGHT + i64::try_from(number).unwrap(), process(1, "x"))).collect()
}

fn batch(epoch: u8, from: u64, count: u64) -> Arrived {
    arrived(epoch, from, items(from, count))
}

/// Kind and count of each gap.
fn gaps(store: &Store) -> Vec<(String, Option<u64>)> {
    store.snapshot().unwrap().gaps().unwrap().into_iter().map(|row| (row.gap.kind, row.gap.count)).collect()
}

#[test]
fn a_batch_that_comes_again_is_stored_once() {
    let (_directory, store) = store();
    store.take(&[batch(1, 1, 5)], 0).unwrap();
    let again = store.take(&[batch(1, 1, 5), batch(1, 4, 4)], 0).unwrap();
    assert_eq!(again.duplicates, 7);
    assert_eq!(again.events.len(), 2);
    assert_eq!(again.committed, [(COLLECTOR.to_owned(), Epoch([1; 16]), 7)]);
    let expected: Vec<_> = (1..=7).map(|sequence| event_id(Epoch([1; 16]), sequence)).collect();
    assert_eq!(ids(&store.snapshot().unwrap()), expected);
    assert_eq!(gaps(&store), []);
}

#[test]
fn a_jump_of_the_sequence_is_an_overflow_of_so_many() {
    let (_directory, store) = store();
    store.take(&[batch(1, 1, 3)], 0).unwrap();
    let appended = store.take(&[batch(1, 11, 2)], 0).unwrap();
    assert_eq!(gaps(&store), [("spool_overflow".to_owned(), Some(7))]);
    let gap = &appended.gaps[0].gap;
    assert_eq!(
        (gap.from, gap.to),
        (MIDNIGHT + 3, Some(MIDNIGHT + 11)),
        "from what was seen last to what was seen next"
    );
    store.take(&[batch(1, 11, 2)], 0).unwrap();
    assert_eq!(gaps(&store).len(), 1, "a batch that comes again brings no gap again");
}

#[test]
fn what_the_first_batch_of_all_lacks_is_an_overflow_too() {
    let (_directory, store) = store();
    store.take(&[batch(1, 4, 1)], 0).unwrap();
    assert_eq!(gaps(&store), [("spool_overflow".to_owned(), Some(3))]);
}

#[test]
fn a_new_epoch_is_a_gap_only_for_a_collector_that_was_known() {
    let (_directory, store) = store();
    store.take(&[batch(1, 1, 3)], 0).unwrap();
    assert_eq!(gaps(&store), []);
    store.take(&[batch(2, 1, 3)], 0).unwrap();
    assert_eq!(gaps(&store), [("spool_replaced".to_owned(), None)]);
    store.take(&[batch(2, 4, 3)], 0).unwrap();
    let other = Arrived { collector: "netmond".to_owned(), ..batch(3, 1, 1) };
    store.take(&[other], 0).unwrap();
    assert_eq!(gaps(&store).len(), 1);
}

#[test]
fn what_cannot_be_decoded_is_a_gap_and_the_rest_is_kept() {
    let (_directory, store) = store();
    let mut bad_key = process(1, "x");
    bad_key.process_key = "DEADBEEF".to_owned();
    let hostile = vec![
        seen(MIDNIGHT, process(1, "a")),
        vec![0xff; 40],
        Vec::new(),
        seen(MIDNIGHT + 1, bad_key),
        seen(MIDNIGHT + 2, process(2, "b")),
    ];
    let appended = store.take(&[arrived(1, 1, hostile)], 0).unwrap();
    assert_eq!(appended.events.len(), 2);
    assert_eq!(appended.committed[0].2, 5, "all of it is acknowledged");
    let undecodable = ("undecodable".to_owned(), Some(1));
    assert_eq!(gaps(&store), [undecodable.clone(), undecodable.clone(), undecodable]);
}

#[test]
fn sequences_at_the_end_of_the_number_range_do_no_harm() {
    let (_directory, store) = store();
    for first in [0, u64::MAX, u64::MAX - 1] {
        store.take(&[arrived(1, first, items(1, 3))], 0).unwrap();
        assert_eq!(ids(&store.snapshot().unwrap()), [""; 0], "sequence {first}");
    }
    store.take(&[batch(1, 1, 2)], 0).unwrap();
    assert_eq!(ids(&store.snapshot().unwrap()).len(), 2);
    assert_eq!(store.snapshot().unwrap().committed(COLLECTOR).unwrap(), [(Epoch([1; 16]), 2)]);
}

#[test]
fn a_gap_that_is_open_is_not_opened_again() {
    let (_directory, store) = store();
    let gap = |kind: &str, to| Gap { kind: kind.to_owned(), from: 1, to, count: None, reason: "r".to_owned() };
    store.open_gap(COLLECTOR, gap("polling", None)).unwrap();
    store.open_gap(COLLECTOR, gap("polling", None)).unwrap();
    assert_eq!(gaps(&store).len(), 1);
    store.open_gap("netmond", gap("polling", None)).unwrap();
    store.open_gap(COLLECTOR, gap("collector_down", Some(2))).unwrap();
    store.open_gap("netmond", gap("collector_down", Some(3))).unwrap();
    assert_eq!(gaps(&store).len(), 4);
    let ids: Vec<_> = store.snapshot().unwrap().gaps().unwrap().iter().map(|row| row.gap_id).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
}

#[test]
fn a_gap_that_goes_on_is_one_gap() {
    let (_directory, store) = store();
    let gap = |from, to| {
        item(Item::Gap(Gap { kind: "lost".into(), from, to: Some(to), count: Some(3), reason: "full".into() }))
    };
    store.take(&[arrived(1, 1, vec![gap(1, 5), gap(5, 8), gap(2, 3), gap(9, 10)])], 0).unwrap();
    let rows: Vec<_> = store.snapshot().unwrap().gaps().unwrap().into_iter().map(|row| row.gap).collect();
    let stretches: Vec<_> = rows.iter().map(|gap| (gap.from, gap.to, gap.count)).collect();
    assert_eq!(stretches, [(1, Some(8), Some(9)), (9, Some(10), Some(3))], "between 8 and 9 it saw");
}

#[test]
fn whatever_a_collector_sends_there_are_not_many_gaps_and_none_is_forgotten() {
    let (_directory, store) = store();
    const EACH: i64 = 1_500;
    let gap = |kind: String, at: i64, to| Gap { kind, from: at, to, count: Some(1), reason: format!("at {at}") };
    let closed = (0..EACH).map(|at| item(Item::Gap(gap("lost".into(), at * 10, Some(at * 10 + 1)))));
    let kinds = (0..EACH).map(|at| item(Item::Gap(gap(format!("kind-{at}"), at * 10, Some(at * 10 + 1)))));
    let open = (0..EACH).map(|at| item(Item::Gap(gap(format!("open-{at}"), at * 10, None))));
    let garbage = (0..EACH).map(|at| format!("no item {at}").into_bytes());
    store.take(&[arrived(1, 1, closed.chain(kinds).chain(open).chain(garbage).collect())], 0).unwrap();
    let gaps = store.snapshot().unwrap().gaps().unwrap();
    assert!(gaps.len() <= 1_000, "{}", gaps.len());
    assert!(gaps.iter().filter(|row| row.gap.to.is_none()).count() <= 33);
    let counted: u64 = gaps.iter().filter(|row| row.gap.to.is_some()).filter_map(|row| row.gap.count).sum();
    assert_eq!(counted, 3 * EACH.unsigned_abs(), "each that is closed counts");
    for at in 0..EACH {
        let covered = |row: &&daemoneye_lib::models::rows::GapRow| {
            row.gap.from <= at * 10 && row.gap.to.is_some_and(|to| to > at * 10)
        };
        assert!(gaps.iter().find(covered).is_some(), "{at}");
    }
    assert!(gaps.iter().any(|row| row.gap.reason.starts_with("several stretches, kept as one: ")), "it says so");
}

#[test]
fn what_a_collector_tells_of_itself_is_stored() {
    let (_directory, store) = store();
    let gap = Gap { kind: "collector_down".to_owned(), from: 1, to: Some(2), count: None, reason: "it was".to_owned() };
    let told = vec![item(Item::Gap(gap.clone())), scan(9, MIDNIGHT, true)];
    let appended = store.take(&[arrived(1, 1, told)], 0).unwrap();
    assert_eq!((appended.gaps[0].gap.clone(), appended.scans[0].scan.scan_id), (gap, 9));
    assert_eq!(appended.gaps[0].collector, COLLECTOR);
}

#[test]
fn what_is_committed_and_observed_survives_reopening() {
    let (directory, store) = store();
    let path = directory.path().join("events.redb");
    let batches = [batch(1, 1, 3), arrived(2, 1, vec![scan(1, MIDNIGHT + MINUTE, true)])];
    let appended = store.take(&batches, 0).unwrap();
    store.commit_alerts(&[], &[], 2).unwrap();
    drop(store);
    let (store, _) = Store::open(&path).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.committed(COLLECTOR).unwrap(), [(Epoch([1; 16]), 3), (Epoch([2; 16]), 1)]);
    assert_eq!(snapshot.committed("procmon").unwrap(), []);
    assert_eq!(snapshot.observed_until(COLLECTOR).unwrap(), Some(MIDNIGHT + MINUTE + 1));
    assert_eq!(snapshot.observed_until("netmond").unwrap(), None);
    assert_eq!(snapshot.evaluated().unwrap(), 2);
    let (waiting, next) = snapshot.unevaluated(10).unwrap();
    assert_eq!((waiting, next), (appended.events[2..].to_vec(), appended.next_row));
    drop(snapshot);
    store.reopen().unwrap();
    assert_eq!(store.take(&[batch(1, 4, 1)], 2).unwrap().next_row, 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever batches come, in whatever overlap: each event once, each hole counted, as a model of two maps says.
    #[test]
    fn any_order_of_batches_is_stored_exactly_once(
        steps in prop::collection::vec((1_u8..4, 1_u64..20, 0_u64..8, any::<bool>()), 1..25),
    ) {
        let (directory, mut store) = store();
        let mut committed: BTreeMap<u8, u64> = BTreeMap::new();
        let mut events = Vec::new();
        let (mut missing, mut replaced, mut duplicates, mut counted) = (0, 0, 0, 0);
        for (epoch, first, count, reopen) in steps {
            let appended = store.take(&[batch(epoch, first, count)], 0).unwrap();
            duplicates += appended.duplicates;
            let through = committed.get(&epoch).copied().unwrap_or(0);
            let new: Vec<u64> = (first..first + count).filter(|sequence| *sequence > through).collect();
            counted += count - new.len() as u64;
            if let (Some(from), Some(to)) = (new.first(), new.last()) {
                missing += from - through - 1;
                replaced += usize::from(!committed.is_empty() && !committed.contains_key(&epoch));
                events.extend(new.iter().map(|sequence| event_id(Epoch([epoch; 16]), *sequence)));
                committed.insert(epoch, *to);
            }
            let own = committed.get(&epoch).copied().unwrap_or(0);
            prop_assert_eq!(&appended.committed, &[(COLLECTOR.to_owned(), Epoch([epoch; 16]), own)]);
            if reopen {
                drop(store);
                store = Store::open(&directory.path().join("events.redb")).unwrap().0;
            }
        }
        prop_assert_eq!(duplicates, counted);
        prop_assert_eq!(ids(&store.snapshot().unwrap()), events);
        let gaps = gaps(&store);
        let overflow: u64 = gaps.iter().filter(|gap| gap.0 == "spool_overflow").filter_map(|gap| gap.1).sum();
        prop_assert_eq!(overflow, missing);
        prop_assert_eq!(gaps.iter().filter(|gap| gap.0 == "spool_replaced").count(), replaced);
    }
}
