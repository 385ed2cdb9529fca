//! Apache Parquet, for other programs: typed columns, compressed by zstd.

use super::{Sheet, unique_names};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, Completeness, ResultColumn, cell::Value};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::{self, Write};
use std::sync::Arc;

/// Rows that are turned into columns together.
const BATCH_ROWS: usize = 4_096;
/// Rows of a row group: a writer keeps one in memory.
const GROUP_ROWS: usize = 65_536;
const UTC: &str = "UTC";

/// A Parquet file; times are nanoseconds UTC, JSON is text.
pub(crate) struct Parquet<'a> {
    out: Option<&'a mut (dyn Write + Send)>,
    kinds: Vec<ColumnKind>,
    schema: Arc<Schema>,
    writer: Option<ArrowWriter<&'a mut (dyn Write + Send)>>,
    rows: Vec<Vec<Cell>>,
}

impl<'a> Parquet<'a> {
    pub(crate) fn new(out: &'a mut (dyn Write + Send)) -> Self {
        Self { out: Some(out), kinds: Vec::new(), schema: Arc::new(Schema::empty()), writer: None, rows: Vec::new() }
    }

    fn flush(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let Some(writer) = self.writer.as_mut().filter(|_| !rows.is_empty()) else { return Ok(()) };
        let columns = self.kinds.iter().enumerate().map(|(index, kind)| column(*kind, &rows, index)).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(io::Error::other)?;
        writer.write(&batch).map_err(io::Error::other)
    }
}

impl Sheet for Parquet<'_> {
    fn begin(&mut self, columns: &[ResultColumn]) -> io::Result<()> {
        self.kinds = columns.iter().map(ResultColumn::kind).collect();
        let names = unique_names(columns);
        let fields = names.into_iter().zip(&self.kinds).map(|(name, kind)| Field::new(name, data_type(*kind), true));
        self.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let Some(out) = self.out.take() else { return Err(io::Error::other("a file begins twice")) };
        let writer = ArrowWriter::try_new(out, Arc::clone(&self.schema), Some(properties)).map_err(io::Error::other)?;
        self.writer = Some(writer);
        Ok(())
    }

    fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        self.rows.push(cells);
        if self.rows.len() >= BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn end(&mut self, _: &Completeness) -> io::Result<()> {
        self.flush()?;
        self.writer.take().map_or(Ok(()), |writer| writer.close().map(drop).map_err(io::Error::other))
    }
}

fn data_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Text | ColumnKind::Json => DataType::Utf8,
        ColumnKind::Integer => DataType::Int64,
        ColumnKind::Real => DataType::Float64,
        ColumnKind::Boolean => DataType::Boolean,
        ColumnKind::Time => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
    }
}

/// A column of the rows; a value that is not of the column's kind is NULL.
fn column(kind: ColumnKind, rows: &[Vec<Cell>], index: usize) -> ArrayRef {
    let values = rows.iter().map(|row| row.get(index).and_then(|cell| cell.value.as_ref()));
    let integer = |value: Option<&Value>| match value {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    };
    let text = |value: Option<&'_ Value>| match value {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    match kind {
        ColumnKind::Text | ColumnKind::Json => Arc::new(values.map(text).collect::<StringArray>()),
        ColumnKind::Integer => Arc::new(values.map(integer).collect::<Int64Array>()),
        ColumnKind::Boolean => {
            Arc::new(values.map(|value| integer(value).map(|bit| bit != 0)).collect::<BooleanArray>())
        }
        ColumnKind::Real => Arc::new(
            values
                .map(|value| match value {
                    Some(Value::Real(number)) => Some(*number),
                    _ => None,
                })
                .collect::<Float64Array>(),
        ),
        ColumnKind::Time => {
            let times = values.map(|value| time::parse(&text(value)?)).collect::<TimestampNanosecondArray>();
            Arc::new(times.with_timezone(UTC))
        }
    }
}
