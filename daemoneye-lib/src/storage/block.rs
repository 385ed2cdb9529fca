//! Sealing the head's rows into blocks of columns, and reading them back.

use super::codec;
use super::error::{InStore, StoreError};
use super::tables::{BLOCKS, BlockHeader, COLUMNS, HEAD, HeadRow, META};
use crate::models::batch::{self, ColumnBuilder};
use crate::models::catalog::Table;
use crate::models::columns::{self, Value};
use crate::models::event::IdentifiedEvent;
use crate::proto::ipc::ColumnKind;
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use prost::Message as _;
use redb::{ReadOnlyTable, ReadableTable as _, WriteTransaction};
use std::path::Path;
use std::sync::Arc;

/// Rows of a block: enough to compress well, few enough that one block is read in a millisecond.
pub(super) const BLOCK_ROWS: usize = 2_000;
/// A block of long command lines is sealed before it has so many rows.
const BLOCK_BYTES: usize = 8 << 20;

/// Moves whole blocks' worth of rows from the head to blocks, oldest first. Rows that the rules have not seen stay in the
/// head, from which they are evaluated after a crash.
pub(super) fn seal(write: &WriteTransaction, path: &Path) -> Result<(), StoreError> {
    let evaluated =
        write.open_table(META).in_store(path)?.get("evaluated").in_store(path)?.map_or(0, |row| row.value());
    let mut head = write.open_table(HEAD).in_store(path)?;
    loop {
        let oldest = head.first().in_store(path)?.map(|(number, _)| number.value());
        if oldest.is_none_or(|oldest| oldest + BLOCK_ROWS as u64 > evaluated) {
            return Ok(());
        }
        let mut rows = Vec::with_capacity(BLOCK_ROWS);
        let mut bytes = 0;
        let mut first = None;
        for entry in head.iter().in_store(path)? {
            let (number, value) = entry.in_store(path)?;
            first.get_or_insert(number.value());
            bytes += value.value().len();
            rows.push(head_row(path, value.value())?);
            if rows.len() == BLOCK_ROWS || bytes >= BLOCK_BYTES {
                break;
            }
        }
        let Some(first) = first else { return Ok(()) };
        write_block(write, path, first, &rows)?;
        for number in first..first + rows.len() as u64 {
            head.remove(number).in_store(path)?;
        }
    }
}

/// Decodes a row of the head.
pub(super) fn head_row(path: &Path, bytes: &[u8]) -> Result<IdentifiedEvent, StoreError> {
    HeadRow::decode(bytes)
        .map(|row| IdentifiedEvent { event_id: row.event_id, event: row.event })
        .map_err(|error| StoreError::damaged(path, format!("a row of the head: {error}")))
}

fn write_block(write: &WriteTransaction, path: &Path, first: u64, rows: &[IdentifiedEvent]) -> Result<(), StoreError> {
    let times = || rows.iter().map(|row| row.event.event_time);
    let header = BlockHeader {
        rows: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        min_time: times().min().unwrap_or(0),
        max_time: times().max().unwrap_or(0),
    };
    write.open_table(BLOCKS).in_store(path)?.insert(first, header.encode_to_vec().as_slice()).in_store(path)?;
    let mut table = write.open_table(COLUMNS).in_store(path)?;
    for (index, (_, kind)) in Table::ProcessEvents.columns().into_iter().enumerate() {
        let mut builder = ColumnBuilder::for_storage(kind);
        rows.iter().for_each(|row| builder.push(columns::event_value(row, index)));
        let column = builder.finish();
        if batch::is_all_null(&column) {
            continue;
        }
        let bytes = codec::encode(&column).map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        let index = u16::try_from(index).unwrap_or(u16::MAX);
        table.insert((first, index), bytes.as_slice()).in_store(path)?;
    }
    Ok(())
}

/// Some columns of a block, as a query sees them.
pub(super) fn read_block(
    table: &ReadOnlyTable<(u64, u16), &'static [u8]>,
    path: &Path,
    first: u64,
    header: BlockHeader,
    projection: &[usize],
) -> Result<RecordBatch, StoreError> {
    let rows = usize::try_from(header.rows).unwrap_or(0);
    let kinds = Table::ProcessEvents.columns();
    let mut arrays = Vec::with_capacity(projection.len());
    for index in projection {
        let kind = kinds.get(*index).map_or(ColumnKind::Text, |(_, kind)| *kind);
        let stored = table.get((first, u16::try_from(*index).unwrap_or(u16::MAX))).in_store(path)?;
        let array = match stored {
            None => batch::nulls(kind, rows),
            Some(bytes) => codec::decode(bytes.value(), rows)
                .map_err(|detail| StoreError::damaged(path, format!("block {first}, column {index}: {detail}")))?,
        };
        arrays.push(as_query_sees(kind, array));
    }
    batch::assemble(batch::schema(Table::ProcessEvents, Some(projection)), arrays, rows)
        .map_err(|error| StoreError::damaged(path, format!("block {first}: {error}")))
}

fn as_query_sees(kind: ColumnKind, array: ArrayRef) -> ArrayRef {
    match (kind, array.as_primitive_opt::<Int64Type>()) {
        (ColumnKind::Time, Some(times)) => Arc::new(batch::times_as_text(times)),
        _ => array,
    }
}

/// Some columns of rows that are not sealed, as a query sees them.
pub(super) fn head_batch(
    path: &Path,
    rows: &[IdentifiedEvent],
    projection: &[usize],
) -> Result<RecordBatch, StoreError> {
    batch::build(Table::ProcessEvents, projection, rows.iter(), |row, index| -> Value<'_> {
        columns::event_value(row, index)
    })
    .map_err(|error| StoreError::damaged(path, format!("head: {error}")))
}
