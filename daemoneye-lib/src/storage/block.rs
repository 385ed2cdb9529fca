//! Writing a block: its columns, its statistics, its filters.

use super::codec::Encoder;
use super::error::{InStore, StoreError};
use super::filter::{self, hash_number, hash_text};
use super::partition::{self, Names};
use super::series::{self, Series};
use super::tables::{BlockHeader, ColumnRange, PARTITIONS};
use crate::models::batch::{self, ColumnBuilder};
use crate::models::columns::Value;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use prost::Message as _;
use redb::WriteTransaction;
use std::collections::HashSet;
use std::io;
use std::path::Path;

/// Rows to be written as one block.
pub(super) struct NewBlock<'r, R> {
    pub(super) series: Series,
    /// The number of the first row.
    pub(super) first: u64,
    pub(super) rows: &'r [R],
    pub(super) min_time: i64,
    pub(super) max_time: i64,
}

impl<'r, R> NewBlock<'r, R> {
    /// Writes it into the newest partition of its series.
    pub(super) fn put(
        &self,
        write: &WriteTransaction,
        path: &Path,
        value: impl Fn(&'r R, usize) -> Value<'r>,
    ) -> Result<(), StoreError> {
        let io = |source: io::Error| StoreError::Io { path: path.to_owned(), source };
        let (number, mut partition) = partition::for_block(write, path, self.series, self.min_time, self.max_time)?;
        let names = Names::of(number);
        let mut columns = write.open_table(names.columns()).in_store(path)?;
        let mut filters = write.open_table(names.filters()).in_store(path)?;
        let mut encoder = Encoder::new().map_err(io)?;
        let mut header = BlockHeader {
            rows: u32::try_from(self.rows.len()).unwrap_or(u32::MAX),
            min_time: self.min_time,
            max_time: self.max_time,
            ranges: Vec::new(),
        };
        let mut bytes = 0;
        for (index, own) in (0_u16..).zip(series::columns(self.series)) {
            let mut builder = ColumnBuilder::for_storage(own.kind);
            self.rows.iter().for_each(|row| builder.push(value(row, usize::from(index))));
            let column = builder.finish();
            if batch::is_all_null(&column) {
                continue;
            }
            let encoded = encoder.encode(&column).map_err(io)?;
            partition::put_pieces(&mut columns, path, self.first, index, &encoded)?;
            bytes += encoded.len();
            header.ranges.extend(range(u32::from(index), &column));
            if own.has_filter {
                let filter = filter::build(&hashes(&column));
                filters.insert((index, self.first), filter.as_slice()).in_store(path)?;
                bytes += filter.len();
            }
        }
        let header = header.encode_to_vec();
        write.open_table(names.blocks()).in_store(path)?.insert(self.first, header.as_slice()).in_store(path)?;
        partition.rows += self.rows.len() as u64;
        partition.blocks += 1;
        partition.bytes += (bytes + header.len()) as u64;
        write
            .open_table(PARTITIONS)
            .in_store(path)?
            .insert(number, partition.encode_to_vec().as_slice())
            .in_store(path)?;
        Ok(())
    }
}

fn range(column: u32, array: &dyn Array) -> Option<ColumnRange> {
    let numbers = array.as_primitive_opt::<Int64Type>()?;
    let (min, max) = (numbers.iter().flatten().min()?, numbers.iter().flatten().max()?);
    Some(ColumnRange { column, min, max })
}

fn hashes(array: &dyn Array) -> HashSet<u64> {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().flatten().map(hash_text).collect(),
        DataType::Int64 => array.as_primitive::<Int64Type>().iter().flatten().map(hash_number).collect(),
        _ => HashSet::new(),
    }
}
