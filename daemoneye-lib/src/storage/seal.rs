//! Sealing: rows that are no longer changed go from where they arrived into blocks.

use super::append::decode;
use super::block::NewBlock;
use super::error::{InStore, StoreError};
use super::fields::{Fields, process_event};
use super::head::{self, run};
use super::series::{EVENTS, EventNames, Series};
use super::snapshots;
use super::tables::{CURRENT, ENDED, End, HeadRun, META, REVIVED};
use crate::models::columns::{self, EVENT, PROCESS, Value};
use crate::models::event::IdentifiedEvent;
use crate::proto::common::{EventType, ProcessRecord};
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
    let mut runs = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    for entry in head.iter().in_store(path)? {
        let (number, value) = entry.in_store(path)?;
        let run = run(path, value.value())?;
        if number.value() + run.items.len() as u64 > evaluated {
            break;
        }
        bytes += value.value().len();
        count += run.items.len();
        runs.push((number.value(), run));
        if count >= BLOCK_ROWS || bytes >= BLOCK_BYTES {
            break;
        }
    }
    if runs.is_empty() {
        return Ok(false);
    }
    let mut rows = Vec::with_capacity(count);
    for (_, run) in &runs {
        Row::push_all(&mut rows, path, run)?;
    }
    let times = || rows.iter().map(Row::time);
    let (min_time, max_time) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let block = NewBlock { series: series.series, first, rows: &rows, min_time, max_time };
    block.put(write, path, Row::value)?;
    for (number, _) in &runs {
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
    let mut records: Vec<Vec<u8>> = Vec::with_capacity(BLOCK_ROWS);
    let mut bytes = 0;
    while records.len() < BLOCK_ROWS && bytes < BLOCK_BYTES {
        let Some((_, key)) = ended.pop_first().in_store(path)? else { break };
        let key = key.value();
        if revived.get(key).in_store(path)?.is_some() {
            continue;
        }
        let record = match current.get(key).in_store(path)? {
            None => continue,
            Some(record) => record.value().to_vec(),
        };
        bytes += record.len();
        // Else it was heard of again, and runs.
        if decode::<End>(path, "a process", &record)?.end_time.is_some() {
            current.remove(key).in_store(path)?;
            records.push(record);
        }
    }
    if records.is_empty() {
        return Ok(true);
    }
    let records = records.iter().map(|record| Ended::of(path, record)).collect::<Result<Vec<_>, _>>()?;
    let times = || records.iter().filter_map(Ended::end_time);
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
    block.put(write, path, Ended::value)?;
    Ok(true)
}

/// An event on its way into a block: nearly always the fields of its encoded item.
#[expect(clippy::large_enum_variant, reason = "nearly all rows are of the largest kind")]
enum Row<'b> {
    Fields { event_id: String, event_type: &'static str, time: i64, fields: Fields<'b> },
    Decoded(IdentifiedEvent),
}

impl<'b> Row<'b> {
    fn push_all(rows: &mut Vec<Self>, path: &Path, run: &'b HeadRun) -> Result<(), StoreError> {
        let epoch = head::epoch_of(path, run)?;
        let prefix = epoch.to_string();
        for (sequence, item) in run.sequences.iter().zip(&run.items) {
            let read = process_event(item).and_then(|(kind, time, record)| Some((kind, time, Fields::of(record)?)));
            rows.push(match read {
                Some((event_type, time, fields)) => Self::Fields {
                    event_id: format!("{prefix}-{sequence}"),
                    event_type: EventType::try_from(event_type).unwrap_or_default().name(),
                    time,
                    fields,
                },
                None => Self::Decoded(head::event_in(path, epoch, *sequence, item)?),
            });
        }
        Ok(())
    }

    fn time(&self) -> i64 {
        match self {
            Self::Fields { time, .. } => *time,
            Self::Decoded(event) => event.event.time(),
        }
    }

    /// In the order of the columns of events.
    fn value(&self, column: usize) -> Value<'_> {
        match (self, column) {
            (Self::Decoded(event), column) => columns::event_value(event, column),
            (Self::Fields { event_id, .. }, 0) => Value::from(event_id.as_str()),
            (Self::Fields { event_type, .. }, 1) => Value::from(*event_type),
            (Self::Fields { time, .. }, 2) => Value::from(*time),
            (Self::Fields { fields, .. }, column) => fields.value(column - EVENT.len()),
        }
    }
}

/// A process on its way into a block.
#[expect(clippy::large_enum_variant, reason = "nearly all rows are of the largest kind")]
enum Ended<'b> {
    Fields(Fields<'b>),
    Decoded(Box<ProcessRecord>),
}

impl<'b> Ended<'b> {
    fn of(path: &Path, record: &'b [u8]) -> Result<Self, StoreError> {
        Fields::of(record).map_or_else(
            || decode(path, "a process", record).map(|record| Self::Decoded(Box::new(record))),
            |fields| Ok(Self::Fields(fields)),
        )
    }

    fn end_time(&self) -> Option<i64> {
        match self {
            Self::Fields(fields) => fields.end_time(),
            Self::Decoded(record) => record.end_time,
        }
    }

    fn value(&self, column: usize) -> Value<'_> {
        match self {
            Self::Fields(fields) => fields.value(column),
            Self::Decoded(record) => columns::value(PROCESS, record, column),
        }
    }
}
