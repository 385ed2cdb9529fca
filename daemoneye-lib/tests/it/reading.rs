//! What was appended comes back, from the head and from sealed blocks alike.

use crate::fixture::{MIDNIGHT, MINUTE, Take as _, process};
use crate::fixture::{arrived, current, event, ids, item, key, scan, seen, shown, store, stored};
use daemoneye_lib::models::event::{Epoch, IdentifiedEvent, event_id};
use daemoneye_lib::proto::common::{Arguments, EventType, ProcessEvent, ProcessRecord};
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::storage::TimeRange;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Rows of a block.
const BLOCK: usize = 2_000;

/// Any record at all, as long as it has a key.
fn record() -> impl Strategy<Value = ProcessRecord> {
    let texts = prop::collection::vec(prop::option::of(".{0,12}"), 22);
    let numbers = prop::collection::vec(prop::option::of(any::<i64>()), 20);
    let maps = prop::collection::vec(prop::collection::btree_map("[a-z]{0,4}", ".{0,6}", 0..3), 3);
    let words = prop::option::of(prop::collection::vec(".{0,6}", 0..4));
    (texts, numbers, maps, words, any::<u128>(), prop::option::of(any::<f64>())).prop_map(
        |(texts, numbers, maps, words, identity, cpu_usage)| {
            let mut texts = texts.into_iter();
            let mut text = || texts.next().flatten();
            let mut numbers = numbers.into_iter();
            let mut number = || numbers.next().flatten();
            let mut maps = maps.into_iter();
            let mut map = || maps.next().unwrap_or_default();
            let small = |number: Option<i64>| number.map(|number| number as u32);
            ProcessRecord {
                process_key: format!("{identity:032x}"),
                parent_key: text(),
                pid: identity as u32,
                ppid: small(number()),
                name: text(),
                executable_path: text(),
                command_line: text(),
                cwd: text(),
                start_time: number(),
                end_time: number(),
                exit_code: number().map(|number| number as i32),
                uid: small(number()),
                gid: small(number()),
                euid: small(number()),
                user: text(),
                session_id: small(number()),
                tty: text(),
                status: text(),
                cpu_usage,
                memory_usage: number().map(|number| number as u64),
                executable_hash: text(),
                hash_algorithm: text(),
                fuzzy_hash: text(),
                file_exists: number().map(|number| number > 0),
                image_mismatch: number().map(|number| number > 0),
                parent_name: text(),
                parent_executable_path: text(),
                parent_command_line: text(),
                container_id: text(),
                cgroup: text(),
                namespaces: map().into_iter().map(|(kind, text)| (kind, text.len() as u64)).collect(),
                platform_data: map(),
                argv: words.map(|values| Arguments { values }),
                invoked_path: text(),
                command_line_truncated: number().map(|number| number > 0),
                egid: small(number()),
                loginuid: small(number()),
                audit_session: small(number()),
                exit_signal: number().map(|number| number as i32),
                cpu_time_ns: number().map(|number| number as u64),
                max_rss: number().map(|number| number as u64),
                environment: BTreeMap::from([("LD_PRELOAD".to_owned(), "x".to_owned())]),
                source: text().unwrap_or_default(),
                provenance: map(),
                collection_time: number().unwrap_or(0),
            }
        },
    )
}

fn any_event() -> impl Strategy<Value = ProcessEvent> {
    (0_i32..6, any::<i64>(), record()).prop_map(|(event_type, event_time, process)| ProcessEvent {
        event_type,
        event_time,
        process: Some(process),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_column_of_every_event_comes_back(templates in prop::collection::vec(any_event(), 1..12)) {
        let (_directory, store) = store();
        let events: Vec<IdentifiedEvent> = (1..)
            .zip(templates.iter().cycle().take(BLOCK + 150))
            .map(|(sequence, event)| IdentifiedEvent { event_id: event_id(Epoch([7; 16]), sequence), event: event.clone().into() })
            .collect();
        let sent = templates.iter().cycle().take(events.len());
        let items = sent.map(|event| item(Item::Process(event.clone()))).collect();
        let appended = store.take(&[arrived(7, 1, items)], 0).unwrap();
        prop_assert_eq!(&appended.events, &events);
        prop_assert_eq!(&stored(&store.snapshot().unwrap()), &shown(&events), "from the head");
        store.commit_alerts(&[], &[], appended.next_row).unwrap();
        prop_assert_eq!(store.snapshot().unwrap().unevaluated(10).unwrap().0.len(), 0);
        prop_assert_eq!(&stored(&store.snapshot().unwrap()), &shown(&events), "from a block and the head");
    }
}

/// Rows of the head.
fn unsealed(store: &daemoneye_lib::storage::Store) -> u64 {
    let sizes = store.snapshot().unwrap().sizes().unwrap();
    sizes.iter().find(|size| size.table == "processes.events, fresh").unwrap().rows
}

#[test]
fn rows_that_the_rules_have_not_seen_are_not_sealed() {
    let (_directory, store) = store();
    let items = |from: i64| (from..from + 1_500).map(|at| seen(at, process(1, "x"))).collect::<Vec<_>>();
    store.take(&[arrived(1, 1, items(0))], 0).unwrap();
    let appended = store.take(&[arrived(1, 1_501, items(1_500))], 1_500).unwrap();
    let (waiting, next) = store.snapshot().unwrap().unevaluated(usize::MAX).unwrap();
    assert_eq!((waiting.len(), next), (1_500, appended.next_row));
    assert_eq!(unsealed(&store), 3_000);
    store.commit_alerts(&[], &[], appended.next_row).unwrap();
    assert_eq!(unsealed(&store), 1_000, "the first block is sealed");
    assert_eq!(ids(&store.snapshot().unwrap()).len(), 3_000);
}

#[test]
fn rows_that_wait_for_the_rules_are_given_in_pieces() {
    let (_directory, store) = store();
    let items = (0..10).map(|at| seen(at, process(1, "x"))).collect();
    store.take(&[arrived(1, 1, items)], 0).unwrap();
    let (first, next) = store.snapshot().unwrap().unevaluated(4).unwrap();
    assert_eq!((first.len(), next), (4, 4));
    store.commit_alerts(&[], &[], next).unwrap();
    let (rest, next) = store.snapshot().unwrap().unevaluated(100).unwrap();
    assert_eq!((rest.len(), next), (6, 10));
    assert_eq!(rest[0].event_id, event_id(Epoch([1; 16]), 5));
    store.commit_alerts(&[], &[], next).unwrap();
    assert_eq!(store.snapshot().unwrap().unevaluated(100).unwrap(), (Vec::new(), 10));
}

#[test]
fn very_long_command_lines_are_read_in_pieces() {
    let (_directory, store) = store();
    let long = |number: u32| {
        let mut record = process(number, "x");
        record.command_line = Some("x".repeat(1 << 20));
        seen(0, record)
    };
    store.take(&[arrived(1, 1, (1..=40).map(long).collect())], 0).unwrap();
    let snapshot = store.snapshot().unwrap();
    let command_line = 3 + 6;
    let bounded = |rows: daemoneye_lib::storage::Rows| {
        let batches: Vec<_> = rows.map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 40);
        assert!(batches.iter().all(|batch| batch.get_array_memory_size() < 24 << 20));
    };
    bounded(snapshot.events(&[command_line], TimeRange::ALL).unwrap());
    bounded(snapshot.processes(&[command_line - 3], None).unwrap());
}

#[test]
fn an_exit_ends_a_process_and_keeps_what_it_was() {
    let (_directory, store) = store();
    let mut shell = process(7, "sh");
    shell.command_line = Some("sh -c id".to_owned());
    shell.cpu_time_ns = Some(5);
    let mut end =
        ProcessRecord { process_key: key(7), pid: 7, end_time: Some(MIDNIGHT + MINUTE), ..ProcessRecord::default() };
    end.exit_code = Some(3);
    end.provenance.insert("end_time".to_owned(), "inferred".to_owned());
    let exit = item(Item::Process(event(EventType::Exit, MIDNIGHT + MINUTE, end)));
    store.take(&[arrived(1, 1, vec![seen(MIDNIGHT, shell), exit])], 0).unwrap();
    let snapshot = store.snapshot().unwrap();
    for (column, expected) in [
        ("name", "sh"),
        ("command_line", "sh -c id"),
        ("cpu_time_ns", "5"),
        ("exit_code", "3"),
        ("end_time", "2024-01-01 00:01:00.000000"),
        ("provenance", r#"{"end_time":"inferred"}"#),
    ] {
        assert_eq!(current(&snapshot, column), [expected], "{column}");
    }
}

#[test]
fn an_exit_without_a_time_ends_the_process_all_the_same() {
    let (_directory, store) = store();
    let exit = item(Item::Process(event(EventType::Exit, MIDNIGHT + MINUTE, process(7, "sh"))));
    store.take(&[arrived(1, 1, vec![seen(MIDNIGHT, process(7, "sh")), exit])], 0).unwrap();
    assert_eq!(current(&store.snapshot().unwrap(), "end_time"), ["2024-01-01 00:01:00.000000"]);
    let unknown = item(Item::Process(event(EventType::Exit, MIDNIGHT, process(8, "late"))));
    store.take(&[arrived(1, 3, vec![unknown])], 0).unwrap();
    assert_eq!(current(&store.snapshot().unwrap(), "end_time")[1], "2024-01-01 00:00:00.000000");
}

#[test]
fn a_full_scan_ends_what_it_did_not_announce() {
    let (_directory, store) = store();
    let later = MIDNIGHT + MINUTE;
    let announced = ProcessRecord { collection_time: later + 1, ..process(2, "stays") };
    let first = vec![seen(MIDNIGHT, process(1, "goes")), seen(MIDNIGHT, process(2, "stays")), scan(1, MIDNIGHT, true)];
    store.take(&[arrived(1, 1, first)], 0).unwrap();
    assert_eq!(current(&store.snapshot().unwrap(), "end_time"), ["NULL", "NULL"]);
    store.take(&[arrived(1, 4, vec![scan(2, later, false)])], 0).unwrap();
    assert_eq!(current(&store.snapshot().unwrap(), "end_time"), ["NULL", "NULL"], "a scan of differences ends nothing");
    store.take(&[arrived(2, 1, vec![seen(later, announced), scan(3, later, true)])], 0).unwrap();
    assert_eq!(current(&store.snapshot().unwrap(), "end_time"), ["2024-01-01 00:01:00.000000", "NULL"]);
    assert_eq!(current(&store.snapshot().unwrap(), "name"), ["goes", "stays"]);
}

#[test]
fn of_scans_the_newest_hundred_thousand_are_kept() {
    let (_directory, store) = store();
    let scans: Vec<_> = (0..100_010).map(|id| scan(id, MIDNIGHT + i64::try_from(id).unwrap(), false)).collect();
    store.take(&[arrived(1, 1, scans)], 0).unwrap();
    let kept = store.snapshot().unwrap().scans(&[0]).unwrap().map(Result::unwrap);
    let kept: Vec<_> = kept.flat_map(|batch| daemoneye_lib::detection::query::rows(&batch)).collect();
    assert_eq!(kept.len(), 100_000);
    assert_eq!(crate::fixture::cell_text(&kept[0].cells[0]), "10", "the oldest went");
}
