//! Sealing: rows that are no longer changed go from where they arrived into blocks.

use super::append::decode;
use super::block::NewBlock;
use super::error::{InStore, StoreError};
use super::head::{self, events_of, run};
use super::series::{EVENTS, EventNames, Series};
use super::snapshots;
use super::tables::{CURRENT, ENDED, META, REVIVED};
use crate::models::columns::{self, PROCESS, Value};
use crate::proto::common::ProcessRecord;
use redb::{ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};
use std::path::Path;

/// Rows of a block: enough to compress well, few enough that one block is read in a millisecond.
pub(super) const BLOCK_ROWS: usize = 2_000;
/// A block of long command lines is sealed before it has so many rows.
pub(super) const BLOCK_BYTES: usize = 8 << 20;
/// Ended processes that stay as they are: who tells of an end twice, or late, tells it soon.
const ENDED_KEPT: u64 = 4_000;

/// Moves whole blocks' worth of rows into blocks, oldest first.
pub(super) fn seal(write: &WriteTransaction, path: &Path) -> Result<(), StoreError> {
    for series in &EVENTS {
        while seal_events(write, path, series)? {}
    }
    while seal_ended(write, path)? {}
    while snapshots::seal(write, path)? {}
    Ok(())
}

/// Seals the oldest rows of a head. Rows that the rules have not seen stay there: from there they are evaluated after a
/// crash.
fn seal_events(write: &WriteTransaction, path: &Path, series: &EventNames) -> Result<bool, StoreError> {
    let meta = write.open_table(META).in_store(path)?;
    let number =
        |name: &str| -> Result<u64, StoreError> { Ok(meta.get(name).in_store(path)?.map_or(0, |row| row.value())) };
    let (evaluated, fresh) = (number("evaluated")?, number(series.fresh)?);
    // All that the rules have not seen may be of this series.
    let unseen = number("next_row")?.saturating_sub(evaluated);
    drop(meta);
    if fresh < unseen + BLOCK_ROWS as u64 {
        return Ok(false);
    }
    let mut head = write.open_table(series.head).in_store(path)?;
    let Some(first) = head.first().in_store(path)?.map(|(number, _)| number.value()) else { return Ok(false) };
    let mut rows = Vec::with_capacity(BLOCK_ROWS);
    let mut runs = Vec::new();
    let mut bytes = 0;
    for entry in head.iter().in_store(path)? {
        let (number, value) = entry.in_store(path)?;
        let run = run(path, value.value())?;
        if number.value() + run.items.len() as u64 > evaluated {
            break;
        }
        bytes += value.value().len();
        runs.push(number.value());
        rows.extend(events_of(path, run)?);
        if rows.len() >= BLOCK_ROWS || bytes >= BLOCK_BYTES {
            break;
        }
    }
    if rows.is_empty() {
        return Ok(false);
    }
    let times = || rows.iter().map(|row| row.event.time());
    let (min_time, max_time) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let block = NewBlock { series: series.series, first, rows: &rows, min_time, max_time };
    block.put(write, path, columns::event_value)?;
    for number in runs {
        head.remove(number).in_store(path)?;
    }
    head::count(write, path, series, |fresh| fresh.saturating_sub(rows.len() as u64))?;
    Ok(true)
}

/// Seals the processes that ended first. Those that were heard of again after an earlier sealing stay in `current`.
fn seal_ended(write: &WriteTransaction, path: &Path) -> Result<bool, StoreError> {
    let mut ended = write.open_table(ENDED).in_store(path)?;
    if ended.len().in_store(path)? < ENDED_KEPT + BLOCK_ROWS as u64 {
        return Ok(false);
    }
    let mut current = write.open_table(CURRENT).in_store(path)?;
    let revived = write.open_table(REVIVED).in_store(path)?;
    let mut records: Vec<ProcessRecord> = Vec::with_capacity(BLOCK_ROWS);
    let mut bytes = 0;
    while records.len() < BLOCK_ROWS && bytes < BLOCK_BYTES {
        let Some((_, key)) = ended.pop_first().in_store(path)? else { break };
        let key = key.value();
        if revived.get(key).in_store(path)?.is_some() {
            continue;
        }
        let record = match current.get(key).in_store(path)? {
            None => continue,
            Some(record) => {
                bytes += record.value().len();
                decode::<ProcessRecord>(path, "a process", record.value())?
            }
        };
        // It was heard of again, and runs.
        if record.end_time.is_some() {
            current.remove(key).in_store(path)?;
            records.push(record);
        }
    }
    if records.is_empty() {
        return Ok(true);
    }
    let times = || records.iter().filter_map(|record| record.end_time);
    let (min_time, max_time) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let mut meta = write.open_table(META).in_store(path)?;
    let number = |name: &str| -> Result<Option<u64>, StoreError> {
        Ok(meta.get(name).in_store(path)?.map(|number| number.value()))
    };
    let first = number("next_ended")?.unwrap_or(0);
    let sealed = number("sealed_end")?.map_or(i64::MIN, u64::cast_signed).max(max_time);
    meta.insert("next_ended", first + records.len() as u64).in_store(path)?;
    meta.insert("sealed_end", sealed.cast_unsigned()).in_store(path)?;
    drop(meta);
    let block = NewBlock { series: Series::Ended, first, rows: &records, min_time, max_time };
    block.put(write, path, |record, index| PROCESS.get(index).map_or(Value::Null, |column| (column.get)(record)))?;
    Ok(true)
}
