//! The head: events that have just arrived, as they came, in runs of some hundred.

use super::error::{InStore, StoreError};
use super::tables::HeadRun;
use crate::models::batch;
use crate::models::catalog::Table;
use crate::models::columns;
use crate::models::event::{Epoch, IdentifiedEvent, event_id};
use crate::proto::ipc::{CollectedItem, collected_item::Item};
use arrow::array::RecordBatch;
use prost::Message as _;
use redb::{ReadableTable, Table as WriteTable};
use std::path::Path;

/// Events of a run.
const RUN_ROWS: usize = 250;
/// Bytes after which a run is full.
const RUN_BYTES: usize = 512 << 10;

/// Collects events into runs.
pub(super) struct Runs<'t> {
    table: WriteTable<'t, u64, &'static [u8]>,
    run: HeadRun,
    bytes: usize,
    next_row: u64,
}

impl<'t> Runs<'t> {
    pub(super) fn new(table: WriteTable<'t, u64, &'static [u8]>, next_row: u64) -> Self {
        Self { table, run: HeadRun::default(), bytes: 0, next_row }
    }

    /// Adds an event by its encoded item, and returns the number of the row that follows.
    pub(super) fn add(&mut self, path: &Path, epoch: Epoch, sequence: u64, item: &[u8]) -> Result<u64, StoreError> {
        let full = self.run.items.len() >= RUN_ROWS || self.bytes >= RUN_BYTES;
        if full || self.run.epoch != epoch.0 {
            self.flush(path)?;
            self.run.epoch = epoch.0.to_vec();
        }
        self.run.sequences.push(sequence);
        self.run.items.push(item.to_vec());
        self.bytes += item.len();
        self.next_row += 1;
        Ok(self.next_row)
    }

    /// Writes what has been added.
    pub(super) fn flush(&mut self, path: &Path) -> Result<(), StoreError> {
        let run = std::mem::take(&mut self.run);
        self.bytes = 0;
        if run.items.is_empty() {
            return Ok(());
        }
        let first = self.next_row - run.items.len() as u64;
        self.table.insert(first, run.encode_to_vec().as_slice()).in_store(path)?;
        Ok(())
    }
}

/// Decodes a run.
pub(super) fn run(path: &Path, bytes: &[u8]) -> Result<HeadRun, StoreError> {
    let run = HeadRun::decode(bytes)
        .map_err(|error| StoreError::damaged(path, format!("a run of the head cannot be decoded: {error}")))?;
    if run.items.is_empty() || run.items.len() != run.sequences.len() {
        return Err(StoreError::damaged(path, "a run of the head has another number of sequences than of items"));
    }
    Ok(run)
}

/// The events of a run.
pub(super) fn events_of(path: &Path, run: HeadRun) -> Result<Vec<IdentifiedEvent>, StoreError> {
    events_where(path, run, |_| true)
}

/// The events of a run whose encoded items are wanted.
pub(super) fn events_where(
    path: &Path,
    run: HeadRun,
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Vec<IdentifiedEvent>, StoreError> {
    let damaged = |what: String| StoreError::damaged(path, format!("a run of the head: {what}"));
    let epoch = Epoch::try_from(run.epoch.as_slice()).map_err(|error| damaged(error.to_string()))?;
    run.sequences
        .iter()
        .zip(&run.items)
        .filter(|(_, item)| wanted(item))
        .map(|(sequence, item)| match CollectedItem::decode(item.as_slice()).map(|item| item.item) {
            Ok(Some(Item::Process(event))) => Ok(IdentifiedEvent { event_id: event_id(epoch, *sequence), event }),
            Ok(_) => Err(damaged("an item that is no event".to_owned())),
            Err(error) => Err(damaged(error.to_string())),
        })
        .collect()
}

/// The first row of the run in which this row is, or of the next run.
pub(super) fn run_with(
    head: &impl ReadableTable<u64, &'static [u8]>,
    path: &Path,
    row: u64,
) -> Result<u64, StoreError> {
    let before = head.range(..=row).in_store(path)?.next_back().transpose().in_store(path)?;
    Ok(before.map_or(row, |(first, _)| first.value()))
}

/// Some columns of rows that are not sealed, as a query sees them.
pub(super) fn batch_of(path: &Path, rows: &[IdentifiedEvent], projection: &[usize]) -> Result<RecordBatch, StoreError> {
    batch::build(Table::ProcessEvents, projection, rows.iter(), columns::event_value)
        .map_err(|error| StoreError::damaged(path, format!("head: {error}")))
}
