//! Where rows come from: the seam between the engine and whoever has the tables.

use crate::models::batch;
use crate::models::catalog::Table;
use crate::models::condition::{Condition, Survey, Test};
use crate::models::time;
use crate::proto::ipc::ColumnKind;
use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Batches of rows, produced as they are asked for.
pub type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, SourceError>> + Send>;

/// Whatever the owner of the rows could not do.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// What a query wants of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Columns by index, in order.
    pub projection: Vec<usize>,
    /// Nanoseconds from and to which events matter, both included; more may be given.
    pub from: i64,
    /// See `from`.
    pub to: i64,
    /// What rows must be; others may be given too.
    pub conditions: Vec<Condition>,
}

/// Gives the rows of tables.
pub trait TableSource: Send + Sync {
    /// The rows of a table in the shape of [`batch::schema`] with the wanted columns.
    ///
    /// # Errors
    /// When the rows cannot be read; the iterator gives errors of its own.
    fn scan(&self, table: Table, wanted: &Wanted) -> std::result::Result<Batches, SourceError>;

    /// What that would read, without reading it; nothing where it cannot be told.
    ///
    /// # Errors
    /// When it cannot be found out.
    fn survey(&self, _table: Table, _wanted: &Wanted) -> std::result::Result<Option<Survey>, SourceError> {
        Ok(None)
    }
}

/// What a query has wanted of which tables.
#[derive(Clone, Debug, Default)]
pub struct Touched(Arc<Mutex<Vec<(Table, Wanted)>>>);

impl Touched {
    fn note(&self, table: Table, wanted: &Wanted) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((table, wanted.clone()));
    }

    /// Table, from and to, both included, in nanoseconds since 1970-01-01 UTC.
    pub fn list(&self) -> Vec<(Table, i64, i64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(table, wanted)| (*table, wanted.from, wanted.to)).collect()
    }

    /// Each reading, in the order in which they were planned.
    pub(super) fn wanted(&self) -> Vec<(Table, Wanted)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A table as the engine sees it.
pub(super) struct Provider {
    pub(super) table: Table,
    pub(super) schema: SchemaRef,
    pub(super) source: Arc<dyn TableSource>,
    pub(super) touched: Touched,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.table)
    }
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let pushed = |filter: &&Expr| match restriction(self.table, filter) {
            // Whole blocks are left out; the engine still checks each row.
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(pushed).collect())
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.schema.fields().len()).collect();
        let projection = projection.cloned().unwrap_or_else(all);
        let mut wanted = Wanted { projection, from: i64::MIN, to: i64::MAX, conditions: Vec::new() };
        for restriction in filters.iter().filter_map(|filter| restriction(self.table, filter)) {
            match restriction {
                Restriction::Time(from, to) => {
                    wanted.from = wanted.from.max(from);
                    wanted.to = wanted.to.min(to);
                }
                Restriction::Column(condition) => wanted.conditions.push(condition),
            }
        }
        self.touched.note(self.table, &wanted);
        let schema = Arc::new(self.schema.project(&wanted.projection)?);
        let scan = Scan { table: self.table, schema: Arc::clone(&schema), source: Arc::clone(&self.source), wanted };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(scan)], None, None, false, limit)?))
    }
}

/// What a part of a query says about which rows matter.
enum Restriction {
    /// From and to, both included.
    Time(i64, i64),
    Column(Condition),
}

fn restriction(table: Table, filter: &Expr) -> Option<Restriction> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => either(table, filter).map(Restriction::Column),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) => compare(table, &column.name, *op, value),
            (Expr::Literal(value, _), Expr::Column(column)) => compare(table, &column.name, op.swap()?, value),
            _ => None,
        },
        Expr::Between(between) if !between.negated => {
            match (between.expr.as_ref(), between.low.as_ref(), between.high.as_ref()) {
                (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _))
                    if is_time(table, &column.name) =>
                {
                    Some(Restriction::Time(instant(low)?, instant(high)?.saturating_add(WITHIN_MICROSECOND)))
                }
                (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) => {
                    let column = number_column(table, &column.name)?;
                    let test = Test::Between(number(low)?, number(high)?);
                    Some(Restriction::Column(Condition { column, test }))
                }
                _ => None,
            }
        }
        Expr::InList(list) if !list.negated => {
            let Expr::Column(column) = list.expr.as_ref() else { return None };
            let values = list.list.iter().map(|item| match item {
                Expr::Literal(value, _) => equals(table, &column.name, value),
                _ => None,
            });
            values.reduce(|all, one| join(all?, one?))?.map(Restriction::Column)
        }
        _ => None,
    }
}

/// `column = a OR column = b OR …`, as the planner writes short lists.
fn either(table: Table, filter: &Expr) -> Option<Condition> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            join(either(table, left)?, either(table, right)?)
        }
        other => match restriction(table, other)? {
            Restriction::Column(condition) => Some(condition),
            Restriction::Time(..) => None,
        },
    }
}

/// One or the other, where both name values of the same column.
fn join(one: Condition, other: Condition) -> Option<Condition> {
    let test = match (one.test, other.test) {
        _ if one.column != other.column => return None,
        (Test::Texts(mut texts), Test::Texts(more)) => {
            texts.extend(more);
            Test::Texts(texts)
        }
        (Test::Integers(mut numbers), Test::Integers(more)) => {
            numbers.extend(more);
            Test::Integers(numbers)
        }
        _ => return None,
    };
    Some(Condition { column: one.column, test })
}

fn is_time(table: Table, column: &str) -> bool {
    table.time_column() == Some(column)
}

/// The column's place and kind, in tables that make use of conditions.
fn column_of(table: Table, name: &str) -> Option<(usize, ColumnKind)> {
    let columns = table.is_observed().then(|| table.columns())?;
    columns.into_iter().enumerate().find_map(|(index, (own, kind))| (own == name).then_some((index, kind)))
}

fn number_column(table: Table, name: &str) -> Option<usize> {
    let (column, kind) = column_of(table, name)?;
    matches!(kind, ColumnKind::Integer | ColumnKind::Boolean).then_some(column)
}

fn equals(table: Table, name: &str, value: &ScalarValue) -> Option<Condition> {
    let (column, kind) = column_of(table, name)?;
    let test = match kind {
        ColumnKind::Text => Test::Texts([text(value)?.to_owned()].into()),
        ColumnKind::Integer | ColumnKind::Boolean => Test::Integers([number(value)?].into()),
        _ => return None,
    };
    Some(Condition { column, test })
}

fn compare(table: Table, column: &str, op: Operator, value: &ScalarValue) -> Option<Restriction> {
    if is_time(table, column) {
        let at = instant(value)?;
        return match op {
            // A time with all its digits is not greater than itself.
            Operator::Gt if text(value)?.len() == WHOLE_TIME => {
                Some(Restriction::Time(at.saturating_add(WITHIN_MICROSECOND + 1), i64::MAX))
            }
            Operator::Gt | Operator::GtEq => Some(Restriction::Time(at, i64::MAX)),
            Operator::Lt | Operator::LtEq => Some(Restriction::Time(i64::MIN, at.saturating_add(WITHIN_MICROSECOND))),
            Operator::Eq => Some(Restriction::Time(at, at.saturating_add(WITHIN_MICROSECOND))),
            _ => None,
        };
    }
    if op == Operator::Eq {
        return equals(table, column, value).map(Restriction::Column);
    }
    let (column, bound) = (number_column(table, column)?, number(value)?);
    let test = match op {
        // One too many at an end is checked again.
        Operator::Gt | Operator::GtEq => Test::Between(bound, i64::MAX),
        Operator::Lt | Operator::LtEq => Test::Between(i64::MIN, bound),
        _ => return None,
    };
    Some(Restriction::Column(Condition { column, test }))
}

fn number(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::Int64(number) => *number,
        _ => None,
    }
}

fn text(value: &ScalarValue) -> Option<&str> {
    match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            Some(text)
        }
        _ => None,
    }
}

/// Text has microseconds; the stored time may lie within the last of them.
const WITHIN_MICROSECOND: i64 = 999;

/// Characters of a time with all its digits.
const WHOLE_TIME: usize = "2026-01-31 12:00:00.000000".len();

/// The instant that a text means when it is compared with a time column as text. Only the beginning of a time's own text
/// sorts like it; for anything else nothing is left out.
fn instant(value: &ScalarValue) -> Option<i64> {
    let text = text(value)?;
    time::parse(text).filter(|ns| time::sql_text(*ns).starts_with(text))
}

/// One table's rows on their way into the engine.
struct Scan {
    table: Table,
    schema: SchemaRef,
    source: Arc<dyn TableSource>,
    wanted: Wanted,
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scan of {:?}", self.table)
    }
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches: Batches = match self.source.scan(self.table, &self.wanted) {
            Ok(batches) => batches,
            Err(error) => Box::new(std::iter::once(Err(error))),
        };
        let batches = batches.map(|batch| batch.map_err(DataFusionError::External));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter(batches)))
    }
}

/// A source whose tables are all empty: enough to check a statement.
pub struct Nothing;

impl TableSource for Nothing {
    fn scan(&self, _table: Table, _wanted: &Wanted) -> std::result::Result<Batches, SourceError> {
        Ok(Box::new(std::iter::empty()))
    }
}

/// The provider of a table of the catalog.
pub(super) fn provider(table: Table, source: &Arc<dyn TableSource>, touched: &Touched) -> Provider {
    Provider { table, schema: batch::schema(table, None), source: Arc::clone(source), touched: touched.clone() }
}
