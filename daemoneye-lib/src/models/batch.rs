//! From records to Arrow: the form in which queries and rules see rows.
//!
//! Times are text of the form `YYYY-MM-DD HH:MM:SS.ffffff` and booleans are 0 or 1, so that SQL compares them as SQLite
//! does. Each field carries its [`ColumnKind`] as metadata, so that results can be shown as what they are.

use crate::models::catalog::Table;
use crate::models::columns::{Column, Value};
use crate::models::time;
use crate::proto::ipc::ColumnKind;
use arrow::array::{
    Array, ArrayRef, Float64Builder, Int64Array, Int64Builder, RecordBatch, RecordBatchOptions, StringArray,
    StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// The key of a field's metadata under which its [`ColumnKind`] stands.
pub const KIND: &str = "daemoneye.kind";

/// The kind of a field, as its metadata says or as its type suggests.
pub fn kind_of(field: &Field) -> ColumnKind {
    field.metadata().get(KIND).and_then(|kind| ColumnKind::from_str_name(kind)).unwrap_or(match field.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => ColumnKind::Real,
        kind if kind.is_integer() || *kind == DataType::Boolean => ColumnKind::Integer,
        _ => ColumnKind::Text,
    })
}

/// The schema of a table, for all columns or for some of them by index.
pub fn schema(table: Table, projection: Option<&[usize]>) -> SchemaRef {
    let columns = table.columns();
    let field = |index: &usize| columns.get(*index).map(|(name, kind)| field(name, *kind));
    let all: Vec<usize> = (0..columns.len()).collect();
    Arc::new(Schema::new(projection.unwrap_or(&all).iter().filter_map(field).collect::<Vec<_>>()))
}

fn field(name: &str, kind: ColumnKind) -> Field {
    let data_type = match kind {
        ColumnKind::Text | ColumnKind::Json | ColumnKind::Time => DataType::Utf8,
        ColumnKind::Integer | ColumnKind::Boolean => DataType::Int64,
        ColumnKind::Real => DataType::Float64,
    };
    let kind = HashMap::from([(KIND.to_owned(), kind.as_str_name().to_owned())]);
    Field::new(name, data_type, true).with_metadata(kind)
}

/// Builds one column of an Arrow batch, value by value.
pub(crate) enum ColumnBuilder {
    Text(StringBuilder),
    Integer(Int64Builder),
    Real(Float64Builder),
    /// Nanoseconds that come out as text.
    TimeAsText(StringBuilder),
}

impl ColumnBuilder {
    /// For rows that a query sees.
    pub(crate) fn for_query(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Time => Self::TimeAsText(StringBuilder::new()),
            _ => Self::for_storage(kind),
        }
    }

    /// For rows that are stored: times stay integers.
    pub(crate) fn for_storage(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Text | ColumnKind::Json => Self::Text(StringBuilder::new()),
            ColumnKind::Integer | ColumnKind::Boolean | ColumnKind::Time => Self::Integer(Int64Builder::new()),
            ColumnKind::Real => Self::Real(Float64Builder::new()),
        }
    }

    /// Appends a value; one of another kind than the column's becomes NULL.
    pub(crate) fn push(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::Text(builder), Value::Text(text)) => builder.append_value(text),
            (Self::Integer(builder), Value::Integer(number)) => builder.append_value(number),
            (Self::Real(builder), Value::Real(number)) => builder.append_value(number),
            (Self::TimeAsText(builder), Value::Integer(ns)) => builder.append_value(time::sql_text(ns)),
            (Self::Text(builder) | Self::TimeAsText(builder), _) => builder.append_null(),
            (Self::Integer(builder), _) => builder.append_null(),
            (Self::Real(builder), _) => builder.append_null(),
        }
    }

    pub(crate) fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut builder) | Self::TimeAsText(mut builder) => Arc::new(builder.finish()),
            Self::Integer(mut builder) => Arc::new(builder.finish()),
            Self::Real(mut builder) => Arc::new(builder.finish()),
        }
    }
}

/// Stored times as the text that SQL sees.
pub(crate) fn times_as_text(times: &Int64Array) -> StringArray {
    times.iter().map(|ns| ns.map(time::sql_text)).collect()
}

/// A batch of some columns of a table from its records.
///
/// # Errors
/// Only where the columns do not fit the schema, which is a defect.
pub fn batch_of<'r, R: 'r>(
    table: Table,
    columns: &[Column<R>],
    projection: &[usize],
    rows: impl Iterator<Item = &'r R> + Clone,
) -> Result<RecordBatch, ArrowError> {
    build(table, projection, rows, |row, index| columns.get(index).map_or(Value::Null, |column| (column.get)(row)))
}

/// As [`batch_of`], for rows whose values are read by their column's index.
///
/// # Errors
/// Only where the columns do not fit the schema, which is a defect.
pub fn build<'r, R: 'r>(
    table: Table,
    projection: &[usize],
    rows: impl Iterator<Item = &'r R> + Clone,
    value: impl Fn(&'r R, usize) -> Value<'r>,
) -> Result<RecordBatch, ArrowError> {
    let columns = table.columns();
    let mut arrays = Vec::with_capacity(projection.len());
    for index in projection {
        let kind = columns.get(*index).map_or(ColumnKind::Text, |(_, kind)| *kind);
        let mut builder = ColumnBuilder::for_query(kind);
        rows.clone().for_each(|row| builder.push(value(row, *index)));
        arrays.push(builder.finish());
    }
    assemble(schema(table, Some(projection)), arrays, rows.count())
}

/// All columns of a table, of which only some are read: the others are NULL in every row, which costs nothing.
///
/// # Errors
/// Only where the columns do not fit the schema, which is a defect.
pub fn build_read<'r, R: 'r>(
    table: Table,
    reads: &[bool],
    rows: impl Iterator<Item = &'r R> + Clone,
    value: impl Fn(&'r R, usize) -> Value<'r>,
) -> Result<RecordBatch, ArrowError> {
    let count = rows.clone().count();
    let (mut texts, mut integers, mut reals) = (None, None, None);
    let mut unread = |kind: ColumnKind| {
        let shared = match kind {
            ColumnKind::Text | ColumnKind::Json | ColumnKind::Time => {
                texts.get_or_insert_with(|| nulls(ColumnKind::Text, count))
            }
            ColumnKind::Integer | ColumnKind::Boolean => integers.get_or_insert_with(|| nulls(kind, count)),
            ColumnKind::Real => reals.get_or_insert_with(|| nulls(kind, count)),
        };
        ArrayRef::clone(shared)
    };
    let arrays = table.columns().into_iter().enumerate().map(|(index, (_, kind))| {
        if !reads.get(index).copied().unwrap_or(false) {
            return unread(kind);
        }
        let mut builder = ColumnBuilder::for_query(kind);
        rows.clone().for_each(|row| builder.push(value(row, index)));
        builder.finish()
    });
    let arrays = arrays.collect();
    assemble(whole_schema(table), arrays, count)
}

/// The schema of all columns of a table, made once.
pub fn whole_schema(table: Table) -> SchemaRef {
    static SCHEMAS: LazyLock<Vec<SchemaRef>> =
        LazyLock::new(|| Table::ALL.into_iter().map(|table| schema(table, None)).collect());
    let place = Table::ALL.iter().position(|own| *own == table);
    place.and_then(|place| SCHEMAS.get(place)).map_or_else(|| schema(table, None), SchemaRef::clone)
}

/// A batch that knows its number of rows also when it has no column.
pub(crate) fn assemble(schema: SchemaRef, arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, ArrowError> {
    RecordBatch::try_new_with_options(schema, arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))
}

/// All NULL, for a column that no row of a block has.
pub(crate) fn nulls(kind: ColumnKind, rows: usize) -> ArrayRef {
    match kind {
        ColumnKind::Text | ColumnKind::Json => Arc::new(StringArray::new_null(rows)),
        ColumnKind::Integer | ColumnKind::Boolean | ColumnKind::Time => Arc::new(Int64Array::new_null(rows)),
        ColumnKind::Real => Arc::new(arrow::array::Float64Array::new_null(rows)),
    }
}

/// Whether no value of the column is known.
pub(crate) fn is_all_null(array: &dyn Array) -> bool {
    array.null_count() == array.len()
}
