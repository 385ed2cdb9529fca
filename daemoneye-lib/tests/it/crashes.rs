//! A file as a crash would leave it, between any two operations: all that was committed, and nothing else.

use crate::fixture::{COLLECTOR, MIDNIGHT, Take as _, arrived, ids, process, seen, shown, store, stored};
use daemoneye_lib::models::event::{Epoch, event_id};
use daemoneye_lib::models::rows::DeliveryRow;
use daemoneye_lib::proto::common::Alert;
use daemoneye_lib::storage::{Opened, Store};
use std::fs;

#[test]
fn a_copy_of_the_open_file_holds_exactly_what_was_committed() {
    let (directory, store) = store();
    let copy = directory.path().join("copy.redb");
    let mut events = Vec::new();
    let mut evaluated = 0;
    for round in 0..12_u64 {
        let items = (0..400).map(|at| seen(MIDNIGHT + at, process(1, "x"))).collect();
        let appended = store.take(&[arrived(1, 1 + round * 400, items)], evaluated).unwrap();
        events.extend(appended.events.clone());
        fs::copy(store.path(), &copy).unwrap();
        {
            let (crashed, opened) = Store::open(&copy).unwrap();
            assert_eq!(opened, Opened::Existing);
            let snapshot = crashed.snapshot().unwrap();
            assert_eq!(stored(&snapshot), shown(&events), "round {round}");
            assert_eq!(snapshot.committed(COLLECTOR).unwrap(), [(Epoch([1; 16]), (round + 1) * 400)]);
            assert_eq!(snapshot.unevaluated(usize::MAX).unwrap().0, appended.events, "what the rules have to see yet");
            assert_eq!(snapshot.alert_count().unwrap(), round);
        }
        evaluated = appended.next_row;
        let id = format!("a{round:02}");
        let alert = Alert { alert_id: id.clone(), rule_id: "r".into(), dedup_key: id.clone(), ..Alert::default() };
        let due =
            DeliveryRow { alert_id: id.clone(), sink: "s".into(), status: "due".into(), ..DeliveryRow::default() };
        store.commit_alerts(std::slice::from_ref(&alert), std::slice::from_ref(&due), evaluated).unwrap();
        fs::copy(store.path(), &copy).unwrap();
        let (crashed, _) = Store::open(&copy).unwrap();
        let snapshot = crashed.snapshot().unwrap();
        assert_eq!(stored(&snapshot), shown(&events), "round {round}, after sealing");
        assert_eq!(snapshot.unevaluated(usize::MAX).unwrap(), (Vec::new(), evaluated));
        assert_eq!(crashed.latest_alert("r", &id).unwrap(), Some(alert.clone()));
        assert_eq!(crashed.due_deliveries(100).unwrap().last(), Some(&(due.clone(), alert)));
    }
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let (_directory, store) = store();
    store.take(&[arrived(1, 1, vec![seen(1, process(1, "a"))])], 0).unwrap();
    let before = store.snapshot().unwrap();
    store.take(&[arrived(1, 2, vec![seen(2, process(2, "b"))])], 0).unwrap();
    assert_eq!(ids(&before), [event_id(Epoch([1; 16]), 1)]);
    assert_eq!(ids(&store.snapshot().unwrap()).len(), 2);
}

#[test]
fn deliveries_are_due_until_they_succeed_or_were_tried_often_enough() {
    let (_directory, store) = store();
    let alert = Alert { alert_id: "a".into(), ..Alert::default() };
    let row = |sink: &str, status: &str, attempts| DeliveryRow {
        alert_id: "a".into(),
        sink: sink.into(),
        status: status.into(),
        attempts,
        ..DeliveryRow::default()
    };
    let due = [row("one", "due", 0), row("two", "due", 0), row("three", "due", 0)];
    store.commit_alerts(&[alert], &due, 0).unwrap();
    assert_eq!(store.due_deliveries(2).unwrap().len(), 2, "no more than asked for");
    store
        .record_deliveries(&[row("one", "delivered", 1), row("two", "failed", 10), row("three", "failed", 9)])
        .unwrap();
    let left: Vec<_> = store.due_deliveries(10).unwrap().into_iter().map(|(row, _)| row.sink).collect();
    assert_eq!(left, ["three"]);
}
