//! Partitions: the tables that hold a stretch of blocks, so that retention drops them whole.

use super::append::decode;
use super::error::{InStore, StoreError};
use super::series::Series;
use super::tables::{PARTITIONS, PartitionRow};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};
use std::path::Path;

/// Blocks of a partition: few enough that dropping one is no loss beside the smallest store.
const MAX_BLOCKS: u64 = 64;
/// Bytes after which a partition is full.
const MAX_BYTES: u64 = 64 << 20;
/// From the oldest to the newest time of a partition.
const MAX_SPAN: i64 = 86_400_000_000_000;

/// Block, column, piece.
pub(super) type ColumnKey = (u64, u16, u8);
/// Column, block.
pub(super) type FilterKey = (u16, u64);

/// The names of a partition's tables.
pub(super) struct Names {
    blocks: String,
    columns: String,
    filters: String,
}

impl Names {
    pub(super) fn of(partition: u64) -> Self {
        let name = |kind: &str| format!("{kind}.{partition}");
        Self { blocks: name("blocks"), columns: name("columns"), filters: name("filters") }
    }

    /// First row number to an encoded `BlockHeader`.
    pub(super) fn blocks(&self) -> TableDefinition<'_, u64, &'static [u8]> {
        TableDefinition::new(&self.blocks)
    }

    /// Block, column and piece to a piece of the column's bytes; absent where all are NULL.
    pub(super) fn columns(&self) -> TableDefinition<'_, ColumnKey, &'static [u8]> {
        TableDefinition::new(&self.columns)
    }

    /// Column and block to the filter of the column's values.
    pub(super) fn filters(&self) -> TableDefinition<'_, FilterKey, &'static [u8]> {
        TableDefinition::new(&self.filters)
    }
}

/// A partition's tables, to read.
pub(super) struct Tables {
    pub(super) blocks: ReadOnlyTable<u64, &'static [u8]>,
    pub(super) columns: ReadOnlyTable<ColumnKey, &'static [u8]>,
    pub(super) filters: ReadOnlyTable<FilterKey, &'static [u8]>,
}

impl Tables {
    pub(super) fn open(read: &ReadTransaction, path: &Path, partition: u64) -> Result<Self, StoreError> {
        let names = Names::of(partition);
        Ok(Self {
            blocks: read.open_table(names.blocks()).in_store(path)?,
            columns: read.open_table(names.columns()).in_store(path)?,
            filters: read.open_table(names.filters()).in_store(path)?,
        })
    }
}

/// Every partition of a series, oldest first.
pub(super) fn list(
    table: &impl ReadableTable<u64, &'static [u8]>,
    path: &Path,
    series: Series,
) -> Result<Vec<(u64, PartitionRow)>, StoreError> {
    let mut partitions = Vec::new();
    for entry in table.iter().in_store(path)? {
        let (number, row) = entry.in_store(path)?;
        let row: PartitionRow = decode(path, "a partition", row.value())?;
        if row.series == series.number() {
            partitions.push((number.value(), row));
        }
    }
    Ok(partitions)
}

/// The partition to which the next block of the series goes, made where the newest is full.
pub(super) fn for_block(
    write: &WriteTransaction,
    path: &Path,
    series: Series,
    min_time: i64,
    max_time: i64,
) -> Result<(u64, PartitionRow), StoreError> {
    let table = write.open_table(PARTITIONS).in_store(path)?;
    let last = table.last().in_store(path)?.map_or(0, |(number, _)| number.value());
    if let Some((number, row)) = list(&table, path, series)?.pop() {
        let (from, to) = (row.min_time.min(min_time), row.max_time.max(max_time));
        if row.blocks < MAX_BLOCKS && row.bytes < MAX_BYTES && to.saturating_sub(from) <= MAX_SPAN {
            return Ok((number, PartitionRow { min_time: from, max_time: to, ..row }));
        }
    }
    Ok((last + 1, PartitionRow { series: series.number(), min_time, max_time, ..PartitionRow::default() }))
}

/// Drops a partition with all that it holds.
pub(super) fn drop_whole(write: &WriteTransaction, path: &Path, partition: u64) -> Result<(), StoreError> {
    let names = Names::of(partition);
    write.delete_table(names.blocks()).in_store(path)?;
    write.delete_table(names.columns()).in_store(path)?;
    write.delete_table(names.filters()).in_store(path)?;
    write.open_table(PARTITIONS).in_store(path)?.remove(partition).in_store(path)?;
    Ok(())
}

/// What a page that holds one value needs beside it, and a little more.
const PAGE_OVERHEAD: usize = 64;
const PAGE: usize = 4_096;

/// Writes a value in pieces that fill whole pages: redb gives a value the next power of two of pages, which would waste
/// a quarter of the file.
pub(super) fn put_pieces(
    table: &mut Table<'_, ColumnKey, &'static [u8]>,
    path: &Path,
    block: u64,
    column: u16,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let mut rest = bytes;
    for piece in 0..=u8::MAX {
        let (now, later) = rest.split_at(piece_length(rest.len(), piece == u8::MAX));
        table.insert((block, column, piece), now).in_store(path)?;
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    Ok(())
}

/// The largest number of bytes that fill a power of two of pages; the last piece takes all.
fn piece_length(left: usize, is_last: bool) -> usize {
    if is_last || left < PAGE - PAGE_OVERHEAD {
        return left;
    }
    let pages = (left + PAGE_OVERHEAD) / PAGE;
    let pages = if pages.is_power_of_two() { pages } else { pages.next_power_of_two() / 2 };
    pages * PAGE - PAGE_OVERHEAD
}

/// The bytes of a column, whole; nothing where all its values are NULL.
pub(super) fn get_pieces(
    table: &ReadOnlyTable<ColumnKey, &'static [u8]>,
    path: &Path,
    block: u64,
    column: u16,
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut whole = None;
    for entry in table.range((block, column, 0)..=(block, column, u8::MAX)).in_store(path)? {
        whole.get_or_insert_with(Vec::new).extend_from_slice(entry.in_store(path)?.1.value());
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fill_pages_and_make_up_the_whole() {
        for length in [0, 1, 4_031, 4_032, 4_033, 8_127, 8_128, 8_200, 34_000, 70_000, 1 << 20, 9_000_000] {
            let (mut left, mut pieces, mut pages) = (length, 0, 0_usize);
            while left > 0 {
                let piece = piece_length(left, false);
                pages += (piece + PAGE_OVERHEAD).div_ceil(PAGE).next_power_of_two();
                (left, pieces) = (left - piece, pieces + 1);
            }
            assert!(pieces < 40, "{length}: {pieces} pieces");
            assert!(pages * PAGE <= length + PAGE * 2 + pieces * PAGE_OVERHEAD, "{length}: {pages} pages");
        }
    }
}
