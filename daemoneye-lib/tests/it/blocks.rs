//! Conditions leave out blocks and rows, and never a row that meets them; what has ended is kept in blocks too.

use crate::fixture::{
    MIDNIGHT, MINUTE, Stored, Take as _, arrived, ask_of, cell_text, current, event, item, key, process, seen, store,
};
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::condition::{Condition, Test};
use daemoneye_lib::models::time::sql_text;
use daemoneye_lib::proto::common::{EventType, ProcessRecord};
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::storage::{Store, TimeRange};
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

const BLOCKS: u32 = 6;
const BLOCK: u32 = 2_000;
/// Events that are not in a block yet.
const FRESH: u32 = 700;

/// Six blocks of processes and the beginning of a seventh, of which each has names, users and pids of its own and some that all share.
fn blocks() -> &'static (TempDir, Store) {
    static MADE: OnceLock<(TempDir, Store)> = OnceLock::new();
    MADE.get_or_init(|| {
        let (directory, store) = store();
        let items = (0..BLOCKS * BLOCK + FRESH).map(|number| {
            let (block, place) = (number / BLOCK, number % BLOCK);
            let name = if place % 10 == 0 { "common".to_owned() } else { format!("name-{block}-{}", place % 7) };
            let mut record = process(number + 1, &name);
            record.uid = (place % 3 > 0).then_some(block * 100);
            record.user = (block % 2 == 0).then(|| format!("user-{}", place % 5));
            record.executable_path = Some(format!("/bin/{name}"));
            seen(MIDNIGHT + i64::from(number), record)
        });
        let appended = store.take(&[arrived(1, 1, items.collect())], 0).unwrap();
        store.commit_alerts(&[], &[], appended.next_row).unwrap();
        (directory, store)
    })
}

fn given(column: &str, test: Test) -> usize {
    let columns = Table::ProcessEvents.columns();
    let column = columns.iter().position(|(name, _)| *name == column).unwrap();
    let rows = blocks().1.snapshot().unwrap().events_where(
        Table::ProcessEvents,
        &[0],
        TimeRange::ALL,
        &[Condition { column, test }],
    );
    rows.unwrap().map(|batch| batch.unwrap().num_rows()).sum()
}

fn texts(texts: &[&str]) -> Test {
    Test::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn only_rows_that_meet_a_condition_are_given() {
    assert_eq!(given("process_key", texts(&[&key(4_711)])), 1);
    assert_eq!(given("process_key", texts(&[&key(1), &key(12_000), "no key"])), 2);
    assert_eq!(given("pid", Test::Integers([4_711, 99_999].into())), 1);
    assert_eq!(given("pid", Test::Between(1_990, 2_010)), 21);
    assert_eq!(given("name", texts(&["common"])), 1_270);
    assert_eq!(given("user", texts(&["user-1"])), 3 * 400 + 140, "NULL meets nothing");
    assert_eq!(given("executable_hash", texts(&["x"])), 0, "a column without a value");
    assert_eq!(given("uid", Test::Between(301, 399)), 0);
    assert_eq!(given("process_key", texts(&[&key(12_501)])), 1, "not in a block yet");
    assert_eq!(given("pid", Test::Between(11_990, 12_010)), 21);
}

#[test]
fn what_would_be_read_is_known_without_reading_it() {
    let survey = |sql: &str| {
        let columns = Table::ProcessEvents.columns();
        let column = columns.iter().position(|(name, _)| *name == "process_key").unwrap();
        let conditions = [Condition { column, test: texts(&[sql]) }];
        blocks().1.snapshot().unwrap().survey(Table::ProcessEvents, TimeRange::ALL, &conditions).unwrap().unwrap()
    };
    let found = survey(&key(4_711));
    assert_eq!((found.blocks, found.blocks_read), (6, 1));
    assert_eq!(found.rows_at_most, u64::from(BLOCK + FRESH));
    assert_eq!(survey("no key").blocks_read, 0);
    let early = TimeRange { from: MIDNIGHT, to: MIDNIGHT + 3_000 };
    assert_eq!(
        blocks().1.snapshot().unwrap().survey(Table::ProcessEvents, early, &[]).unwrap().unwrap().blocks_read,
        2
    );
    assert_eq!(
        blocks().1.snapshot().unwrap().survey(Table::Processes, TimeRange::ALL, &[]).unwrap().unwrap().rows_at_most,
        u64::from(BLOCKS * BLOCK + FRESH)
    );
}

fn count(table: &str, condition: &str) -> String {
    let source = Arc::new(Stored(blocks().1.snapshot().unwrap()));
    let sql = format!("SELECT count(*) FROM {table} WHERE {condition}");
    let answer = ask_of(source, &sql, &Parameters::default()).map(|result| cell_text(&result.rows[0][0]));
    answer.unwrap_or_else(|error| panic!("{condition}: {error}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn a_condition_finds_the_same_rows_where_nothing_can_be_left_out(
        number in prop_oneof![-2_i64..12_710, Just(100_i64), Just(i64::MAX)],
        name in prop::sample::select(vec!["common", "name-2-3", "name-5-6", "name-6-1", "nothing", ""]),
        form in 0_usize..11,
        table in prop::sample::select(vec!["processes.events", "processes"]),
    ) {
        let other = number.saturating_add(7);
        let (pushed, not_pushed) = match form {
            0 => (format!("pid = {number}"), format!("pid + 0 = {number}")),
            1 => (format!("pid IN ({number}, {other}, 3)"), format!("pid + 0 IN ({number}, {other}, 3)")),
            2 => (format!("pid > {number}"), format!("pid + 0 > {number}")),
            3 => (format!("pid BETWEEN {number} AND {other}"), format!("pid + 0 BETWEEN {number} AND {other}")),
            4 => (format!("name = '{name}'"), format!("name || '' = '{name}'")),
            5 => (format!("name IN ('{name}', 'common')"), format!("name || '' IN ('{name}', 'common')")),
            6 => (format!("name = '{name}' OR name = 'name-1-1'"), format!("name || '' IN ('{name}', 'name-1-1')")),
            7 => (format!("name = '{name}' OR pid = {number}"), format!("name || '' = '{name}' OR pid + 0 = {number}")),
            8 => (format!("name = '{name}' AND pid < {number}"), format!("name || '' = '{name}' AND pid + 0 < {number}")),
            9 => (format!("NOT name = '{name}'"), format!("NOT name || '' = '{name}'")),
            _ => (format!("uid <= {number} AND user = 'user-1'"), format!("uid + 0 <= {number} AND user || '' = 'user-1'")),
        };
        prop_assert_eq!(count(table, &pushed), count(table, &not_pushed), "{} {}", table, pushed);
    }
}

/// Processes that start and end, one each microsecond; `first` is the number of the first.
fn short_lives(store: &Store, epoch: u8, first: u32, count: u32) {
    let items = (first..first + count).flat_map(|number| {
        let at = MIDNIGHT + i64::from(number) * 1_000;
        let mut record = process(number, "short");
        record.start_time = Some(at);
        record.command_line = Some(format!("short {number}"));
        let mut end = record.clone();
        end.end_time = Some(at + 10);
        let exit = item(Item::Process(event(EventType::Exit, at + 10, end)));
        [seen(at, record), exit]
    });
    let appended = store.take(&[arrived(epoch, 1, items.collect())], 0).unwrap();
    store.commit_alerts(&[], &[], appended.next_row).unwrap();
}

fn process_row(store: &Store, number: u32) -> Vec<String> {
    let source = Arc::new(Stored(store.snapshot().unwrap()));
    let sql = format!(
        "SELECT name || '|' || coalesce(command_line, '') || '|' || coalesce(end_time, 'runs') FROM processes WHERE process_key = '{}'",
        key(number.into())
    );
    let answer = ask_of(source, &sql, &Parameters::default()).unwrap();
    answer.rows.iter().map(|row| cell_text(&row[0])).collect()
}

#[test]
fn processes_that_ended_are_found_in_blocks_as_they_were() {
    let (_directory, store) = store();
    short_lives(&store, 1, 1, 10_000);
    let sizes = store.snapshot().unwrap().sizes().unwrap();
    let rows = |table: &str| sizes.iter().find(|size| size.table == table).unwrap().rows;
    assert_eq!(rows("processes, ended") + rows("processes, present"), 10_000);
    assert!(rows("processes, ended") >= 4_000, "{sizes:?}");
    assert_eq!(current(&store.snapshot().unwrap(), "pid").len(), 10_000);
    for number in [1, 2_000, 5_000, 10_000] {
        let end = sql_text(MIDNIGHT + i64::from(number) * 1_000 + 10);
        assert_eq!(process_row(&store, number), [format!("short|short {number}|{end}")]);
    }
    assert_eq!(process_row(&store, 10_001), Vec::<String>::new());
}

#[test]
fn a_process_that_is_heard_of_again_is_there_once() {
    let (_directory, store) = store();
    short_lives(&store, 1, 1, 10_000);
    // Its end is told a second time, and another process is seen again.
    let mut again = process(7, "again");
    again.start_time = Some(MIDNIGHT + 7_000);
    let exit = |number: u32| {
        let end = ProcessRecord { start_time: Some(MIDNIGHT + i64::from(number) * 1_000), ..process(number, "late") };
        item(Item::Process(event(EventType::Exit, MIDNIGHT + MINUTE, end)))
    };
    store.take(&[arrived(2, 1, vec![exit(5), seen(MIDNIGHT + MINUTE, again)])], 0).unwrap();
    assert_eq!(process_row(&store, 5).len(), 1);
    assert!(process_row(&store, 5)[0].starts_with("short|short 5|"), "its end was known");
    assert_eq!(process_row(&store, 7), ["again||runs"]);
    // It ends, and stays one however many end after it.
    store.take(&[arrived(2, 3, vec![exit(7)])], 0).unwrap();
    short_lives(&store, 3, 20_000, 10_000);
    assert_eq!(process_row(&store, 7).len(), 1);
    assert_eq!(current(&store.snapshot().unwrap(), "pid").len(), 20_000);
}
