//! Reading blocks: those that may matter, of those the rows that meet the conditions, of those the columns that are wanted.
//!
//! In this order: a partition's times, a block's times and ranges, its filters, the columns on which there are conditions,
//! and only for rows that are left the other columns.

use super::append::decode;
use super::codec::Decoder;
use super::error::{InStore, StoreError};
use super::filter::{self, hash_number, hash_text};
use super::partition::{self, Tables};
use super::series::{self, BlockColumn, Series};
use super::tables::{BlockHeader, PARTITIONS};
use crate::models::batch;
use crate::models::condition::{Condition, Survey, Test};
use crate::proto::ipc::ColumnKind;
use arrow::array::{Array as _, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter as keep};
use arrow::datatypes::{DataType, Int64Type, UInt16Type};
use redb::{ReadTransaction, ReadableTable as _};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The blocks of a series, as they were at one commit.
pub(super) struct Blocks {
    read: Arc<ReadTransaction>,
    path: PathBuf,
    series: Series,
    /// From and to, both included.
    range: (i64, i64),
    conditions: Vec<Condition>,
    /// Rows to leave out: a column of texts, and which.
    without: Option<(usize, BTreeSet<String>)>,
    partitions: VecDeque<u64>,
}

impl Blocks {
    pub(super) fn of(
        read: &Arc<ReadTransaction>,
        path: &Path,
        series: Series,
        range: (i64, i64),
        conditions: Vec<Condition>,
    ) -> Result<Self, StoreError> {
        let table = read.open_table(PARTITIONS).in_store(path)?;
        let partitions = partition::list(&table, path, series)?
            .into_iter()
            .filter(|(_, row)| row.min_time <= range.1 && row.max_time >= range.0)
            .map(|(number, _)| number)
            .collect();
        Ok(Self { read: Arc::clone(read), path: path.to_owned(), series, range, conditions, without: None, partitions })
    }

    /// The same without rows that have one of these texts in this column.
    pub(super) fn without(mut self, column: usize, texts: BTreeSet<String>) -> Self {
        self.without = (!texts.is_empty()).then_some((column, texts));
        self
    }

    /// How many blocks would be read, without reading them.
    pub(super) fn survey(self) -> Result<Survey, StoreError> {
        let table = self.read.open_table(PARTITIONS).in_store(&self.path)?;
        let all = partition::list(&table, &self.path, self.series)?.iter().map(|(_, row)| row.blocks).sum();
        let mut survey = Survey { blocks: all, ..Survey::default() };
        let mut reading = self.read(Vec::new());
        while let Some(number) = reading.blocks.partitions.pop_front() {
            reading.enter(number)?;
            while let Some((first, header)) = reading.queue.pop_front() {
                if reading.filters_allow(first)? {
                    survey.blocks_read += 1;
                    survey.rows_at_most += u64::from(header.rows);
                }
            }
        }
        Ok(survey)
    }

    /// Batches of the columns, a block each; blocks without a row that matters have none.
    pub(super) fn read(self, projection: Vec<usize>) -> Reading {
        let hashes = self.conditions.iter().map(|condition| hashes(&condition.test)).collect();
        let columns = series::columns(self.series);
        Reading { blocks: self, projection, hashes, columns, tables: None, queue: VecDeque::new(), decoder: None }
    }
}

fn hashes(test: &Test) -> Option<Vec<u64>> {
    match test {
        Test::Texts(texts) => Some(texts.iter().map(|text| hash_text(text)).collect()),
        Test::Integers(numbers) => Some(numbers.iter().map(|number| hash_number(*number)).collect()),
        Test::Between(..) => None,
    }
}

/// Blocks on their way out.
pub(super) struct Reading {
    blocks: Blocks,
    projection: Vec<usize>,
    /// For each condition the hashes of the values that meet it, where they can be counted.
    hashes: Vec<Option<Vec<u64>>>,
    columns: Vec<BlockColumn>,
    tables: Option<Tables>,
    queue: VecDeque<(u64, BlockHeader)>,
    decoder: Option<Decoder>,
}

impl Iterator for Reading {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.step() {
                Ok(Step::Rows(batch)) => return Some(Ok(batch)),
                Ok(Step::Nothing) => {}
                Ok(Step::End) => return None,
                Err(error) => {
                    self.queue.clear();
                    self.blocks.partitions.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

enum Step {
    Rows(RecordBatch),
    Nothing,
    End,
}

impl Reading {
    fn step(&mut self) -> Result<Step, StoreError> {
        let Some((first, header)) = self.queue.pop_front() else {
            let Some(number) = self.blocks.partitions.pop_front() else { return Ok(Step::End) };
            self.enter(number)?;
            return Ok(Step::Nothing);
        };
        if !self.filters_allow(first)? {
            return Ok(Step::Nothing);
        }
        Ok(self.block(first, &header)?.map_or(Step::Nothing, Step::Rows))
    }

    /// Takes up a partition: those of its blocks that may matter by their headers.
    fn enter(&mut self, number: u64) -> Result<(), StoreError> {
        let path = &self.blocks.path;
        let tables = Tables::open(&self.blocks.read, path, number)?;
        let (from, to) = self.blocks.range;
        for entry in tables.blocks.iter().in_store(path)? {
            let (first, header) = entry.in_store(path)?;
            let header: BlockHeader = decode(path, "a block's header", header.value())?;
            if header.min_time <= to && header.max_time >= from && self.ranges_allow(&header) {
                self.queue.push_back((first.value(), header));
            }
        }
        self.tables = Some(tables);
        Ok(())
    }

    fn ranges_allow(&self, header: &BlockHeader) -> bool {
        self.blocks.conditions.iter().all(|condition| {
            let is_number = self.columns.get(condition.column).is_some_and(|own| is_number(own.kind));
            let range = header.ranges.iter().find(|range| usize::try_from(range.column) == Ok(condition.column));
            // A column without a range has no value.
            !is_number || range.is_some_and(|range| condition.test.may_hold_within(range.min, range.max))
        })
    }

    fn filters_allow(&self, first: u64) -> Result<bool, StoreError> {
        let Some(tables) = &self.tables else { return Ok(false) };
        for (condition, hashes) in self.blocks.conditions.iter().zip(&self.hashes) {
            let has_filter = self.columns.get(condition.column).is_some_and(|own| own.has_filter);
            let (true, Some(hashes)) = (has_filter, hashes) else { continue };
            let column = u16::try_from(condition.column).unwrap_or(u16::MAX);
            // A column without a filter has no value.
            let Some(stored) = tables.filters.get((column, first)).in_store(&self.blocks.path)? else {
                return Ok(false);
            };
            if !hashes.iter().any(|hash| filter::may_have(stored.value(), *hash)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn block(&mut self, first: u64, header: &BlockHeader) -> Result<Option<RecordBatch>, StoreError> {
        let rows = usize::try_from(header.rows).unwrap_or(0);
        let mut decoded: HashMap<usize, ArrayRef> = HashMap::new();
        let mut wanted = vec![true; rows];
        for index in 0..self.blocks.conditions.len() {
            let column = self.blocks.conditions[index].column;
            if let Entry::Vacant(place) = decoded.entry(column) {
                let Some(array) = self.column(first, rows, column)? else { return Ok(None) };
                place.insert(array);
            }
            if let Some(array) = decoded.get(&column) {
                meet(&self.blocks.conditions[index].test, array, &mut wanted);
            }
            if !wanted.contains(&true) {
                return Ok(None);
            }
        }
        if let Some((column, texts)) = self.blocks.without.clone()
            && let Some(array) = self.column(first, rows, column)?
        {
            let mut left_out = vec![true; rows];
            meet(&Test::Texts(texts), &array, &mut left_out);
            wanted.iter_mut().zip(left_out).for_each(|(wanted, out)| *wanted &= !out);
        }
        let left = wanted.iter().filter(|wanted| **wanted).count();
        let mask = (left < rows).then(|| BooleanArray::from(wanted));
        let mut arrays = Vec::with_capacity(self.projection.len());
        for index in 0..self.projection.len() {
            let column = self.projection[index];
            let kind = self.columns.get(column).map_or(ColumnKind::Text, |own| own.kind);
            let array = match decoded.get(&column) {
                Some(array) => Some(Arc::clone(array)),
                None => self.column(first, rows, column)?,
            };
            arrays.push(match array {
                None => {
                    shown(kind, &batch::nulls(kind, left), None).map_err(|error| self.damaged(first, column, &error))?
                }
                Some(array) => {
                    shown(kind, &array, mask.as_ref()).map_err(|error| self.damaged(first, column, &error))?
                }
            });
        }
        let schema = batch::schema(self.blocks.series.table(), Some(&self.projection));
        batch::assemble(schema, arrays, left)
            .map(Some)
            .map_err(|error| StoreError::damaged(&self.blocks.path, format!("block {first}: {error}")))
    }

    /// A column of a block as it is stored; nothing where it has no value.
    fn column(&mut self, first: u64, rows: usize, column: usize) -> Result<Option<ArrayRef>, StoreError> {
        let path = &self.blocks.path;
        let Some(tables) = &self.tables else { return Ok(None) };
        let index = u16::try_from(column).unwrap_or(u16::MAX);
        let Some(bytes) = partition::get_pieces(&tables.columns, path, first, index)? else { return Ok(None) };
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => none.insert(Decoder::new().map_err(|source| StoreError::Io { path: path.to_owned(), source })?),
        };
        match decoder.decode(&bytes, rows) {
            Ok(array) => Ok(Some(array)),
            Err(detail) => Err(self.damaged(first, column, &detail)),
        }
    }

    fn damaged(&self, first: u64, column: usize, what: &dyn std::fmt::Display) -> StoreError {
        let series = self.blocks.series.name();
        StoreError::damaged(&self.blocks.path, format!("block {first} of {series}, column {column}: {what}"))
    }
}

const fn is_number(kind: ColumnKind) -> bool {
    matches!(kind, ColumnKind::Integer | ColumnKind::Boolean | ColumnKind::Time)
}

/// Takes back what does not meet the test.
fn meet(test: &Test, array: &ArrayRef, wanted: &mut [bool]) {
    match (test, array.data_type()) {
        (Test::Texts(texts), DataType::Utf8) => {
            let values = array.as_string::<i32>();
            let holds = |value: Option<&str>| value.is_some_and(|value| texts.contains(value));
            wanted.iter_mut().zip(values).for_each(|(wanted, value)| *wanted &= holds(value));
        }
        (Test::Texts(texts), DataType::Dictionary(..)) => {
            let coded = array.as_dictionary::<UInt16Type>();
            let values = coded.values().as_string::<i32>();
            let holds: Vec<bool> =
                values.iter().map(|value| value.is_some_and(|value| texts.contains(value))).collect();
            let code =
                |code: Option<u16>| code.and_then(|code| holds.get(usize::from(code))).is_some_and(|holds| *holds);
            wanted.iter_mut().zip(coded.keys()).for_each(|(wanted, key)| *wanted &= code(key));
        }
        (Test::Integers(_) | Test::Between(..), DataType::Int64) => {
            let values = array.as_primitive::<Int64Type>();
            let holds = |value: Option<i64>| value.is_some_and(|value| test.holds_for(value));
            wanted.iter_mut().zip(values).for_each(|(wanted, value)| *wanted &= holds(value));
        }
        // The engine looks at each row again.
        _ => {}
    }
}

/// A column as a query sees it: only rows that matter, texts and not places in a list, times as text.
fn shown(
    kind: ColumnKind,
    array: &ArrayRef,
    mask: Option<&BooleanArray>,
) -> Result<ArrayRef, arrow::error::ArrowError> {
    let array = match mask {
        Some(mask) => keep(array, mask)?,
        None => Arc::clone(array),
    };
    Ok(match (kind, array.data_type()) {
        (ColumnKind::Time, DataType::Int64) => Arc::new(batch::times_as_text(array.as_primitive::<Int64Type>())),
        (_, DataType::Dictionary(..)) => cast(&array, &DataType::Utf8)?,
        _ => array,
    })
}
