//! `processes.snapshots`: what was told comes back, by time and by process, until retention removes it.

use crate::fixture::{MIDNIGHT, MINUTE, Take as _, arrived, item, key, rows_of, store};
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::time::sql_text;
use daemoneye_lib::proto::common::ProcessRecord;
use daemoneye_lib::proto::ipc::ProcessSnapshot;
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::storage::{Extent, Keep, Store, TimeRange};

const PROCESSES: u32 = 100;

/// The parts of so many snapshots, one a minute, of the same hundred processes.
fn parts(snapshots: u64) -> Vec<Vec<u8>> {
    let row = |at: i64, number: u32| ProcessRecord {
        process_key: key(number.into()),
        pid: number,
        name: Some(format!("name-{number}")),
        memory_usage: Some(u64::from(number) * 1_000),
        collection_time: at,
        ..ProcessRecord::default()
    };
    (0..snapshots)
        .map(|scan_id| {
            let at = MIDNIGHT + i64::try_from(scan_id).unwrap() * MINUTE;
            let processes = (1..=PROCESSES).map(|number| row(at, number)).collect();
            item(Item::Snapshot(ProcessSnapshot { scan_id, processes }))
        })
        .collect()
}

fn told(snapshots: u64) -> (tempfile::TempDir, Store) {
    let (directory, store) = store();
    store.take(&[arrived(1, 1, parts(snapshots))], 0).unwrap();
    (directory, store)
}

#[test]
fn snapshots_are_found_in_blocks_and_before() {
    // Two blocks of twenty snapshots, and five that are not in a block.
    let (_directory, store) = told(45);
    let sizes = store.snapshot().unwrap().sizes().unwrap();
    let sealed = sizes.iter().find(|size| size.table == "processes.snapshots, sealed").unwrap();
    assert_eq!((sealed.rows, sealed.blocks), (4_000, Some(2)));
    assert_eq!(rows_of(&store, "SELECT count(*), count(DISTINCT scan_id) FROM processes.snapshots"), ["4500 45"]);
    let one = "SELECT count(*), min(memory_usage), max(collector) FROM process_snapshots WHERE name = 'name-7'";
    assert_eq!(rows_of(&store, one), ["45 7000 procmond"]);
    for minute in [0, 19, 20, 44] {
        let at = sql_text(MIDNIGHT + minute * MINUTE);
        let sql = format!("SELECT scan_id FROM processes.snapshots WHERE snapshot_time = '{at}' AND pid = 100");
        assert_eq!(rows_of(&store, &sql), [minute.to_string()]);
    }
    let last = TimeRange { from: MIDNIGHT + 44 * MINUTE, to: i64::MAX };
    let survey = store.snapshot().unwrap().survey(Table::Snapshots, last, &[]).unwrap().unwrap();
    assert_eq!((survey.blocks, survey.blocks_read, survey.rows_at_most), (2, 0, 500));
    assert_eq!(store.verify(Extent::All).unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_batch_of_snapshots_that_comes_again_is_stored_once() {
    let (_directory, store) = told(3);
    store.take(&[arrived(1, 1, parts(4))], 0).unwrap();
    assert_eq!(rows_of(&store, "SELECT count(*) FROM processes.snapshots"), ["400"]);
}

#[test]
fn old_snapshots_go_and_that_is_remembered() {
    let (_directory, store) = told(45);
    let since = Some(MIDNIGHT + 42 * MINUTE);
    let removed = store.prune(Keep { since, ..Keep::default() }, false).unwrap();
    assert_eq!((removed.snapshots, removed.events, removed.processes), (4_200, 0, 0));
    assert_eq!(rows_of(&store, "SELECT count(*) FROM processes.snapshots"), ["300"]);
    let until = store.snapshot().unwrap().removed_until(Table::Snapshots).unwrap();
    assert_eq!(until, Some(MIDNIGHT + 41 * MINUTE));
    assert!(store.prune(Keep { since, ..Keep::default() }, false).unwrap().is_nothing());
}

#[test]
fn a_part_with_a_process_that_has_no_key_is_a_gap() {
    let (_directory, store) = store();
    let processes = vec![ProcessRecord { process_key: "7".to_owned(), ..ProcessRecord::default() }];
    let part = item(Item::Snapshot(ProcessSnapshot { scan_id: 1, processes }));
    store.take(&[arrived(1, 1, vec![part])], 0).unwrap();
    assert_eq!(rows_of(&store, "SELECT count(*) FROM processes.snapshots"), ["0"]);
    let gaps = store.snapshot().unwrap().gaps().unwrap();
    assert_eq!(gaps.iter().map(|row| row.gap.kind.as_str()).collect::<Vec<_>>(), ["undecodable"]);
}
