//! Records, stores and a source of rows for the tests.

use arrow::array::RecordBatch;
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::detection::query::{Answer, Parameter, Queries, QueryError, rows};
use daemoneye_lib::detection::source::{Batches, SourceError, TableSource, Wanted};
use daemoneye_lib::models::batch::{batch_of, build};
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::columns::{ALERT, PROCESS, event_value};
use daemoneye_lib::models::domain::Domain;
use daemoneye_lib::models::event::{Epoch, Event, IdentifiedEvent};
use daemoneye_lib::models::rows::{GAP, GapRow};
use daemoneye_lib::models::time;
use daemoneye_lib::proto::common::{Alert, EventType, ProcessEvent, ProcessRecord};
use daemoneye_lib::proto::ipc::{Cell, CollectedItem, ResultColumn, ScanSummary, cell, collected_item::Item};
use daemoneye_lib::storage::{Appended, Arrived, Evaluated, Snapshot, Store, StoreError, TimeRange, Understood};
use prost::Message as _;
use std::ops::Deref;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

pub(crate) const COLLECTOR: &str = "procmond";
/// 2024-01-01 00:00:00 UTC.
pub(crate) const MIDNIGHT: i64 = 1_704_067_200_000_000_000;
pub(crate) const MINUTE: i64 = 60_000_000_000;

/// A process key that is made of a number.
pub(crate) fn key(number: u64) -> String {
    format!("{number:032x}")
}

/// A process of which little is known.
pub(crate) fn process(number: u32, name: &str) -> ProcessRecord {
    ProcessRecord {
        process_key: key(number.into()),
        pid: number,
        name: Some(name.to_owned()),
        source: "poll".to_owned(),
        collection_time: MIDNIGHT,
        ..ProcessRecord::default()
    }
}

pub(crate) fn event(kind: EventType, event_time: i64, process: ProcessRecord) -> ProcessEvent {
    ProcessEvent { event_type: kind.into(), event_time, process: Some(process) }
}

pub(crate) fn identified(events: impl IntoIterator<Item = impl Into<Event>>) -> Vec<IdentifiedEvent> {
    let named = events.into_iter().enumerate().map(|(index, event)| (format!("e-{}", index + 1), event.into()));
    named.map(|(event_id, event)| IdentifiedEvent { event_id, event }).collect()
}

pub(crate) fn item(item: Item) -> Vec<u8> {
    CollectedItem { item: Some(item) }.encode_to_vec()
}

pub(crate) fn seen(event_time: i64, process: ProcessRecord) -> Vec<u8> {
    item(Item::Process(event(EventType::Seen, event_time, process)))
}

pub(crate) fn scan(scan_id: u64, started: i64, full: bool) -> Vec<u8> {
    item(Item::Scan(ScanSummary { scan_id, started, finished: started + 1, full, ..ScanSummary::default() }))
}

pub(crate) fn arrived(epoch: u8, first_sequence: u64, items: Vec<Vec<u8>>) -> Arrived {
    Arrived {
        collector: COLLECTOR.to_owned(),
        domains: [Domain::Process].into_iter().collect(),
        epoch: Epoch([epoch; 16]),
        first_sequence,
        items,
    }
}

/// What a store made of batches, and their new events.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) events: Vec<IdentifiedEvent>,
    appended: Appended,
}

impl Deref for Taken {
    type Target = Appended;

    fn deref(&self) -> &Appended {
        &self.appended
    }
}

/// Takes batches as they arrive, where only the rows before one have been through the rules.
pub(crate) trait Take {
    fn take(&self, batches: &[Arrived], evaluated: u64) -> Result<Taken, StoreError>;
}

impl Take for Store {
    fn take(&self, batches: &[Arrived], evaluated: u64) -> Result<Taken, StoreError> {
        let understood: Vec<Understood> = batches.iter().cloned().map(Understood::from).collect();
        let appended = self.append(&understood, Evaluated::Before(evaluated))?;
        let new = understood.iter().zip(&appended.stored).flat_map(|(batch, new)| {
            let all = batch.events_after(0);
            all[all.len() - usize::try_from(*new).unwrap()..].iter().cloned()
        });
        Ok(Taken { events: new.collect(), appended })
    }
}

/// A store in a directory that lives as long as it does.
pub(crate) fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&directory.path().join("events.redb")).unwrap();
    (directory, store)
}

/// Every column of `processes.events`, in order.
pub(crate) fn all_columns() -> Vec<usize> {
    (0..Table::ProcessEvents.columns().len()).collect()
}

/// All events of the store in one batch, all columns.
pub(crate) fn stored(snapshot: &Snapshot) -> RecordBatch {
    let batches: Vec<_> = snapshot.events(&all_columns(), TimeRange::ALL).unwrap().map(Result::unwrap).collect();
    let schema = daemoneye_lib::models::batch::schema(Table::ProcessEvents, None);
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

/// The same of events in memory.
pub(crate) fn shown(events: &[IdentifiedEvent]) -> RecordBatch {
    build(Table::ProcessEvents, &all_columns(), events.iter(), event_value).unwrap()
}

/// The ids of all events of the store.
pub(crate) fn ids(snapshot: &Snapshot) -> Vec<String> {
    let batches = snapshot.events(&[0], TimeRange::ALL).unwrap().map(Result::unwrap);
    batches.flat_map(|batch| rows(&batch)).map(|row| cell_text(&row.cells[0])).collect()
}

/// One column of `processes.current`, by process key.
pub(crate) fn current(snapshot: &Snapshot, column: &str) -> Vec<String> {
    let index = PROCESS.iter().position(|own| own.name == column).unwrap();
    let batches = snapshot.processes(&[index], None).unwrap().map(Result::unwrap);
    batches.flat_map(|batch| rows(&batch)).map(|row| cell_text(&row.cells[0])).collect()
}

/// Rows in memory, as a query sees them.
#[derive(Default)]
pub(crate) struct Fixed {
    pub(crate) events: Vec<IdentifiedEvent>,
    pub(crate) processes: Vec<ProcessRecord>,
    pub(crate) gaps: Vec<GapRow>,
    pub(crate) alerts: Vec<Alert>,
}

impl TableSource for Fixed {
    fn scan(&self, table: Table, wanted: &Wanted) -> Result<Batches, SourceError> {
        let columns = wanted.projection.as_slice();
        let batch = match table {
            Table::ProcessEvents => build(table, columns, self.events.iter(), event_value)?,
            Table::Processes => batch_of(table, PROCESS, columns, self.processes.iter())?,
            Table::Gaps => batch_of(table, GAP, columns, self.gaps.iter())?,
            Table::Alerts => batch_of(table, ALERT, columns, self.alerts.iter())?,
            _ => return Ok(Box::new(std::iter::empty())),
        };
        Ok(Box::new(std::iter::once(Ok(batch))))
    }
}

/// A stored snapshot, as a query sees it.
pub(crate) struct Stored(pub(crate) Snapshot);

impl TableSource for Stored {
    fn scan(&self, table: Table, wanted: &Wanted) -> Result<Batches, SourceError> {
        let range = TimeRange { from: wanted.from, to: wanted.to };
        let rows = self.0.rows(table, &wanted.projection, range, &wanted.conditions)?;
        let rows = rows.ok_or_else(|| format!("{table:?} is not in the store"))?;
        Ok(Box::new(rows.map(|batch| batch.map_err(SourceError::from))))
    }
}

/// The rows that a query has over a store, their cells joined by blanks.
pub(crate) fn rows_of(store: &Store, sql: &str) -> Vec<String> {
    let source = Arc::new(Stored(store.snapshot().unwrap()));
    let answer = ask_of(source, sql, &Parameters::default()).unwrap_or_else(|error| panic!("{sql}: {error}"));
    answer.rows.iter().map(|row| row.iter().map(cell_text).collect::<Vec<_>>().join(" ")).collect()
}

/// A small host: systemd (1), kthreadd (2), nginx (100), its shell (200) and a SHELL in capitals (300) of unknown parent.
pub(crate) fn host() -> Fixed {
    let mut systemd = process(1, "systemd");
    systemd.ppid = Some(0);
    systemd.executable_path = Some("/usr/lib/systemd/systemd".to_owned());
    systemd.command_line = Some("/sbin/init splash".to_owned());
    systemd.start_time = Some(MIDNIGHT - MINUTE);
    systemd.file_exists = Some(true);
    systemd.cpu_usage = Some(0.5);
    let mut kthreadd = process(2, "kthreadd");
    kthreadd.ppid = Some(0);
    let mut nginx = process(100, "nginx");
    nginx.parent_key = Some(key(1));
    nginx.ppid = Some(1);
    nginx.executable_path = Some("/usr/sbin/nginx".to_owned());
    nginx.command_line = Some("nginx: master process".to_owned());
    nginx.file_exists = Some(false);
    nginx.cpu_usage = Some(2.25);
    nginx.namespaces.insert("pid".to_owned(), 7);
    let mut shell = process(200, "sh");
    shell.parent_key = Some(key(100));
    shell.ppid = Some(100);
    shell.executable_path = Some("/usr/bin/dash".to_owned());
    shell.command_line = Some("sh -c id 50%_x".to_owned());
    shell.file_exists = Some(true);
    shell.start_time = Some(MIDNIGHT + MINUTE);
    let mut capitals = process(300, "SHELL");
    capitals.executable_path = Some("/tmp/.x".to_owned());
    let mut ended = shell.clone();
    ended.end_time = Some(MIDNIGHT + 2 * MINUTE);
    ended.exit_code = Some(1);
    let events = identified([
        event(EventType::Seen, MIDNIGHT, systemd.clone()),
        event(EventType::Seen, MIDNIGHT, kthreadd.clone()),
        event(EventType::Seen, MIDNIGHT + 1_500, nginx.clone()),
        event(EventType::Exec, MIDNIGHT + MINUTE, shell),
        event(EventType::Exit, MIDNIGHT + 2 * MINUTE, ended.clone()),
        event(EventType::Exec, time::now_ns() - MINUTE, capitals.clone()),
    ]);
    Fixed { events, processes: vec![systemd, kthreadd, nginx, ended, capitals], ..Fixed::default() }
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Queries with plenty of memory.
pub(crate) fn queries() -> Queries {
    Queries::new(64 << 20).unwrap()
}

/// Columns and rows of a query.
pub(crate) struct Answered {
    pub(crate) columns: Vec<ResultColumn>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

pub(crate) async fn collect(mut answer: Answer) -> Result<Answered, QueryError> {
    let columns = answer.columns().to_vec();
    let mut all = Vec::new();
    while let Some(batch) = answer.next().await {
        all.extend(rows(&batch?).into_iter().map(|row| row.cells));
    }
    Ok(Answered { columns, rows: all })
}

pub(crate) fn ask_of(source: Arc<dyn TableSource>, sql: &str, parameters: &Parameters) -> Result<Answered, QueryError> {
    runtime().block_on(async { collect(queries().run(sql, parameters, source).await?).await })
}

pub(crate) fn cell_text(cell: &Cell) -> String {
    match &cell.value {
        None => "NULL".to_owned(),
        Some(cell::Value::Text(text)) => text.clone(),
        Some(cell::Value::Integer(number)) => number.to_string(),
        Some(cell::Value::Real(number)) => format!("{number:?}"),
    }
}

/// The rows of a query over [`host`]: cells joined by `|`, rows by `; `; an error as itself.
pub(crate) fn ask(sql: &str) -> String {
    ask_with(sql, &Parameters::default())
}

pub(crate) fn ask_with(sql: &str, parameters: &Parameters) -> String {
    match ask_of(Arc::new(host()), sql, parameters) {
        Ok(result) => {
            let row = |cells: &Vec<Cell>| cells.iter().map(cell_text).collect::<Vec<_>>().join("|");
            result.rows.iter().map(row).collect::<Vec<_>>().join("; ")
        }
        Err(error) => format!("error: {error}"),
    }
}

/// Asserts what queries answer, all of them before it fails.
pub(crate) fn assert_answers(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(sql, expected)| (sql, expected, ask(sql)))
        .filter(|(_, expected, answered)| *expected != answered)
        .map(|(sql, expected, answered)| format!("{sql}\n  expected {expected}\n  answered {answered}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

pub(crate) fn text(text: &str) -> Parameter {
    Parameter::Text(text.to_owned())
}

pub(crate) fn positional(values: impl IntoIterator<Item = Parameter>) -> Parameters {
    Parameters { positional: values.into_iter().collect(), ..Parameters::default() }
}

/// Runs on a stack as large as the one on which the agent plans.
pub(crate) fn on_planning_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(8 << 20).spawn(work).unwrap().join().unwrap()
}
