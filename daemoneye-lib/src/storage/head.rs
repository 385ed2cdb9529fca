//! The heads: events that have just arrived, as they came, in runs of some hundred; each series has its own.
//!
//! Row numbers count over all series, so that one mark says through which row the rules have seen everything.

use super::error::{InStore, StoreError};
use super::series::{EVENTS, EventNames, Series};
use super::tables::{HeadRun, META};
use crate::models::batch;
use crate::models::columns;
use crate::models::event::{Epoch, Event, IdentifiedEvent, event_id};
use crate::proto::ipc::CollectedItem;
use arrow::array::RecordBatch;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use redb::{ReadableTable, WriteTransaction};
use std::fmt::Display;
use std::path::Path;

/// Events of a run.
const RUN_ROWS: usize = 250;
/// Bytes after which a run is full.
const RUN_BYTES: usize = 512 << 10;

/// Collects events into runs.
pub(super) struct Runs<'t> {
    write: &'t WriteTransaction,
    /// Of the run.
    series: &'static EventNames,
    /// Without its items.
    run: HeadRun,
    /// These, as they stand in the encoded run.
    items: Vec<u8>,
    next_row: u64,
}

impl<'t> Runs<'t> {
    pub(super) fn new(write: &'t WriteTransaction, next_row: u64) -> Self {
        Self { write, series: &EVENTS[0], run: HeadRun::default(), items: Vec::new(), next_row }
    }

    /// Adds an event by its encoded item, and returns the number of the row that follows.
    pub(super) fn add(
        &mut self,
        path: &Path,
        series: &'static EventNames,
        epoch: Epoch,
        sequence: u64,
        item: &[u8],
    ) -> Result<u64, StoreError> {
        let full = self.run.sequences.len() >= RUN_ROWS || self.items.len() >= RUN_BYTES;
        if full || self.run.epoch != epoch.0 || self.series.series != series.series {
            self.flush(path)?;
            self.run.epoch = epoch.0.to_vec();
            self.series = series;
        }
        self.run.sequences.push(sequence);
        encode_key(HeadRun::ITEMS, WireType::LengthDelimited, &mut self.items);
        encode_varint(item.len() as u64, &mut self.items);
        self.items.extend_from_slice(item);
        self.next_row += 1;
        Ok(self.next_row)
    }

    /// Writes what has been added.
    pub(super) fn flush(&mut self, path: &Path) -> Result<(), StoreError> {
        let run = std::mem::take(&mut self.run);
        if run.sequences.is_empty() {
            return Ok(());
        }
        let rows = run.sequences.len() as u64;
        let mut bytes = run.encode_to_vec();
        bytes.append(&mut self.items);
        let mut head = self.write.open_table(self.series.head).in_store(path)?;
        head.insert(self.next_row - rows, bytes.as_slice()).in_store(path)?;
        count(self.write, path, self.series, |fresh| fresh + rows)
    }
}

/// Keeps count of the rows in the head of a series.
pub(super) fn count(
    write: &WriteTransaction,
    path: &Path,
    series: &EventNames,
    change: impl FnOnce(u64) -> u64,
) -> Result<(), StoreError> {
    let mut meta = write.open_table(META).in_store(path)?;
    let before = meta.get(series.fresh).in_store(path)?.map_or(0, |rows| rows.value());
    meta.insert(series.fresh, change(before)).in_store(path)?;
    Ok(())
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
    let epoch = epoch_of(path, &run)?;
    run.sequences
        .iter()
        .zip(&run.items)
        .filter(|(_, item)| wanted(item))
        .map(|(sequence, item)| event_in(path, epoch, *sequence, item))
        .collect()
}

/// The epoch of a run.
pub(super) fn epoch_of(path: &Path, run: &HeadRun) -> Result<Epoch, StoreError> {
    Epoch::try_from(run.epoch.as_slice()).map_err(|error| damaged(path, &error))
}

/// The event of an item of a run.
pub(super) fn event_in(path: &Path, epoch: Epoch, sequence: u64, item: &[u8]) -> Result<IdentifiedEvent, StoreError> {
    match CollectedItem::decode(item).map(|item| item.item.and_then(|item| Event::of(item).ok())) {
        Ok(Some(event)) => Ok(IdentifiedEvent { event_id: event_id(epoch, sequence), event }),
        Ok(None) => Err(damaged(path, &"an item that is no event")),
        Err(error) => Err(damaged(path, &error)),
    }
}

fn damaged(path: &Path, what: &dyn Display) -> StoreError {
    StoreError::damaged(path, format!("a run of the head: {what}"))
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
pub(super) fn batch_of(
    path: &Path,
    series: Series,
    rows: &[IdentifiedEvent],
    projection: &[usize],
) -> Result<RecordBatch, StoreError> {
    batch::build(series.table(), projection, rows.iter(), columns::event_value)
        .map_err(|error| StoreError::damaged(path, format!("head: {error}")))
}
