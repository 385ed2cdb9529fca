//! An operator's query: validated, planned, run within its limits.

use super::error::Refusal;
use super::interrupt::interruptible;
use super::kinds::column_kind;
use super::lower::{Lowered, Parameters, lower_query};
use super::session;
use super::source::{Nothing, TableSource, Touched, provider};
use crate::models::batch::kind_of;
use crate::models::catalog::Table;
use crate::models::columns::Value;
use crate::models::time;
use crate::proto::ipc::{Cell, ColumnKind, ResultColumn, ResultRow, cell};
use datafusion::arrow::array::{Array, AsArray, RecordBatch, new_null_array};
use datafusion::arrow::compute::cast as arrow_cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt as _;
use std::sync::Arc;

pub use super::lower::Parameter;

/// Runs queries. One for the process: its memory is what all queries share.
pub struct Queries {
    base: SessionState,
}

/// Why a query gave no complete answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// It may not run.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It needs more memory than queries have together.
    #[error("the query needs more memory than is allowed: {0}")]
    Memory(String),
    /// It failed while it ran.
    #[error("the query failed: {0}")]
    Failed(String),
}

impl QueryError {
    fn from_engine(error: &DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(text) => Self::Memory(first_line(text)),
            DataFusionError::ArrowError(error, _) => Self::Failed(error.to_string()),
            DataFusionError::External(error) => Self::Failed(error.to_string()),
            DataFusionError::Execution(text) => Self::Failed(first_line(text)),
            other => Self::Failed(first_line(&other.to_string())),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

impl Queries {
    /// Queries that have so many bytes for their work together.
    ///
    /// # Errors
    /// When the engine cannot be set up, which is a defect.
    pub fn new(memory_bytes: usize) -> Result<Self, QueryError> {
        session::base(memory_bytes).map(|base| Self { base }).map_err(|error| QueryError::from_engine(&error))
    }

    pub(super) fn base(&self) -> &SessionState {
        &self.base
    }

    /// Checks a statement without running it.
    ///
    /// # Errors
    /// The refusal, when it may not run.
    pub async fn validate_sql(&self, sql: &str, parameters: &Parameters) -> Result<(), QueryError> {
        self.run(sql, parameters, Arc::new(Nothing)).await.map(drop)
    }

    /// Starts a query; nothing is read yet.
    ///
    /// # Errors
    /// When it is refused or cannot be planned.
    pub async fn run(
        &self,
        sql: &str,
        parameters: &Parameters,
        source: Arc<dyn TableSource>,
    ) -> Result<Answer, QueryError> {
        self.run_lowered(lower_query(sql, parameters, time::now_ns())?, source).await
    }

    /// Starts a lowered statement.
    pub(super) async fn run_lowered(
        &self,
        lowered: Lowered,
        source: Arc<dyn TableSource>,
    ) -> Result<Answer, QueryError> {
        let touched = Touched::default();
        let engine = |error: DataFusionError| QueryError::from_engine(&error);
        let state = session::with_tables(&self.base, |table| provider(table, &source, &touched)).map_err(engine)?;
        let plan = session::plan(&state, &lowered).await?;
        let kinds: Vec<_> = (0..plan.schema().fields().len()).map(|column| column_kind(&plan, column)).collect();
        // What the analyser finds wrong is the statement's fault.
        let refused = |error: DataFusionError| QueryError::Refused(lowered.place(Refusal::from_planner(&error)));
        let plan = state.optimize(&plan).map_err(refused)?;
        let physical = interruptible(state.create_physical_plan(&plan).await.map_err(refused)?).map_err(engine)?;
        let schema = physical.schema();
        let names = lowered.written.names(schema.fields().iter().map(|field| field.name().as_str()));
        let kinds = kinds.into_iter().zip(schema.fields()).map(|(kind, field)| kind.unwrap_or(kind_of(field)));
        let columns =
            names.into_iter().zip(kinds).map(|(name, kind)| ResultColumn { name, kind: kind.into() }).collect();
        let stream = execute_stream(physical, state.task_ctx()).map_err(engine)?;
        Ok(Answer { columns, stream, touched, tables: lowered.tables })
    }
}

/// The rows of a query, produced as they are asked for; dropping it cancels the query.
pub struct Answer {
    columns: Vec<ResultColumn>,
    stream: SendableRecordBatchStream,
    touched: Touched,
    tables: Vec<Table>,
}

impl Answer {
    /// Names, each once, and kinds.
    pub fn columns(&self) -> &[ResultColumn] {
        &self.columns
    }

    /// The next rows.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, QueryError>> {
        let next = self.stream.next().await?;
        Some(next.map_err(|error| QueryError::from_engine(&error)))
    }

    /// Which stretches of which tables were read.
    pub fn touched(&self) -> Vec<(Table, i64, i64)> {
        self.touched.list()
    }

    /// The tables that the statement names.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }
}

/// The rows of a batch as cells.
pub fn rows(batch: &RecordBatch) -> Vec<ResultRow> {
    let mut rows = vec![ResultRow { cells: Vec::with_capacity(batch.num_columns()) }; batch.num_rows()];
    for column in batch.columns() {
        // What the engine computes may have other types than what tables have.
        let column = match column.data_type() {
            DataType::Utf8 | DataType::Int64 | DataType::Float64 | DataType::Null => Arc::clone(column),
            kind if kind.is_integer() || *kind == DataType::Boolean => cast(column, &DataType::Int64),
            kind if kind.is_numeric() => cast(column, &DataType::Float64),
            _ => cast(column, &DataType::Utf8),
        };
        for (index, row) in rows.iter_mut().enumerate() {
            row.cells.push(Cell { value: cell_value(&column, index) });
        }
    }
    rows
}

fn cast(column: &Arc<dyn Array>, kind: &DataType) -> Arc<dyn Array> {
    arrow_cast(column, kind).unwrap_or_else(|_| new_null_array(&DataType::Null, column.len()))
}

fn cell_value(column: &Arc<dyn Array>, row: usize) -> Option<cell::Value> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(cell::Value::Text(column.as_string::<i32>().value(row).to_owned())),
        DataType::Int64 => Some(cell::Value::Integer(column.as_primitive::<Int64Type>().value(row))),
        DataType::Float64 => Some(cell::Value::Real(column.as_primitive::<Float64Type>().value(row))),
        _ => None,
    }
}

/// A cell as JSON shows it: times in RFC 3339, booleans as themselves, JSON as what it is.
pub fn json_value(kind: ColumnKind, cell: &Cell) -> serde_json::Value {
    Value::from(cell).json(kind)
}
