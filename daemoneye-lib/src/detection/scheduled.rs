//! Rules that look at a stretch of time: planned anew at each run, over the stored events of their window.
//!
//! Such a rule may join, aggregate and read any table. Tables of events show it those of its window alone; the other
//! tables are as they are now. What a run returns is a match row by row; in the mode `diff` only what the run before did not
//! return. [`told`] says which matches are told. Who runs a rule, when, and where it is remembered what the run before returned,
//! is the agent's affair.

use super::engine::{CompiledRule, Form, Match};
use super::error::{Refusal, nearest};
use super::lower::lower_scheduled;
use super::query::{Answer, Queries, QueryError, json_value, rows};
use super::rules::lists::Lists;
use super::rules::{DEFAULT_DEDUP, Mode, Rule, Schedule};
use super::source::{Batches, Nothing, SourceError, TableSource, Wanted};
use crate::models::catalog::Table;
use crate::models::time;
use crate::proto::ipc::{Cell, ResultColumn, cell};
use datafusion::arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use serde_json::{Map, Value as Json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The most rows that a run may return: a rule that returns more says nothing.
pub const MAX_ROWS: usize = 10_000;
/// What planning may take.
const PLANNING_BYTES: usize = 16 << 20;

/// What a scheduled rule is planned from, besides its text.
pub struct Scheduled {
    lists: Arc<Lists>,
}

/// Rows that runs returned, by digest.
pub type Known = BTreeSet<[u8; 16]>;

/// What one run of a scheduled rule found.
#[derive(Debug, Default)]
pub struct Ran {
    /// The rows that it returned, each with its digest.
    pub matches: Vec<(Match, [u8; 16])>,
    /// Rows that it read.
    pub rows: u64,
    /// Rows that an exception took out.
    pub excepted: u64,
    /// Which stretches of which tables it read.
    pub touched: Vec<(Table, i64, i64)>,
}

impl Scheduled {
    /// Validates the rule's query and its exceptions; fills in which columns make two rows the same alert.
    pub(super) async fn prepare(rule: &mut Rule, lists: &Arc<Lists>) -> Result<Self, (Option<usize>, Refusal)> {
        let failed = |error: QueryError| match error {
            QueryError::Refused(refusal) => refusal,
            other => Refusal::new(format!("the query cannot be evaluated: {other}")),
        };
        let queries = Queries::new(PLANNING_BYTES).map_err(|error| (None, failed(error)))?;
        let plan = async |exceptions: &[&str]| -> Result<Answer, Refusal> {
            let lowered = lower_scheduled(&rule.sql, exceptions, lists, time::now_ns())?;
            let mut answer = queries.run_lowered(lowered, Arc::new(Nothing)).await.map_err(failed)?;
            // Over empty tables: what only shows when it runs shows now.
            while let Some(batch) = answer.next().await {
                batch.map_err(failed)?;
            }
            Ok(answer)
        };
        let answer = plan(&[]).await.map_err(|refusal| (None, refusal))?;
        for (index, exception) in rule.exceptions.iter().enumerate() {
            plan(&[&exception.condition]).await.map_err(|refusal| (Some(index), refusal))?;
        }
        rule.dedup = dedup(&rule.dedup, answer.columns()).map_err(|refusal| (None, refusal))?;
        Ok(Self { lists: Arc::clone(lists) })
    }
}

/// The columns that make two rows the same alert, called as the result calls them.
fn dedup(wanted: &[String], columns: &[ResultColumn]) -> Result<Vec<String>, Refusal> {
    let names = || columns.iter().map(|column| column.name.as_str());
    let find = |wanted: &str| names().find(|name| name.eq_ignore_ascii_case(wanted)).map(str::to_owned);
    if wanted.is_empty() {
        let found: Vec<String> = DEFAULT_DEDUP.into_iter().filter_map(find).collect();
        return if found.is_empty() {
            let hint = "name result columns that stay the same while the reason does, for example dedup = [\"user\"]";
            Err(Refusal::new("`dedup` is missing, and neither process_key nor executable_path is selected").hint(hint))
        } else {
            Ok(found)
        };
    }
    let found = wanted.iter().map(|name| {
        find(name).ok_or_else(|| {
            let refusal = Refusal::new(format!("`dedup` names `{name}`, which the query does not select"));
            match nearest(name, names()) {
                Some(nearest) => refusal.hint(format!("did you mean `{nearest}`?")),
                None => refusal.hint(format!("select it, or choose among {}", names().collect::<Vec<_>>().join(", "))),
            }
        })
    });
    found.collect()
}

impl CompiledRule {
    /// When it runs, for a scheduled rule.
    pub fn schedule(&self) -> Option<Schedule> {
        self.rule.schedule
    }

    /// Runs a scheduled rule over its window before `now`. A standing one returns nothing.
    ///
    /// # Errors
    /// When it needs too much memory, returns too much, or fails.
    pub async fn run(&self, queries: &Queries, source: Arc<dyn TableSource>, now: i64) -> Result<Ran, QueryError> {
        let (Form::Scheduled(scheduled), Some(schedule)) = (&self.form, self.rule.schedule) else {
            return Ok(Ran::default());
        };
        let exceptions = self.rule.exceptions.iter().filter(|exception| exception.applies(now));
        let exceptions: Vec<&str> = exceptions.map(|exception| exception.condition.as_str()).collect();
        let lowered = lower_scheduled(&self.rule.sql, &exceptions, &scheduled.lists, now)?;
        let from = now.saturating_sub(nanoseconds(schedule.window));
        let read = Arc::new(AtomicU64::new(0));
        let window = Window { source, from, to: now, read: Arc::clone(&read) };
        let mut answer = queries.run_lowered(lowered, Arc::new(window)).await?;
        let columns = answer.columns().to_vec();
        let mut ran = Ran::default();
        // Behind the query's own columns stands one for each exception.
        let (columns, verdicts) = columns.split_at(columns.len().saturating_sub(exceptions.len()));
        while let Some(batch) = answer.next().await {
            for row in rows(&batch?) {
                let (cells, of_exceptions) = row.cells.split_at(columns.len().min(row.cells.len()));
                if of_exceptions.iter().take(verdicts.len()).any(is_true) {
                    ran.excepted += 1;
                    continue;
                }
                if ran.matches.len() == MAX_ROWS {
                    return Err(QueryError::Failed(format!("it returns more than {MAX_ROWS} rows")));
                }
                ran.matches.push(self.matched(columns, cells, now, schedule));
            }
        }
        ran.rows = read.load(Ordering::Relaxed);
        ran.touched = answer.touched();
        for table in answer.tables() {
            if !ran.touched.iter().any(|(own, ..)| own == table) {
                ran.touched.push((*table, i64::MIN, i64::MAX));
            }
        }
        for (table, since, until) in &mut ran.touched {
            if table.time_column().is_some() {
                (*since, *until) = ((*since).max(from), (*until).min(now));
            }
        }
        Ok(ran)
    }

    fn matched(&self, columns: &[ResultColumn], cells: &[Cell], now: i64, schedule: Schedule) -> (Match, [u8; 16]) {
        let find = |name: &str| columns.iter().position(|column| column.name.eq_ignore_ascii_case(name));
        let json = |index: usize| match (columns.get(index), cells.get(index)) {
            (Some(column), Some(cell)) => json_value(column.kind(), cell),
            _ => Json::Null,
        };
        let text = |name: &str| match cells.get(find(name)?)?.value.as_ref()? {
            cell::Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        let pid = find("pid").and_then(|index| match cells.get(index)?.value.as_ref()? {
            cell::Value::Integer(pid) => u32::try_from(*pid).ok(),
            _ => None,
        });
        let row: Map<String, Json> =
            columns.iter().enumerate().map(|(index, column)| (column.name.clone(), json(index))).collect();
        let row = Json::Object(row).to_string();
        let digest = short_digest(&[self.rule.id.as_bytes(), row.as_bytes()]);
        // A row that stays is one occurrence for each length of the window.
        let stretch = now.div_euclid(nanoseconds(schedule.window).max(1));
        let occurrence = || {
            let digest = short_digest(&[&digest, &stretch.to_le_bytes()]);
            digest.iter().fold("run-".to_owned(), |id, byte| format!("{id}{byte:02x}"))
        };
        let dedup: Vec<Json> = self.rule.dedup.iter().map(|name| find(name).map_or(Json::Null, json)).collect();
        let found = Match {
            event_id: text("event_id").unwrap_or_else(occurrence),
            process_key: text("process_key").unwrap_or_default(),
            pid: pid.unwrap_or(0),
            name: text("name"),
            executable_path: text("executable_path"),
            dedup_key: Json::Array(dedup).to_string(),
            row,
        };
        (found, digest)
    }
}

/// What of a run is told, and what is to be known at the next.
#[derive(Debug, PartialEq)]
pub struct Told {
    /// The matches that are told.
    pub fresh: Vec<Match>,
    /// How many the run has found: in the mode `diff` only what was added.
    pub found: u64,
    /// What is known now.
    pub known: Known,
}

/// Which matches of a run are told when this is `known` of the run before.
///
/// In the mode `all` it is each occurrence once: one that the run before told already is not told again, however many there are.
/// In the mode `diff` it is the rows that the run before did not return; without anything known the first run only learns.
pub fn told(mode: Mode, ran: Vec<(Match, [u8; 16])>, known: Option<&Known>) -> Told {
    let all = ran.len() as u64;
    let ran: Vec<(Match, [u8; 16])> = match mode {
        Mode::All => ran
            .into_iter()
            .map(|(found, _)| {
                let occurrence = found.occurrence();
                (found, occurrence)
            })
            .collect(),
        Mode::Diff => ran,
    };
    let now: Known = ran.iter().map(|(_, digest)| *digest).collect();
    let is_fresh = |digest: &[u8; 16]| match mode {
        Mode::All => known.is_none_or(|known| !known.contains(digest)),
        Mode::Diff => known.is_some_and(|known| !known.contains(digest)),
    };
    let fresh: Vec<Match> = ran.into_iter().filter(|(_, digest)| is_fresh(digest)).map(|(found, _)| found).collect();
    let found = if mode == Mode::All { all } else { fresh.len() as u64 };
    Told { fresh, found, known: now }
}

impl Match {
    /// What makes it another occurrence than others of its rule.
    fn occurrence(&self) -> [u8; 16] {
        short_digest(&[self.event_id.as_bytes(), self.dedup_key.as_bytes()])
    }
}

fn is_true(cell: &Cell) -> bool {
    matches!(cell.value, Some(cell::Value::Integer(truth)) if truth != 0)
}

fn short_digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("daemoneye 2026 scheduled-row v1");
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut short = [0; 16];
    hasher.finalize_xof().fill(&mut short);
    short
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A source of which only the events of a stretch of time are seen; it counts the rows that it gives.
struct Window {
    source: Arc<dyn TableSource>,
    from: i64,
    to: i64,
    read: Arc<AtomicU64>,
}

impl TableSource for Window {
    fn scan(&self, table: Table, wanted: &Wanted) -> Result<Batches, SourceError> {
        let read = Arc::clone(&self.read);
        let count = move |batch: &RecordBatch| {
            read.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        };
        let Some(time_column) = table.time_column() else {
            let batches = self.source.scan(table, wanted)?;
            return Ok(Box::new(batches.map(move |batch| batch.inspect(&count))));
        };
        let time_column = table.columns().iter().position(|(name, _)| *name == time_column).unwrap_or_default();
        let mut wanted = wanted.clone();
        (wanted.from, wanted.to) = (wanted.from.max(self.from), wanted.to.min(self.to));
        // The column by which rows are chosen is read even where the query does not want it.
        let added = !wanted.projection.contains(&time_column);
        if added {
            wanted.projection.push(time_column);
        }
        let at = wanted.projection.iter().position(|column| *column == time_column).unwrap_or_default();
        let kept: Vec<usize> = (0..wanted.projection.len() - usize::from(added)).collect();
        let (from, to) = (time::sql_text(self.from), time::sql_text(self.to));
        let batches = self.source.scan(table, &wanted)?;
        Ok(Box::new(batches.map(move |batch| {
            let batch = batch?;
            let times = batch.column(at).as_string_opt::<i32>().ok_or("the time of an event is no text")?;
            let within: BooleanArray =
                times.iter().map(|time| Some(time.is_some_and(|time| *from <= *time && *time <= *to))).collect();
            let batch = filter_record_batch(&batch, &within)?;
            count(&batch);
            Ok(if added { batch.project(&kept)? } else { batch })
        })))
    }
}
