//! `processes.snapshots`: what each process used at one scan. Parts come as collectors tell them, and are sealed into blocks.

use super::append::decode;
use super::block::NewBlock;
use super::error::{InStore, StoreError};
use super::read::Blocks;
use super::seal::{BLOCK_BYTES, BLOCK_ROWS};
use super::series::Series;
use super::sieve::Sieve;
use super::snapshot::{Rows, Snapshot, TimeRange};
use super::tables::{META, SNAPSHOTS};
use crate::models::batch;
use crate::models::catalog::Table;
use crate::models::columns::value;
use crate::models::condition::Condition;
use crate::models::rows::{SNAPSHOT, SnapshotRow};
use crate::proto::common::ProcessRecord;
use crate::proto::ipc::ProcessSnapshot;
use prost::Message as _;
use redb::{ReadableTable, WriteTransaction};
use std::path::Path;

/// In `meta`: the number of the next row.
const NEXT: &str = "next_snapshot";

/// A part of a snapshot that is not sealed, with consecutive row numbers.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SnapshotPart {
    #[prost(string, tag = "1")]
    collector: String,
    #[prost(uint64, tag = "2")]
    scan_id: u64,
    #[prost(message, repeated, tag = "3")]
    processes: Vec<ProcessRecord>,
}

impl SnapshotPart {
    fn rows(self) -> impl Iterator<Item = SnapshotRow> {
        let Self { collector, scan_id, processes } = self;
        processes.into_iter().map(move |process| SnapshotRow { collector: collector.clone(), scan_id, process })
    }

    fn newest(&self) -> i64 {
        self.processes.iter().map(|process| process.collection_time).max().unwrap_or(i64::MIN)
    }
}

fn part(path: &Path, bytes: &[u8]) -> Result<SnapshotPart, StoreError> {
    decode(path, "a part of a snapshot", bytes)
}

/// Takes in a part.
pub(super) fn insert(
    write: &WriteTransaction,
    path: &Path,
    collector: &str,
    told: ProcessSnapshot,
) -> Result<(), StoreError> {
    if told.processes.is_empty() {
        return Ok(());
    }
    let mut meta = write.open_table(META).in_store(path)?;
    let first = meta.get(NEXT).in_store(path)?.map_or(0, |next| next.value());
    meta.insert(NEXT, first + told.processes.len() as u64).in_store(path)?;
    let part = SnapshotPart { collector: collector.to_owned(), scan_id: told.scan_id, processes: told.processes };
    write.open_table(SNAPSHOTS).in_store(path)?.insert(first, part.encode_to_vec().as_slice()).in_store(path)?;
    Ok(())
}

/// Seals the oldest parts where they fill a block.
pub(super) fn seal(write: &WriteTransaction, path: &Path) -> Result<bool, StoreError> {
    let mut table = write.open_table(SNAPSHOTS).in_store(path)?;
    let Some(first) = table.first().in_store(path)?.map(|(first, _)| first.value()) else { return Ok(false) };
    let next = write.open_table(META).in_store(path)?.get(NEXT).in_store(path)?.map_or(0, |next| next.value());
    if next.saturating_sub(first) < BLOCK_ROWS as u64 {
        return Ok(false);
    }
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while rows.len() < BLOCK_ROWS && bytes < BLOCK_BYTES {
        let Some((_, stored)) = table.pop_first().in_store(path)? else { break };
        bytes += stored.value().len();
        rows.extend(part(path, stored.value())?.rows());
    }
    drop(table);
    let times = || rows.iter().map(|row| row.process.collection_time);
    let (min_time, max_time) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let block = NewBlock { series: Series::Snapshots, first, rows: &rows, min_time, max_time };
    block.put(write, path, |row, column| value(SNAPSHOT, row, column))?;
    Ok(true)
}

/// Parts, oldest first, that hold nothing from `since` on: first row, rows, newest time.
pub(super) fn old(
    table: &impl ReadableTable<u64, &'static [u8]>,
    path: &Path,
    since: i64,
) -> Result<Vec<(u64, u64, i64)>, StoreError> {
    let mut old = Vec::new();
    for entry in table.iter().in_store(path)? {
        let (first, stored) = entry.in_store(path)?;
        let part = part(path, stored.value())?;
        if part.newest() >= since {
            break;
        }
        old.push((first.value(), part.processes.len() as u64, part.newest()));
    }
    Ok(old)
}

impl Snapshot {
    /// Rows of `processes.snapshots` of a time that meet all conditions.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn snapshots_where(
        &self,
        projection: &[usize],
        range: TimeRange,
        conditions: &[Condition],
    ) -> Result<Rows, StoreError> {
        let (from_to, path) = ((range.from, range.to), self.path.clone());
        let sealed = Blocks::of(&self.read, &path, Series::Snapshots, from_to, conditions.to_vec())?;
        let sieve = Sieve::new(Series::Snapshots, conditions);
        let columns = projection.to_vec();
        let fresh = self.open(SNAPSHOTS)?.range::<u64>(..).in_store(&path)?.map(move |entry| {
            let part = part(&path, entry.in_store(&path)?.1.value())?;
            let passes = |row: &SnapshotRow| {
                let time = row.process.collection_time;
                range.overlaps(time, time) && sieve.passes(|column| value(SNAPSHOT, row, column))
            };
            let rows: Vec<SnapshotRow> = part.rows().filter(passes).collect();
            batch::batch_of(Table::Snapshots, SNAPSHOT, &columns, rows.iter())
                .map_err(|error| StoreError::damaged(&path, error.to_string()))
        });
        Ok(self.damage().watched(&self.path, sealed.read(projection.to_vec()).chain(fresh)))
    }

    /// Rows that are not sealed.
    pub(super) fn fresh_snapshots(&self) -> Result<u64, StoreError> {
        let path = &self.path;
        let next = self.open(META)?.get(NEXT).in_store(path)?.map_or(0, |next| next.value());
        let first = self.open(SNAPSHOTS)?.first().in_store(path)?.map_or(next, |(first, _)| first.value());
        Ok(next.saturating_sub(first))
    }
}
