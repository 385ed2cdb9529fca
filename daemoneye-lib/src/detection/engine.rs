//! Standing rules over batches of events, and the compiler of all rules.
//!
//! A standing rule is compiled once: its lowered statement is planned by DataFusion, and what is left of the plan, a condition and
//! result columns over the rows of one table, is evaluated on each batch. Nothing of an evaluation outlives it, so that
//! memory does not grow with the number of batches; and a rule that fails, or panics, fails alone.

use super::error::Refusal;
use super::lower::{Lowered, RuleShape, lower_exception, lower_rule};
use super::query::{json_value, rows};
use super::rules::lists::Lists;
use super::rules::{Exception, Rule};
use super::scheduled::Scheduled;
use super::screen::{Allowance, Screen};
use super::session;
use super::source::{Nothing, Provider, TableSource, Touched, provider};
use crate::models::batch::{self, kind_of};
use crate::models::catalog::Table;
use crate::models::columns::{self};
use crate::models::event::{Event, IdentifiedEvent};
use crate::models::time;
use crate::proto::ipc::{Cell, ColumnKind, ResultRow, cell};
use datafusion::arrow::array::{Array as _, ArrayRef, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::{DataFusionError, Result as EngineResult};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use serde_json::{Map, Value as Json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The columns of an event that a match carries whatever the rule selects.
const MATCH_COLUMNS: [&str; 5] = ["event_id", "process_key", "pid", "name", "executable_path"];
/// What planning may take.
const PLANNING_BYTES: usize = 16 << 20;

/// A rule that can be evaluated.
pub struct CompiledRule {
    /// The rule.
    pub rule: Arc<Rule>,
    /// How it is evaluated.
    pub form: Form,
    /// What it was compiled from: equal digests, equal rules.
    pub digest: [u8; 32],
}

/// How a rule is evaluated.
pub enum Form {
    /// Over each batch of events.
    Standing(Standing),
    /// At its times, over what is stored.
    Scheduled(Scheduled),
}

/// What is left of a standing rule's plan.
pub struct Standing {
    /// The table of events whose rows it looks at.
    table: Table,
    /// Of which events the condition may be true.
    screen: Screen,
    condition: Condition,
    /// Those of the rule's exceptions, in their order.
    exceptions: Vec<(Exception, Condition)>,
    /// Result columns: the rule's own, then the hidden ones.
    results: Vec<(Field, Arc<dyn PhysicalExpr>)>,
    own: usize,
    /// Of each column of the table whether anything of this reads it.
    reads: Vec<bool>,
}

/// Absent where it is true of every row.
type Condition = Option<Arc<dyn PhysicalExpr>>;

/// A refusal, and of which exception's condition it is where it is not of the query.
type Misplaced = (Option<usize>, Refusal);

/// A row that a rule returned.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The event that was matched.
    pub event_id: String,
    /// Of the matched process.
    pub process_key: String,
    /// Of the matched process.
    pub pid: u32,
    /// Of the matched process.
    pub name: Option<String>,
    /// Of the matched process.
    pub executable_path: Option<String>,
    /// The values of the rule's dedup columns, as a JSON array.
    pub dedup_key: String,
    /// The row, as a JSON object.
    pub row: String,
}

/// What a rule said of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluated {
    /// The rows that match.
    pub matches: Vec<Match>,
    /// Rows that an exception took out.
    pub excepted: u64,
    /// Rows of which it could not say whether they match.
    pub failed_rows: u64,
    /// Why, of the last of them.
    pub why: Option<String>,
}

/// Compiles rules.
pub struct Compiler {
    catalog: SessionState,
    events: SessionState,
    allowance: Allowance,
}

impl Compiler {
    /// A compiler; it is wanted only while rules are loaded.
    ///
    /// # Errors
    /// When the engine cannot be set up, which is a defect.
    pub fn new() -> EngineResult<Self> {
        let base = session::base(PLANNING_BYTES)?;
        let nothing: Arc<dyn TableSource> = Arc::new(Nothing);
        let touched = Touched::default();
        let catalog = session::with_tables(&base, |table| provider(table, &nothing, &touched))?;
        // A rule reads the rows of events also where it says `processes`: each is the state of a process at that event.
        let events = session::with_tables(&base, |table| Provider {
            table,
            schema: batch::schema(table.events().unwrap_or(table), None),
            source: Arc::clone(&nothing),
            touched: touched.clone(),
        })?;
        Ok(Self { catalog, events, allowance: Allowance::default() })
    }

    /// Validates and compiles a rule.
    ///
    /// # Errors
    /// What is wrong with its query or with the exception of this index, with the place.
    pub async fn compile(&self, mut rule: Rule, lists: &Arc<Lists>) -> Result<CompiledRule, Misplaced> {
        let form = if rule.schedule.is_some() {
            Form::Scheduled(Scheduled::prepare(&mut rule, lists).await?)
        } else {
            Form::Standing(self.standing(&rule, lists).await?)
        };
        Ok(CompiledRule { rule: Arc::new(rule), form, digest: [0; 32] })
    }

    async fn standing(&self, rule: &Rule, lists: &Lists) -> Result<Standing, Misplaced> {
        let of_query = |refusal| (None, refusal);
        // First as it is written, so that a column which its table does not have is refused.
        let (plain, shape) = lower_rule(&rule.sql, &[], lists).map_err(of_query)?;
        session::plan(&self.catalog, &plain).await.map_err(of_query)?;
        let columns = shape.table.columns();
        if let Some(name) = rule.dedup.iter().find(|name| !columns.iter().any(|(own, _)| own == name)) {
            let (schema, table) = shape.table.qualified_name();
            return Err((None, Refusal::new(format!("`dedup` names `{name}`, which {schema}.{table} does not have"))));
        }
        let hidden: Vec<&str> = MATCH_COLUMNS.into_iter().chain(rule.dedup.iter().map(String::as_str)).collect();
        let (lowered, shape) = lower_rule(&rule.sql, &hidden, lists).map_err(of_query)?;
        let Pieces { predicate, condition, results } = self.planned(&lowered).await.map_err(of_query)?;
        let RuleShape { table, hidden } = shape;
        let table = table.events().unwrap_or(Table::ProcessEvents);
        let own = results.len() - hidden;
        let names = lowered.written.names(results.iter().map(|(field, _)| field.name().as_str()));
        let results: Vec<_> =
            results.into_iter().zip(names).map(|((field, result), name)| (field.with_name(name), result)).collect();
        // What only shows when values flow, such as types that do not fit, shows here and not at three in the morning.
        let broken = |why: String| Refusal::new(format!("cannot be evaluated: {why}"));
        let sample = sample(table).map_err(|error| (None, broken(error.to_string())))?;
        let mut exceptions = Vec::with_capacity(rule.exceptions.len());
        for (index, exception) in rule.exceptions.iter().enumerate() {
            let of_exception = |refusal| (Some(index), refusal);
            let lowered = lower_exception(&exception.condition, table, lists).map_err(of_exception)?;
            let Pieces { condition, .. } = self.planned(&lowered).await.map_err(of_exception)?;
            holds(&condition, &sample).map_err(|error| of_exception(broken(error.to_string())))?;
            exceptions.push((exception.clone(), condition));
        }
        let screen = Screen::of(predicate.as_ref(), table, &self.allowance);
        let expressions = condition.iter().chain(exceptions.iter().filter_map(|(_, condition)| condition.as_ref()));
        let mut reads = vec![false; table.columns().len()];
        for column in expressions.chain(results.iter().map(|(_, result)| result)).flat_map(collect_columns) {
            if let Some(reads) = reads.get_mut(column.index()) {
                *reads = true;
            }
        }
        let standing = Standing { table, screen, condition, exceptions, results, own, reads };
        standing.evaluate(&sample).map_err(|why| of_query(broken(why)))?;
        Ok(standing)
    }

    async fn planned(&self, lowered: &Lowered) -> Result<Pieces, Refusal> {
        let plan = session::plan(&self.events, lowered).await?;
        self.pieces(plan).map_err(|error| lowered.place(Refusal::from_planner(&error)))
    }

    /// The condition and the result columns of a planned rule.
    fn pieces(&self, plan: LogicalPlan) -> EngineResult<Pieces> {
        let plan = self.events.analyzer().execute_and_check(plan, self.events.config_options(), |_, _| {})?;
        let LogicalPlan::Projection(projection) = plan else {
            return Err(DataFusionError::Plan("this form of query is not supported in a rule".to_owned()));
        };
        let (predicate, input) = match projection.input.as_ref() {
            LogicalPlan::Filter(filter) => (Some(&filter.predicate), filter.input.as_ref()),
            other => (None, other),
        };
        if !matches!(input, LogicalPlan::SubqueryAlias(_) | LogicalPlan::TableScan(_)) {
            return Err(DataFusionError::Plan("this form of query is not supported in a rule".to_owned()));
        }
        let rows = input.schema();
        let condition =
            predicate.map(|condition| self.events.create_physical_expr(condition.clone(), rows)).transpose()?;
        let results = projection
            .expr
            .iter()
            .zip(projection.schema.fields())
            .map(|(expr, field)| {
                Ok((field.as_ref().clone(), self.events.create_physical_expr(expr.clone().unalias(), rows)?))
            })
            .collect::<EngineResult<_>>()?;
        Ok(Pieces { predicate: predicate.cloned(), condition, results })
    }
}

/// A planned rule.
struct Pieces {
    /// The condition as it was planned, and as it is evaluated.
    predicate: Option<Expr>,
    condition: Condition,
    /// The result columns.
    results: Vec<(Field, Arc<dyn PhysicalExpr>)>,
}

/// Of which rows a condition is true; none where it is true of all.
fn holds(condition: &Condition, rows: &RecordBatch) -> EngineResult<Option<BooleanArray>> {
    let Some(condition) = condition else { return Ok(None) };
    let truth = condition.evaluate(rows)?.into_array(rows.num_rows())?;
    match truth.as_any().downcast_ref::<BooleanArray>() {
        Some(truth) => Ok(Some(truth.clone())),
        None => Err(DataFusionError::Execution("the condition is no truth value".to_owned())),
    }
}

/// A row with few values and one with more.
fn sample(table: Table) -> EngineResult<RecordBatch> {
    use crate::proto::common::{
        FilesystemEvent, NetworkEvent, PerformanceSample, ProcessEvent, ProcessRecord, SecurityEvent,
    };
    let name = || Some("sh".to_owned());
    let process = ProcessRecord { name: name(), ppid: Some(1), start_time: Some(1), ..ProcessRecord::default() };
    let events: [Event; 2] = match table {
        Table::NetworkConnections => {
            let named = NetworkEvent { name: name(), remote_port: Some(1), ..NetworkEvent::default() };
            [NetworkEvent::default().into(), named.into()]
        }
        Table::FilesystemEvents => {
            let named = FilesystemEvent { name: name(), size: Some(1), ..FilesystemEvent::default() };
            [FilesystemEvent::default().into(), named.into()]
        }
        Table::PerformanceSamples => {
            let named = PerformanceSample { name: name(), value: 1.0, ..PerformanceSample::default() };
            [PerformanceSample::default().into(), named.into()]
        }
        Table::SecurityEvents => {
            let named = SecurityEvent { name: name(), target_pid: Some(1), ..SecurityEvent::default() };
            [SecurityEvent::default().into(), named.into()]
        }
        _ => [None, Some(process)].map(|process| ProcessEvent { event_type: 1, event_time: 1, process }.into()),
    };
    event_batch(table, &events.map(|event| IdentifiedEvent { event_id: String::new(), event }))
}

/// The events of a table as rules see them.
///
/// # Errors
/// Only where the columns do not fit the schema, which is a defect.
pub fn event_batch<'e>(
    table: Table,
    events: impl IntoIterator<Item = &'e IdentifiedEvent>,
) -> EngineResult<RecordBatch> {
    let own: Vec<_> = events.into_iter().filter(|event| event.event.table() == table).collect();
    let all = vec![true; table.columns().len()];
    Ok(batch::build_read(table, &all, own.iter().copied(), columns::event_value)?)
}

impl Standing {
    /// The table of events whose rows it looks at.
    pub(super) const fn table(&self) -> Table {
        self.table
    }

    /// Whether it may be true of this event of its table; of one of which it may not, it is not.
    pub(super) fn may_match(&self, event: &IdentifiedEvent) -> bool {
        self.screen.may_match(event)
    }

    /// These events of its table as far as it reads them.
    ///
    /// # Errors
    /// Only where the columns do not fit the schema, which is a defect.
    pub(super) fn batch_of(&self, events: &[&IdentifiedEvent]) -> EngineResult<RecordBatch> {
        let rows = events.iter().copied();
        Ok(batch::build_read(self.table, &self.reads, rows, columns::event_value)?)
    }
}

impl CompiledRule {
    /// The table of events whose rows a standing rule looks at.
    pub fn table(&self) -> Option<Table> {
        match &self.form {
            Form::Standing(standing) => Some(standing.table),
            Form::Scheduled(_) => None,
        }
    }

    /// The rows of the batch, of the rule's table, that match; a scheduled rule looks at no batch. Where the batch as a whole cannot be evaluated,
    /// each row is by itself, so that one row that a function cannot digest hides no other.
    pub fn evaluate_each(&self, events: &RecordBatch) -> Evaluated {
        let Form::Standing(standing) = &self.form else { return Evaluated::default() };
        if let Ok(evaluated) = standing.evaluate(events) {
            return evaluated;
        }
        let mut all = Evaluated::default();
        for row in 0..events.num_rows() {
            match standing.evaluate(&events.slice(row, 1)) {
                Ok(evaluated) => {
                    all.matches.extend(evaluated.matches);
                    all.excepted += evaluated.excepted;
                }
                Err(why) => {
                    all.failed_rows += 1;
                    all.why = Some(why);
                }
            }
        }
        all
    }

    /// Those of the events that match; a scheduled rule looks at none. As in [`CompiledRule::evaluate_each`], an event that cannot be evaluated
    /// hides no other.
    pub fn look_at(&self, events: &[IdentifiedEvent]) -> Evaluated {
        let Form::Standing(standing) = &self.form else { return Evaluated::default() };
        let own = events.iter().filter(|event| event.event.table() == standing.table && standing.may_match(event));
        let own: Vec<_> = own.collect();
        if own.is_empty() {
            return Evaluated::default();
        }
        match standing.batch_of(&own) {
            Ok(batch) => self.evaluate_each(&batch),
            Err(error) => {
                let why = Some(format!("its events cannot be shown to it, a defect of DaemonEye: {error}"));
                Evaluated { failed_rows: own.len() as u64, why, ..Evaluated::default() }
            }
        }
    }

    /// The rows of the batch that match.
    ///
    /// # Errors
    /// Why the rule could not be evaluated over them.
    pub fn evaluate(&self, events: &RecordBatch) -> Result<Vec<Match>, String> {
        match &self.form {
            Form::Standing(standing) => standing.evaluate(events).map(|evaluated| evaluated.matches),
            Form::Scheduled(_) => Ok(Vec::new()),
        }
    }
}

impl Standing {
    /// A panic of the engine is a failure of this rule alone.
    fn evaluate(&self, events: &RecordBatch) -> Result<Evaluated, String> {
        match catch_unwind(AssertUnwindSafe(|| self.matches(events))) {
            Ok(matches) => matches.map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned()),
            Err(_) => Err("the engine gave up: a defect of DaemonEye".to_owned()),
        }
    }

    fn matches(&self, events: &RecordBatch) -> EngineResult<Evaluated> {
        let matching = match holds(&self.condition, events)? {
            None => events.clone(),
            Some(truth) if truth.true_count() == 0 => return Ok(Evaluated::default()),
            Some(truth) => filter_record_batch(events, &truth)?,
        };
        let before = matching.num_rows();
        let matching = self.without_exceptions(matching);
        let excepted = (before - matching.num_rows()) as u64;
        if matching.num_rows() == 0 {
            return Ok(Evaluated { excepted, ..Evaluated::default() });
        }
        let arrays = self
            .results
            .iter()
            .map(|(_, result)| result.evaluate(&matching)?.into_array(matching.num_rows()))
            .collect::<EngineResult<Vec<ArrayRef>>>()?;
        let fields: Vec<Field> = self
            .results
            .iter()
            .zip(&arrays)
            .map(|((field, _), array)| field.clone().with_data_type(array.data_type().clone()).with_nullable(true))
            .collect();
        let kinds: Vec<ColumnKind> = fields.iter().map(kind_of).collect();
        let results = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        let matches = rows(&results).iter().map(|row| self.found(&kinds, row)).collect();
        Ok(Evaluated { matches, excepted, ..Evaluated::default() })
    }

    /// Without the rows of which an exception in force is true. One that cannot be evaluated takes nothing out: rather an
    /// alert too many than one too few.
    fn without_exceptions(&self, mut matching: RecordBatch) -> RecordBatch {
        if self.exceptions.is_empty() {
            return matching;
        }
        let now = time::now_ns();
        for (exception, condition) in self.exceptions.iter().filter(|(exception, _)| exception.applies(now)) {
            let left = match holds(condition, &matching) {
                Ok(None) => Ok(matching.slice(0, 0)),
                Ok(Some(excepted)) => {
                    let stays: BooleanArray = excepted.iter().map(|excepted| Some(excepted != Some(true))).collect();
                    filter_record_batch(&matching, &stays).map_err(DataFusionError::from)
                }
                Err(error) => Err(error),
            };
            match left {
                Ok(left) => matching = left,
                Err(error) => {
                    tracing::warn!(exception = %exception.condition, %error, "an exception could not be evaluated: it takes nothing out");
                }
            }
        }
        matching
    }

    fn found(&self, kinds: &[ColumnKind], row: &ResultRow) -> Match {
        let json = |index: usize| match (kinds.get(index), row.cells.get(index)) {
            (Some(kind), Some(cell)) => json_value(*kind, cell),
            _ => Json::Null,
        };
        let own: Map<String, Json> = self
            .results
            .iter()
            .take(self.own)
            .enumerate()
            .map(|(index, (field, _))| (field.name().clone(), json(index)))
            .collect();
        let hidden = |index: usize| row.cells.get(self.own + index);
        let text = |index: usize| match hidden(index) {
            Some(Cell { value: Some(cell::Value::Text(text)) }) => Some(text.clone()),
            _ => None,
        };
        let pid = match hidden(2) {
            Some(Cell { value: Some(cell::Value::Integer(pid)) }) => u32::try_from(*pid).unwrap_or(0),
            _ => 0,
        };
        let first_dedup = self.own + MATCH_COLUMNS.len();
        let dedup: Vec<Json> = (first_dedup..row.cells.len()).map(json).collect();
        Match {
            event_id: text(0).unwrap_or_default(),
            process_key: text(1).unwrap_or_default(),
            pid,
            name: text(3),
            executable_path: text(4),
            dedup_key: Json::Array(dedup).to_string(),
            row: Json::Object(own).to_string(),
        }
    }
}
