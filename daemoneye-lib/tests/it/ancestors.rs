//! `processes.ancestors`: the chain of each process, whatever the host told.

use crate::fixture::{MIDNIGHT, Take as _, arrived, event, item, key, process, rows_of, seen, store};
use daemoneye_lib::proto::common::{EventType, ProcessRecord};
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::storage::Store;

fn child(number: u32, parent: u32, name: &str) -> ProcessRecord {
    ProcessRecord { parent_key: Some(key(parent.into())), ..process(number, name) }
}

fn told(records: Vec<ProcessRecord>) -> (tempfile::TempDir, Store) {
    let (directory, store) = store();
    let items = (0..).zip(records).map(|(at, record)| seen(MIDNIGHT + at, record)).collect();
    store.take(&[arrived(1, 1, items)], 0).unwrap();
    (directory, store)
}

#[test]
fn a_chain_is_there_to_its_root_with_each_ancestors_columns() {
    let records = vec![process(1, "init"), child(2, 1, "sshd"), child(3, 2, "bash"), child(4, 3, "curl")];
    let (_directory, store) = told(records);
    let sql = format!(
        "SELECT depth, name, pid, ancestor_key = '{}' FROM processes.ancestors WHERE process_key = '{}' ORDER BY depth",
        key(2),
        key(4)
    );
    assert_eq!(rows_of(&store, &sql), ["1 bash 3 0", "2 sshd 2 1", "3 init 1 0"]);
    let all = "SELECT p.name, count(a.depth) FROM processes p LEFT JOIN processes.ancestors a \
               ON a.process_key = p.process_key GROUP BY p.name ORDER BY 2";
    assert_eq!(rows_of(&store, all), ["init 0", "sshd 1", "bash 2", "curl 3"]);
    let hunt = "SELECT p.name FROM processes p JOIN processes.ancestors a ON a.process_key = p.process_key \
                WHERE a.name = 'sshd' ORDER BY 1";
    assert_eq!(rows_of(&store, hunt), ["bash", "curl"]);
    assert_eq!(rows_of(&store, "SELECT count(*) FROM processes.ancestors"), ["6"], "without any column");
}

#[test]
fn a_chain_ends_where_nothing_is_known_and_a_circle_at_the_limit() {
    let records = vec![child(5, 99, "orphan"), child(6, 7, "one"), child(7, 6, "other"), child(8, 8, "itself")];
    let (_directory, store) = told(records);
    let depths = "SELECT process_key, count(*), max(depth) FROM processes.ancestors GROUP BY process_key ORDER BY 1";
    let circle = |number| format!("{} 64 64", key(number));
    assert_eq!(rows_of(&store, depths), [circle(6), circle(7), circle(8)], "the parent of the orphan was never seen");
}

#[test]
fn ancestors_that_ended_long_ago_are_found_in_blocks() {
    let (_directory, store) = store();
    // Ten thousand short lives, the first of which is the grandparent of a process that runs.
    let lives = (1..=10_000_u32).flat_map(|number| {
        let at = MIDNIGHT + i64::from(number) * 1_000;
        let mut record = if number == 2 { child(2, 1, "second") } else { process(number, "short") };
        record.start_time = Some(at);
        let end = ProcessRecord { end_time: Some(at + 10), ..record.clone() };
        [seen(at, record), item(Item::Process(event(EventType::Exit, at + 10, end)))]
    });
    let lives: Vec<_> = lives.collect();
    let next = store.take(&[arrived(1, 1, lives)], 0).unwrap().next_row;
    store.take(&[arrived(2, 1, vec![seen(MIDNIGHT, child(20_000, 2, "late"))])], next).unwrap();
    let sealed = store.snapshot().unwrap().sizes().unwrap();
    assert!(sealed.iter().any(|size| size.table == "processes, ended" && size.rows >= 2), "{sealed:?}");
    let sql = format!("SELECT depth, name FROM processes.ancestors WHERE process_key = '{}' ORDER BY 1", key(20_000));
    assert_eq!(rows_of(&store, &sql), ["1 second", "2 short"]);
}
