//! Leaving out blocks by their time never leaves out a row that matches.

use crate::fixture::{MIDNIGHT, Stored, Take as _, arrived, ask_of, cell_text, process, seen, store};
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::models::time::sql_text;
use daemoneye_lib::storage::Store;
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

const SECOND: i64 = 1_000_000_000;
const BLOCK: i64 = 2_000;
/// Where each block's times lie: a few nanoseconds, so that the ends of a block fall within a microsecond.
const PLACES: [i64; 6] = [
    MIDNIGHT - 1,
    MIDNIGHT,
    MIDNIGHT + 100,
    MIDNIGHT + 59 * SECOND + 999_999_900,
    MIDNIGHT + 60 * SECOND + 500_000_300,
    MIDNIGHT + 36_000 * SECOND,
];

fn blocks() -> &'static (TempDir, Store) {
    static BLOCKS: OnceLock<(TempDir, Store)> = OnceLock::new();
    BLOCKS.get_or_init(|| {
        let (directory, store) = store();
        let items = PLACES.iter().flat_map(|place| (0..BLOCK).map(move |at| seen(place + at % 40, process(1, "x"))));
        let appended = store.take(&[arrived(1, 1, items.collect())], 0).unwrap();
        store.commit_alerts(&[], &[], appended.next_row).unwrap();
        (directory, store)
    })
}

fn count(condition: &str) -> String {
    let source = Arc::new(Stored(blocks().1.snapshot().unwrap()));
    let sql = format!("SELECT count(*) FROM processes.events WHERE {condition}");
    let answer = ask_of(source, &sql, &Parameters::default()).map(|result| cell_text(&result.rows[0][0]));
    answer.unwrap_or_else(|error| panic!("{condition}: {error}"))
}

#[test]
fn blocks_outside_of_the_range_are_not_read() {
    use daemoneye_lib::storage::TimeRange;
    let snapshot = blocks().1.snapshot().unwrap();
    let rows = |from, to| -> usize {
        let batches = snapshot.events(&[0], TimeRange { from, to }).unwrap();
        batches.map(|batch| batch.unwrap().num_rows()).sum()
    };
    assert_eq!(rows(i64::MIN, i64::MAX), 12_000);
    assert_eq!(rows(MIDNIGHT + SECOND, MIDNIGHT + 60 * SECOND), 2_000);
}

#[test]
fn the_last_nanoseconds_of_a_microsecond_belong_to_it() {
    for condition in [
        "BETWEEN '2024-01-01 00:00:00.000000' AND '2024-01-01 00:01:00.500000'",
        "<= '2024-01-01 00:01:00.500000'",
        "< '2024-01-01 00:01:00.5000001'",
        "= '2024-01-01 00:01:00.500000'",
    ] {
        let expected = count(&format!("(event_time || '') {condition}"));
        assert_ne!(expected, "0");
        assert_eq!(count(&format!("event_time {condition}")), expected, "{condition}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn a_condition_finds_the_same_rows_where_nothing_can_be_left_out(
        place in prop::sample::select(&PLACES[..]),
        offset in prop_oneof![-1_100_i64..1_100, -2 * SECOND..2 * SECOND, -100_000 * SECOND..100_000 * SECOND],
        length in prop_oneof![Just(26_usize), Just(19), Just(10), 0_usize..27],
        form in 0_usize..6,
        operator in prop::sample::select(vec!["<", "<=", ">", ">=", "=", "BETWEEN", "NOT BETWEEN", "swapped"]),
        other in -1_100_i64..1_100,
    ) {
        let written = |ns: i64| {
            let text: String = sql_text(ns).chars().take(length).collect();
            match form {
                0 => text.replace(' ', "T"),
                1 => format!("{text}Z"),
                2 => text.replace(":00", ":60").replace('.', ","),
                _ => text,
            }
        };
        let literal = written(place + offset);
        let condition = |column: &str| match operator {
            "BETWEEN" | "NOT BETWEEN" => {
                format!("{column} {operator} '{}' AND '{literal}'", written(place + offset - other.abs()))
            }
            "swapped" => format!("'{literal}' <= {column}"),
            _ => format!("{column} {operator} '{literal}'"),
        };
        let pruned = condition("event_time");
        prop_assert_eq!(count(&pruned), count(&condition("(event_time || '')")), "{}", pruned);
    }
}
