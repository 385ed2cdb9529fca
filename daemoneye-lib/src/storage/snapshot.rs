//! Reading: everything as it was at one commit.

use super::append::{decode, epochs_of};
use super::damage::Damage;
use super::error::{InStore, StoreError};
use super::head::{self, events_of, events_where, run, run_with};
use super::read::Blocks;
use super::series::{self, EVENTS, Series};
use super::sieve::Sieve;
use super::tables::{
    ALERTS, COLLECTORS, COMMITTED, CURRENT, CollectorMemory, DELIVERIES, GAPS, META, REVIVED, SCANS, TRIGGERS,
};
use crate::models::batch;
use crate::models::catalog::Table;
use crate::models::columns::{ALERT, Column, PROCESS, event_value, value};
use crate::models::condition::{Condition, Test};
use crate::models::domain::Domains;
use crate::models::event::{Epoch, IdentifiedEvent};
use crate::models::rows::{DELIVERY, GapRow, SCAN, TRIGGER};
use crate::proto::common::ProcessRecord;
use arrow::array::RecordBatch;
use redb::{Key, Range, ReadOnlyTable, ReadTransaction, ReadableTable as _, TableDefinition};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of a batch that is decoded from records.
const BATCH_ROWS: usize = 1_024;
/// Encoded bytes after which a batch is full: command lines may be long.
const BATCH_BYTES: usize = 8 << 20;

/// Batches of rows, read as they are asked for.
pub type Rows = Box<dyn Iterator<Item = Result<RecordBatch, StoreError>> + Send>;

/// Times from and to which a query looks, both included; nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// Nothing before is wanted.
    pub from: i64,
    /// Nothing after is wanted.
    pub to: i64,
}

impl TimeRange {
    /// All times.
    pub const ALL: Self = Self { from: i64::MIN, to: i64::MAX };

    /// Whether a stretch lies in it, even in part.
    pub const fn overlaps(self, from: i64, to: i64) -> bool {
        from <= self.to && to >= self.from
    }
}

/// The store as it was at one commit.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) read: Arc<ReadTransaction>,
    pub(super) path: PathBuf,
    damage: Damage,
}

impl Snapshot {
    pub(super) fn new(read: ReadTransaction, path: PathBuf, damage: Damage) -> Self {
        Self { read: Arc::new(read), path, damage }
    }

    /// Some columns of the events of processes whose block may hold times of the range.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn events(&self, projection: &[usize], range: TimeRange) -> Result<Rows, StoreError> {
        self.events_where(Table::ProcessEvents, projection, range, &[])
    }

    /// Some columns of the events of a table that meet all conditions; of a table that has no events nothing.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn events_where(
        &self,
        table: Table,
        projection: &[usize],
        range: TimeRange,
        conditions: &[Condition],
    ) -> Result<Rows, StoreError> {
        let Some(names) = series::of_events(table) else { return Ok(Box::new(std::iter::empty())) };
        let series = names.series;
        let sealed = Blocks::of(&self.read, &self.path, series, (range.from, range.to), conditions.to_vec())?;
        let mut runs = self.open(names.head)?.range::<u64>(..).in_store(&self.path)?;
        let (path, projection) = (self.path.clone(), projection.to_vec());
        let head_projection = projection.clone();
        let sieve = Sieve::new(series, conditions);
        let fresh = std::iter::from_fn(move || {
            let rows = events_in(&mut runs, range, &sieve, &path).transpose()?;
            Some(rows.and_then(|rows| head::batch_of(&path, series, &rows, &head_projection)))
        });
        Ok(self.damage.watched(&self.path, sealed.read(projection).chain(fresh)))
    }

    /// Who is told of damage.
    pub(super) const fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Processes: all, or the one of this key.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn processes(&self, projection: &[usize], key: Option<&str>) -> Result<Rows, StoreError> {
        let column = PROCESS.iter().position(|column| column.name == "process_key");
        let only = |key: &str| Test::Texts(BTreeSet::from([key.to_owned()]));
        let condition = column.zip(key).map(|(column, key)| Condition { column, test: only(key) });
        self.processes_where(projection, condition.as_slice())
    }

    /// Processes that meet all conditions.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn processes_where(&self, projection: &[usize], conditions: &[Condition]) -> Result<Rows, StoreError> {
        let is_key = |column: usize| PROCESS.get(column).is_some_and(|column| column.name == "process_key");
        let keys = conditions.iter().find_map(|condition| match &condition.test {
            Test::Texts(keys) if is_key(condition.column) => Some(keys),
            _ => None,
        });
        let table = self.open(CURRENT)?;
        let sieve = Sieve::new(Series::Ended, conditions);
        let present: Rows = match keys {
            None => self.records(CURRENT, Table::Processes, PROCESS, projection, sieve)?,
            Some(keys) => {
                let mut records: Vec<ProcessRecord> = Vec::new();
                for key in keys {
                    let found = table.get(key.as_str()).in_store(&self.path)?;
                    records.extend(found.map(|bytes| decode(&self.path, "a process", bytes.value())).transpose()?);
                }
                let batch = batch::batch_of(Table::Processes, PROCESS, projection, records.iter())
                    .map_err(|error| StoreError::damaged(&self.path, error.to_string()));
                Box::new(std::iter::once(batch))
            }
        };
        let mut revived = BTreeSet::new();
        for entry in self.open(REVIVED)?.iter().in_store(&self.path)? {
            revived.insert(entry.in_store(&self.path)?.0.value().to_owned());
        }
        let ended = Blocks::of(&self.read, &self.path, Series::Ended, (i64::MIN, i64::MAX), conditions.to_vec())?;
        let key = PROCESS.iter().position(|column| column.name == "process_key").unwrap_or(0);
        let rows = present.chain(ended.without(key, revived).read(projection.to_vec()));
        Ok(self.damage.watched(&self.path, rows))
    }

    /// Scans.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn scans(&self, projection: &[usize]) -> Result<Rows, StoreError> {
        self.records(SCANS, Table::Scans, SCAN, projection, Sieve::default())
    }

    /// Alerts.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn alerts(&self, projection: &[usize]) -> Result<Rows, StoreError> {
        self.records(ALERTS, Table::Alerts, ALERT, projection, Sieve::default())
    }

    /// Deliveries.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn deliveries(&self, projection: &[usize]) -> Result<Rows, StoreError> {
        self.records(DELIVERIES, Table::Deliveries, DELIVERY, projection, Sieve::default())
    }

    /// Triggers.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn triggers(&self, projection: &[usize]) -> Result<Rows, StoreError> {
        self.records(TRIGGERS, Table::Triggers, TRIGGER, projection, Sieve::default())
    }

    /// Every recorded gap.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn gaps(&self) -> Result<Vec<GapRow>, StoreError> {
        let table = self.open(GAPS)?;
        let rows = table.iter().in_store(&self.path)?;
        rows.map(|entry| decode(&self.path, "a gap", entry.in_store(&self.path)?.1.value())).collect()
    }

    /// How many alerts there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn alert_count(&self) -> Result<u64, StoreError> {
        use redb::ReadableTableMetadata as _;
        self.open(ALERTS)?.len().in_store(&self.path)
    }

    /// What is committed of each epoch of the collector.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn committed(&self, collector: &str) -> Result<Vec<(Epoch, u64)>, StoreError> {
        let table = self.open(COMMITTED)?;
        let range = table.range(epochs_of(collector)).in_store(&self.path)?;
        range
            .map(|entry| {
                let (key, sequence) = entry.in_store(&self.path)?;
                Ok((Epoch(key.value().1), sequence.value().0))
            })
            .collect()
    }

    /// Until when what the collector saw is committed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn observed_until(&self, collector: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.memory(collector)?.and_then(|memory| memory.observed_until))
    }

    /// The domains of which the collector last told something; none for one that was never heard.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn domains(&self, collector: &str) -> Result<Domains, StoreError> {
        Ok(self.memory(collector)?.map_or_else(Domains::default, |memory| Domains::from_bits(memory.domains)))
    }

    fn memory(&self, collector: &str) -> Result<Option<CollectorMemory>, StoreError> {
        let table = self.open(COLLECTORS)?;
        let memory = table.get(collector).in_store(&self.path)?;
        memory.map(|bytes| decode(&self.path, "a collector", bytes.value())).transpose()
    }

    /// Through which row everything has been through the rules.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn evaluated(&self) -> Result<u64, StoreError> {
        let meta = self.open(META)?;
        Ok(meta.get("evaluated").in_store(&self.path)?.map_or(0, |row| row.value()))
    }

    /// Events that are stored and not yet evaluated, at most `limit` and a few megabytes of them, with the row number that
    /// follows the last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn unevaluated(&self, limit: usize) -> Result<(Vec<IdentifiedEvent>, u64), StoreError> {
        let from = self.evaluated()?;
        let mut heads = Vec::with_capacity(EVENTS.len());
        for series in &EVENTS {
            let head = self.open(series.head)?;
            let runs = head.range(run_with(&head, &self.path, from)?..).in_store(&self.path)?;
            heads.push(runs.peekable());
        }
        let mut events = Vec::new();
        let (mut bytes, mut next) = (0, from);
        while bytes < BATCH_BYTES {
            // The run with the smallest number, of whichever series; what cannot be read is met at once.
            let next_run = heads.iter_mut().filter_map(|runs| {
                let number = runs.peek()?.as_ref().map_or(0, |(first, _)| first.value());
                Some((number, runs))
            });
            let Some(entry) = next_run.min_by_key(|(number, _)| *number).and_then(|(_, runs)| runs.next()) else {
                break;
            };
            let (first, value) = entry.in_store(&self.path)?;
            let rows = (first.value()..).zip(events_of(&self.path, run(&self.path, value.value())?)?);
            for (row, event) in rows.filter(|(row, _)| *row >= from) {
                events.push(event);
                next = row + 1;
                if events.len() == limit {
                    return Ok((events, next));
                }
            }
            bytes += value.value().len();
        }
        Ok((events, next))
    }

    /// Every process of `current`.
    pub(super) fn records_of_current(&self, projection: &[usize]) -> Result<Rows, StoreError> {
        self.records(CURRENT, Table::Processes, PROCESS, projection, Sieve::default())
    }

    pub(super) fn open<K: Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, StoreError> {
        self.read.open_table(table).in_store(&self.path)
    }

    /// Some columns of the records of a table that pass.
    fn records<K: Key + Send + 'static, R: prost::Message + Default + Send + 'static>(
        &self,
        definition: TableDefinition<'static, K, &'static [u8]>,
        table: Table,
        columns: &'static [Column<R>],
        projection: &[usize],
        sieve: Sieve,
    ) -> Result<Rows, StoreError> {
        let path = self.path.clone();
        let mut entries = self.open(definition)?.range::<K::SelfType<'_>>(..).in_store(&path)?;
        let projection = projection.to_vec();
        Ok(self.damage.watched(
            &self.path,
            std::iter::from_fn(move || {
                let records = piece(&mut entries, &sieve, |bytes| decode::<R>(&path, "a record", bytes), &path)?;
                let batch = records.and_then(|records| {
                    let rows = records.iter().filter(|record| sieve.passes(|column| value(columns, record, column)));
                    batch::batch_of(table, columns, &projection, rows)
                        .map_err(|error| StoreError::damaged(&path, error.to_string()))
                });
                Some(batch)
            }),
        ))
    }
}

/// The events of the next runs that are of a time and pass, about as many as a batch should have, and not many more bytes than
/// it may have.
fn events_in(
    runs: &mut Range<'_, u64, &'static [u8]>,
    range: TimeRange,
    sieve: &Sieve,
    path: &Path,
) -> Result<Option<Vec<IdentifiedEvent>>, StoreError> {
    let mut events = Vec::new();
    let mut bytes = 0;
    let mut ended = true;
    while events.len() < BATCH_ROWS && bytes < BATCH_BYTES {
        let Some(entry) = runs.next() else { break };
        ended = false;
        let value = entry.in_store(path)?.1;
        bytes += value.value().len();
        let found = events_where(path, run(path, value.value())?, |item| sieve.may_pass(item))?;
        let passes = |event: &IdentifiedEvent| {
            let time = event.event.time();
            range.overlaps(time, time) && sieve.passes(|column| event_value(event, column))
        };
        events.extend(found.into_iter().filter(passes));
    }
    Ok((!ended).then_some(events))
}

/// The next records that may pass, at most a batch of them and not many more bytes than it may have; nothing at the end.
fn piece<K: Key + 'static, R>(
    entries: &mut Range<'_, K, &'static [u8]>,
    sieve: &Sieve,
    mut decode: impl FnMut(&[u8]) -> Result<R, StoreError>,
    path: &Path,
) -> Option<Result<Vec<R>, StoreError>> {
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut ended = true;
    while records.len() < BATCH_ROWS && bytes < BATCH_BYTES {
        let Some(entry) = entries.next() else { break };
        ended = false;
        let record = entry.in_store(path).and_then(|(_, value)| {
            bytes += value.value().len();
            sieve.may_pass(value.value()).then(|| decode(value.value())).transpose()
        });
        match record {
            Ok(record) => records.extend(record),
            Err(error) => return Some(Err(error)),
        }
    }
    (!ended).then_some(Ok(records))
}
