//! Events of every domain are stored, found, sealed, dropped and evaluated in the same way, and come from who may tell them.

use crate::fixture::{
    COLLECTOR, MIDNIGHT, MINUTE, Take as _, arrived, cell_text, current, item, key, process, runtime, scan, seen, store,
};
use daemoneye_lib::detection::query::rows;
use daemoneye_lib::detection::rules::load_dir;
use daemoneye_lib::detection::standing::DetectionEngine;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::condition::{Condition, Test};
use daemoneye_lib::models::domain::Domain;
use daemoneye_lib::models::event::{Epoch, Event};
use daemoneye_lib::proto::common::{
    FilesystemEvent, NetworkEvent, NetworkEventType, PerformanceSample, SecurityEvent, SecurityEventType,
};
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::proto::ipc::{DetectionTask, TriggerRequest};
use daemoneye_lib::storage::{Arrived, Extent, Keep, MAX_TRIGGERS, Snapshot, Store, TimeRange};
use std::fs;

/// What a collector of everything sends.
fn everything(epoch: u8, first_sequence: u64, items: Vec<Vec<u8>>) -> Arrived {
    Arrived { domains: Domain::ALL.into_iter().collect(), ..arrived(epoch, first_sequence, items) }
}

fn connection(number: u32) -> NetworkEvent {
    NetworkEvent {
        event_type: NetworkEventType::Connect.into(),
        event_time: MIDNIGHT + i64::from(number) * MINUTE,
        process_key: Some(key(u64::from(number % 50))),
        pid: Some(number % 50),
        name: Some("curl".to_owned()),
        remote_address: Some(format!("192.0.2.{}", number % 250)),
        remote_port: Some(number),
        source: "test".to_owned(),
        ..NetworkEvent::default()
    }
}

fn write(number: u32) -> FilesystemEvent {
    FilesystemEvent {
        event_type: 2,
        event_time: MIDNIGHT + i64::from(number) * MINUTE,
        path: format!("/tmp/{number}"),
        ..FilesystemEvent::default()
    }
}

fn sample(number: u32) -> PerformanceSample {
    PerformanceSample {
        event_time: MIDNIGHT + i64::from(number) * MINUTE,
        scope: "system".to_owned(),
        metric: "load_1m".to_owned(),
        value: f64::from(number) / 4.0,
        ..PerformanceSample::default()
    }
}

fn trace(number: u32) -> SecurityEvent {
    SecurityEvent {
        event_type: SecurityEventType::Ptrace.into(),
        event_time: MIDNIGHT + i64::from(number) * MINUTE,
        process_key: Some(key(u64::from(number % 50))),
        pid: Some(number % 50),
        name: Some("gdb".to_owned()),
        target_process_key: Some(key(u64::from(number))),
        target_pid: Some(number),
        source: "test".to_owned(),
        ..SecurityEvent::default()
    }
}

/// A column of the rows of a table that meet the conditions.
fn column(snapshot: &Snapshot, table: Table, name: &str, conditions: &[(&str, Test)]) -> Vec<String> {
    let place = |name: &str| table.columns().iter().position(|(own, _)| *own == name).unwrap();
    let conditions: Vec<_> =
        conditions.iter().map(|(name, test)| Condition { column: place(name), test: test.clone() }).collect();
    let batches = snapshot.events_where(table, &[place(name)], TimeRange::ALL, &conditions).unwrap();
    batches.map(Result::unwrap).flat_map(|batch| rows(&batch)).map(|row| cell_text(&row.cells[0])).collect()
}

fn count(store: &Store, table: Table) -> usize {
    column(&store.snapshot().unwrap(), table, "event_id", &[]).len()
}

const TABLES: [Table; 5] = [
    Table::ProcessEvents,
    Table::NetworkConnections,
    Table::FilesystemEvents,
    Table::PerformanceSamples,
    Table::SecurityEvents,
];

/// So many events of each domain, each in its turn, evaluated as they come.
fn filled(rounds: u32) -> (tempfile::TempDir, Store) {
    let (directory, store) = store();
    let (mut first, mut evaluated) = (1, 0);
    for chunk in (0..rounds).collect::<Vec<_>>().chunks(500) {
        let round = |number: &u32| {
            [
                seen(MIDNIGHT + i64::from(*number) * MINUTE, process(*number, "x")),
                item(Item::Network(connection(*number))),
                item(Item::Filesystem(write(*number))),
                item(Item::Performance(sample(*number))),
                item(Item::Security(trace(*number))),
            ]
        };
        let items: Vec<_> = chunk.iter().flat_map(round).collect();
        let sent = items.len() as u64;
        evaluated = store.take(&[everything(1, first, items)], evaluated).unwrap().next_row;
        first += sent;
    }
    store.commit_alerts(&[], &[], evaluated).unwrap();
    (directory, store)
}

#[test]
fn every_domain_is_kept_sealed_found_and_verified() {
    let (_directory, store) = filled(4_500);
    assert_eq!(TABLES.map(|table| count(&store, table)), [4_500; 5]);
    let snapshot = store.snapshot().unwrap();
    let sizes = snapshot.sizes().unwrap();
    for table in ["network.connections", "filesystem.events", "performance.samples", "security.events"] {
        let of = |part: &str| {
            let name = format!("{table}, {part}");
            sizes.iter().find(|size| size.table == name).unwrap().rows
        };
        assert_eq!(of("sealed") + of("fresh"), 4_500, "{table}");
        assert!(of("sealed") >= 4_000, "{table}: {}", of("sealed"));
    }
    let port = |ports: &[i64]| Test::Integers(ports.iter().copied().collect());
    let text = |text: &str| Test::Texts([text.to_owned()].into());
    let network = |name, conditions: &[(&str, Test)]| column(&snapshot, Table::NetworkConnections, name, conditions);
    // One in a block, one in the head.
    assert_eq!(network("remote_port", &[("remote_port", port(&[7, 4_499]))]), ["7", "4499"]);
    assert_eq!(network("event_type", &[("remote_port", port(&[7]))]), ["connect"]);
    assert_eq!(network("pid", &[("remote_address", text("192.0.2.9")), ("pid", port(&[9]))]).len(), 18);
    assert_eq!(network("pid", &[("process_key", text(&key(3)))]).len(), 90);
    assert_eq!(column(&snapshot, Table::FilesystemEvents, "path", &[("path", text("/tmp/12"))]), ["/tmp/12"]);
    let security = |name, conditions: &[(&str, Test)]| column(&snapshot, Table::SecurityEvents, name, conditions);
    assert_eq!(security("target_pid", &[("target_pid", port(&[7, 4_499]))]), ["7", "4499"]);
    assert_eq!(security("event_type", &[("target_process_key", text(&key(7)))]), ["ptrace"]);
    assert_eq!(security("count", &[("target_pid", port(&[7]))]), ["1"], "what says nothing stands for itself");
    let last = column(&snapshot, Table::PerformanceSamples, "value", &[]).pop().unwrap();
    assert_eq!(last, "1124.75");
    let verified = snapshot.verify(Extent::All).unwrap();
    assert_eq!(verified.problems, Vec::<String>::new());
}

#[test]
fn what_waits_for_the_rules_comes_in_the_order_of_its_arrival() {
    let (_directory, store) = store();
    let items = vec![
        item(Item::Network(connection(1))),
        seen(MIDNIGHT, process(2, "x")),
        item(Item::Network(connection(3))),
        item(Item::Performance(sample(4))),
        item(Item::Filesystem(write(5))),
    ];
    let appended = store.take(&[everything(1, 1, items)], 0).unwrap();
    assert_eq!(appended.events.len(), 5);
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.unevaluated(100).unwrap(), (appended.events.clone(), 5));
    let (first, next) = snapshot.unevaluated(2).unwrap();
    assert_eq!((first.as_slice(), next), (&appended.events[..2], 2));
    store.commit_alerts(&[], &[], next).unwrap();
    let (rest, next) = store.snapshot().unwrap().unevaluated(100).unwrap();
    assert_eq!((rest.as_slice(), next), (&appended.events[2..], 5));
    assert_eq!(store.snapshot().unwrap().verify(Extent::All).unwrap().problems, Vec::<String>::new());
}

#[test]
fn retention_drops_each_table_and_remembers_it() {
    let (_directory, store) = filled(4_500);
    let since = MIDNIGHT + 3_000 * MINUTE;
    let removed = store.prune(Keep { since: Some(since), ..Keep::default() }, false).unwrap();
    let left: usize = TABLES.iter().map(|table| count(&store, *table)).sum();
    assert_eq!(left as u64 + removed.events, 5 * 4_500);
    for table in TABLES {
        assert!(count(&store, table) < 3_600, "{table:?}: {}", count(&store, table));
        let until = store.snapshot().unwrap().removed_until(table).unwrap();
        assert!(until.is_some_and(|until| until < since && until > MIDNIGHT + 1_900 * MINUTE), "{table:?}: {until:?}");
    }
    store.prune(Keep { since: Some(i64::MAX), ..Keep::default() }, false).unwrap();
    assert_eq!(TABLES.map(|table| count(&store, table)), [0; 5]);
    assert_eq!(store.snapshot().unwrap().verify(Extent::All).unwrap().problems, Vec::<String>::new());
}

#[test]
fn an_item_of_a_domain_that_was_not_registered_is_a_gap() {
    let (_directory, store) = store();
    let network = Arrived {
        domains: [Domain::Network].into_iter().collect(),
        ..arrived(
            1,
            1,
            vec![seen(MIDNIGHT, process(1, "x")), item(Item::Network(connection(1))), scan(1, MIDNIGHT, true)],
        )
    };
    let appended = store.take(&[network], 0).unwrap();
    assert_eq!(appended.events.len(), 1);
    assert!(matches!(appended.events[0].event, Event::Network(_)));
    assert_eq!(appended.committed[0].2, 3, "it is taken, so that it does not come again");
    let reasons: Vec<_> = appended.gaps.iter().map(|row| (row.gap.kind.as_str(), row.gap.reason.as_str())).collect();
    let why = "the collector sent an item of the domain \"process\", which it has not registered";
    assert_eq!(reasons, [("undecodable", why), ("undecodable", why)]);
    let keyless = NetworkEvent { process_key: Some("../x".to_owned()), ..connection(1) };
    let appended = store.take(&[everything(2, 1, vec![item(Item::Network(keyless))])], 0).unwrap();
    assert!(appended.gaps.iter().any(|row| row.gap.reason.contains("process key")), "{:?}", appended.gaps);
    let targetless = SecurityEvent { target_process_key: Some("../x".to_owned()), ..trace(1) };
    let appended = store.take(&[everything(2, 2, vec![item(Item::Security(targetless))])], 0).unwrap();
    assert!(appended.gaps.iter().any(|row| row.gap.reason.contains("whose target")), "{:?}", appended.gaps);
    let domains = store.snapshot().unwrap().domains(COLLECTOR).unwrap();
    assert!(domains.contains(Domain::Trigger) && domains.contains(Domain::Security));
}

#[test]
fn a_full_scan_ends_only_what_its_own_collector_told() {
    let (_directory, store) = store();
    let of = |collector: &str, epoch, items| Arrived { collector: collector.to_owned(), ..arrived(epoch, 1, items) };
    store.take(&[of("a", 1, vec![seen(MIDNIGHT, process(1, "x")), seen(MIDNIGHT, process(2, "y"))])], 0).unwrap();
    let later = MIDNIGHT + MINUTE;
    store.take(&[of("b", 2, vec![seen(MIDNIGHT, process(3, "z")), scan(1, later, true)])], 0).unwrap();
    let ends = || current(&store.snapshot().unwrap(), "end_time");
    assert_eq!(
        ends().iter().filter(|end| *end != "NULL").count(),
        1,
        "its own, which it did not announce: {:?}",
        ends()
    );
    // Who told last of a process knows whether it still runs.
    let mut known = process(2, "y");
    known.collection_time = later;
    let takes_over = of("c", 3, vec![seen(later, known), scan(1, later + MINUTE, true)]);
    store.take(&[takes_over], 0).unwrap();
    assert_eq!(ends().iter().filter(|end| *end != "NULL").count(), 2, "{:?}", ends());
    store.take(&[of("a", 4, vec![scan(2, later + 2 * MINUTE, true)])], 0).unwrap();
    assert_eq!(ends().iter().filter(|end| *end != "NULL").count(), 3, "{:?}", ends());
}

#[test]
fn a_trigger_is_taken_once_and_what_became_of_it_is_kept() {
    let (_directory, store) = store();
    let trigger = |id: &str| {
        let task = Some(DetectionTask::default());
        item(Item::Trigger(TriggerRequest {
            trigger_id: id.to_owned(),
            target: "procmond".to_owned(),
            task,
            requested_at: MIDNIGHT,
            ..TriggerRequest::default()
        }))
    };
    let first = store.take(&[everything(1, 1, vec![trigger("t-1"), trigger("t-1"), trigger("t-2")])], 0).unwrap();
    assert_eq!(first.triggers.len(), 2);
    // Another spool, the same trigger.
    let again = store.take(&[everything(2, 1, vec![trigger("t-1"), trigger("")])], 0).unwrap();
    assert_eq!(again.triggers, []);
    assert!(again.gaps.iter().any(|row| row.gap.reason.contains("a trigger whose id")), "{:?}", again.gaps);
    let mut row = first.triggers[0].clone();
    row.status = "done".to_owned();
    store.settle_trigger(&row).unwrap();
    let due = store.snapshot().unwrap().due_triggers().unwrap();
    assert_eq!(due, first.triggers[1..]);

    let many: Vec<_> = (0..MAX_TRIGGERS).map(|number| trigger(&format!("m-{number}"))).collect();
    store.take(&[everything(3, 1, many)], 0).unwrap();
    let all = store.snapshot().unwrap().triggers(&[0]).unwrap();
    assert_eq!(all.map(|batch| batch.unwrap().num_rows() as u64).sum::<u64>(), MAX_TRIGGERS);
    store.settle_trigger(&row).unwrap();
    assert_eq!(
        store.snapshot().unwrap().due_triggers().unwrap().len() as u64,
        MAX_TRIGGERS,
        "what was pushed out is gone"
    );
}

#[test]
fn a_standing_rule_looks_at_the_events_of_its_own_table() {
    let directory = tempfile::tempdir().unwrap();
    let rule = |id: &str, sql: &str, rest: &str| {
        let text = format!("id = \"{id}\"\ntitle = \"t\"\nseverity = \"low\"\nsql = \"{sql}\"\n{rest}");
        fs::write(directory.path().join(format!("{id}.toml")), text).unwrap();
    };
    rule(
        "net",
        "SELECT remote_address FROM network.connections WHERE remote_port = 3",
        "[[exceptions]]\nwhere = \"remote_address = '192.0.2.77'\"\nreason = \"ours\"\n",
    );
    rule("file", "SELECT path FROM filesystem.events AS f WHERE f.path LIKE '/tmp/%'", "dedup = [\"path\"]\n");
    rule("load", "SELECT value FROM performance.samples WHERE metric = 'load_1m' AND value > 0.9", "");
    rule("trace", "SELECT pid, target_pid FROM security.events WHERE event_type = 'ptrace' AND target_pid = 4", "");
    rule("process", "SELECT name FROM processes WHERE name = 'x'", "");
    rule("wrong", "SELECT remote_port FROM processes.events", "");
    let engine = DetectionEngine::new(runtime().block_on(load_dir(directory.path())).unwrap());
    let states = |state: &str| -> Vec<String> {
        engine.record().rules().into_iter().filter(|row| row.state == state).map(|row| row.rule_id).collect()
    };
    assert_eq!(states("refused"), ["wrong"]);
    let excepted = NetworkEvent { remote_address: Some("192.0.2.77".to_owned()), ..connection(3) };
    let items = vec![
        item(Item::Network(connection(3))),
        item(Item::Network(excepted)),
        item(Item::Network(connection(4))),
        item(Item::Filesystem(write(5))),
        item(Item::Performance(sample(3))),
        item(Item::Performance(sample(4))),
        seen(MIDNIGHT, process(2, "x")),
        item(Item::Security(trace(3))),
        item(Item::Security(trace(4))),
    ];
    let (_directory, store) = store();
    let appended = store.take(&[everything(1, 1, items)], 0).unwrap();
    let findings = engine.execute_rules(&appended.events, &[]);
    assert_eq!(findings.failed, []);
    let id = |index: usize| format!("{}-{index}", Epoch([1; 16]));
    let mut found: Vec<_> =
        findings.found.iter().map(|(rule, found)| (rule.id.as_str(), found.event_id.clone())).collect();
    found.sort_unstable();
    assert_eq!(found, [("file", id(4)), ("load", id(6)), ("net", id(1)), ("process", id(7)), ("trace", id(9))]);
    let trace = &findings.found.iter().find(|(rule, _)| rule.id == "trace").unwrap().1;
    assert_eq!((trace.pid, trace.process_key.clone(), trace.name.as_deref()), (4, key(4), Some("gdb")));
    let net = &findings.found.iter().find(|(rule, _)| rule.id == "net").unwrap().1;
    assert_eq!((net.pid, net.process_key.clone(), net.name.as_deref()), (3, key(3), Some("curl")));
    let rows = |rule: &str| engine.record().rules().into_iter().find(|row| row.rule_id == rule).unwrap().rows;
    assert_eq!((rows("net"), rows("file"), rows("process")), (3, 1, 1));
}
