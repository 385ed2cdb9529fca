//! Reading: everything as it was at one commit.

use super::append::decode;
use super::block::{head_batch, head_row, read_block};
use super::error::{InStore, StoreError};
use super::tables::{
    ALERTS, BLOCKS, BlockHeader, COLLECTORS, COLUMNS, COMMITTED, CURRENT, CollectorMemory, DELIVERIES, GAPS, HEAD,
    META, SCANS,
};
use crate::models::batch;
use crate::models::catalog::Table;
use crate::models::columns::{ALERT, Column, PROCESS};
use crate::models::event::{Epoch, IdentifiedEvent};
use crate::models::rows::{DELIVERY, GapRow, SCAN};
use crate::proto::common::ProcessRecord;
use arrow::array::RecordBatch;
use redb::{Key, Range, ReadOnlyTable, ReadTransaction, ReadableTable as _, TableDefinition};
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
pub struct Snapshot {
    read: Arc<ReadTransaction>,
    path: PathBuf,
}

impl Snapshot {
    pub(super) fn new(read: ReadTransaction, path: PathBuf) -> Self {
        Self { read: Arc::new(read), path }
    }

    /// Some columns of the events whose block may hold times of the range.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn events(&self, projection: &[usize], range: TimeRange) -> Result<Rows, StoreError> {
        let path = self.path.clone();
        let mut blocks = Vec::new();
        for entry in self.open(BLOCKS)?.iter().in_store(&path)? {
            let (first, header) = entry.in_store(&path)?;
            let header: BlockHeader = decode(&path, "a block's header", header.value())?;
            if range.overlaps(header.min_time, header.max_time) {
                blocks.push((first.value(), header));
            }
        }
        let columns = self.open(COLUMNS)?;
        let mut head = self.open(HEAD)?.range::<u64>(..).in_store(&path)?;
        let projection = projection.to_vec();
        let head_projection = projection.clone();
        let head_path = path.clone();
        let sealed =
            blocks.into_iter().map(move |(first, header)| read_block(&columns, &path, first, header, &projection));
        let fresh = std::iter::from_fn(move || {
            let rows = piece(&mut head, BATCH_ROWS, |_, bytes| head_row(&head_path, bytes), &head_path)?;
            Some(rows.and_then(|rows| head_batch(&head_path, &rows, &head_projection)))
        });
        Ok(Box::new(sealed.chain(fresh)))
    }

    /// Processes: all, or the one of this key.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn processes(&self, projection: &[usize], key: Option<&str>) -> Result<Rows, StoreError> {
        match key {
            None => self.records(CURRENT, Table::Processes, PROCESS, projection),
            Some(key) => {
                let found = self.open(CURRENT)?.get(key).in_store(&self.path)?;
                let record: Option<ProcessRecord> =
                    found.map(|bytes| decode(&self.path, "a process", bytes.value())).transpose()?;
                let batch = batch::batch_of(Table::Processes, PROCESS, projection, record.iter())
                    .map_err(|error| StoreError::damaged(&self.path, error.to_string()));
                Ok(Box::new(std::iter::once(batch)))
            }
        }
    }

    /// Scans.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn scans(&self, projection: &[usize]) -> Result<Rows, StoreError> {
        self.records(SCANS, Table::Scans, SCAN, projection)
    }

    /// Alerts.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn alerts(&self, projection: &[usize]) -> Result<Rows, StoreError> {
        self.records(ALERTS, Table::Alerts, ALERT, projection)
    }

    /// Deliveries.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn deliveries(&self, projection: &[usize]) -> Result<Rows, StoreError> {
        self.records(DELIVERIES, Table::Deliveries, DELIVERY, projection)
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
        let range = table.range((collector, [0; 16])..=(collector, [u8::MAX; 16])).in_store(&self.path)?;
        range
            .map(|entry| {
                let (key, sequence) = entry.in_store(&self.path)?;
                Ok((Epoch(key.value().1), sequence.value()))
            })
            .collect()
    }

    /// Until when what the collector saw is committed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn observed_until(&self, collector: &str) -> Result<Option<i64>, StoreError> {
        let table = self.open(COLLECTORS)?;
        let memory = table.get(collector).in_store(&self.path)?;
        let memory: Option<CollectorMemory> =
            memory.map(|bytes| decode(&self.path, "a collector", bytes.value())).transpose()?;
        Ok(memory.and_then(|memory| memory.observed_until))
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
        let mut head = self.open(HEAD)?.range(from..).in_store(&self.path)?;
        let mut next = from;
        let decode = |row: u64, bytes: &[u8]| {
            next = row + 1;
            head_row(&self.path, bytes)
        };
        let events = piece(&mut head, limit, decode, &self.path).transpose()?.unwrap_or_default();
        Ok((events, next))
    }

    fn open<K: Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, StoreError> {
        self.read.open_table(table).in_store(&self.path)
    }

    /// Some columns of a table of encoded records.
    fn records<K: Key + Send + 'static, R: prost::Message + Default + Send + 'static>(
        &self,
        definition: TableDefinition<'static, K, &'static [u8]>,
        table: Table,
        columns: &'static [Column<R>],
        projection: &[usize],
    ) -> Result<Rows, StoreError> {
        let path = self.path.clone();
        let mut entries = self.open(definition)?.range::<K::SelfType<'_>>(..).in_store(&path)?;
        let projection = projection.to_vec();
        Ok(Box::new(std::iter::from_fn(move || {
            let records = piece(&mut entries, BATCH_ROWS, |_, bytes| decode::<R>(&path, "a record", bytes), &path)?;
            let batch = records.and_then(|records| {
                batch::batch_of(table, columns, &projection, records.iter())
                    .map_err(|error| StoreError::damaged(&path, error.to_string()))
            });
            Some(batch)
        })))
    }
}

/// The next records, at most `limit` and not many more bytes than a batch may have; nothing at the end.
fn piece<K: Key + 'static, R>(
    entries: &mut Range<'_, K, &'static [u8]>,
    limit: usize,
    mut decode: impl FnMut(K::SelfType<'_>, &[u8]) -> Result<R, StoreError>,
    path: &Path,
) -> Option<Result<Vec<R>, StoreError>> {
    let mut records = Vec::new();
    let mut bytes = 0;
    while records.len() < limit && bytes < BATCH_BYTES {
        let Some(entry) = entries.next() else { break };
        let record = entry.in_store(path).and_then(|(key, value)| {
            bytes += value.value().len();
            decode(key.value(), value.value())
        });
        match record {
            Ok(record) => records.push(record),
            Err(error) => return Some(Err(error)),
        }
    }
    (!records.is_empty()).then_some(Ok(records))
}
