//! What a rule would have raised over the stored events, how often a day, and what it costs.

use crate::collectors::Collectors;
use crate::completeness;
use crate::requests::{failure, query_failure};
use crate::rule_requests::unknown;
use crate::tables::Tables;
use daemoneye_lib::alerting::Trial;
use daemoneye_lib::detection::engine::{CompiledRule, Match};
use daemoneye_lib::detection::query::{Parameter, Queries, rows};
use daemoneye_lib::detection::rules::{Mode, Schedule, load_text};
use daemoneye_lib::detection::scheduled::added;
use daemoneye_lib::detection::standing::DetectionEngine;
use daemoneye_lib::detection::{Cost, Parameters};
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::columns::EVENT;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{
    Cell, Completeness, RequestError, RequestErrorKind, TestDay, TestRule, TestRuleReply, cell,
};
use daemoneye_lib::storage::{Snapshot, Store, TimeRange};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most runs of a scheduled rule that a trial makes.
const MAX_RUNS: i64 = 1_000;
/// The most alerts that an answer carries; it must fit a frame.
const MAX_ALERTS: usize = 100;
/// Bytes of the alerts that an answer carries.
const MAX_ALERT_BYTES: usize = 1 << 20;

/// What trials need.
pub(crate) struct Trials {
    pub(crate) engine: DetectionEngine,
    pub(crate) queries: Arc<Queries>,
    pub(crate) store: Arc<Store>,
    pub(crate) collectors: Collectors,
    pub(crate) timeout: Duration,
}

/// A trial under way.
struct Course {
    trial: Trial,
    days: BTreeMap<String, TestDay>,
    rows: u64,
    excepted: u64,
    evaluations: u64,
    cost: Duration,
    reasons: Vec<String>,
    deadline: Instant,
    timeout: Duration,
}

impl Trials {
    /// Blocks as long as it takes.
    pub(crate) async fn run(&self, wanted: TestRule) -> Result<TestRuleReply, RequestError> {
        let rule = self.rule(&wanted).await?;
        let asked = Duration::from_millis(wanted.timeout_ms);
        let timeout = if asked.is_zero() { self.timeout } else { asked.min(self.timeout) };
        let to = time::now_ns();
        let back = i64::try_from(wanted.history_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let range = TimeRange { from: to.saturating_sub(back), to };
        let failed = |error: String| failure(RequestErrorKind::FailedRequest, error);
        let snapshot = self.store.snapshot().map_err(|error| failed(error.to_string()))?;
        let gaps = completeness::gaps(&snapshot, &self.collectors).map_err(|error| failed(error.to_string()))?;
        let mut course = Course {
            trial: Trial::default(),
            days: BTreeMap::new(),
            rows: 0,
            excepted: 0,
            evaluations: 0,
            cost: Duration::ZERO,
            reasons: Vec::new(),
            deadline: Instant::now() + timeout,
            timeout,
        };
        match rule.schedule() {
            None => course.over_events(&rule, &snapshot, range).await.map_err(failed)?,
            Some(schedule) => {
                let tables = || -> Result<Tables, RequestError> {
                    let snapshot = self.store.snapshot().map_err(|error| failed(error.to_string()))?;
                    Ok(Tables { snapshot, collectors: self.collectors.clone(), detection: self.engine.record() })
                };
                course.over_runs(&rule, schedule, &self.queries, tables, range).await?;
            }
        }
        let touched = [(rule.table().unwrap_or(Table::ProcessEvents), range.from, range.to)];
        let mut reasons = completeness::reasons(&gaps, &self.collectors.limitations(), &touched);
        reasons.append(&mut course.reasons);
        let mut bytes = 0;
        let fits = |alert: &&daemoneye_lib::proto::common::Alert| {
            bytes += prost::Message::encoded_len(*alert);
            bytes <= MAX_ALERT_BYTES
        };
        Ok(TestRuleReply {
            rule_id: rule.rule.id.clone(),
            from: range.from,
            to: range.to,
            rows: course.rows,
            matches: course.trial.matches,
            excepted: course.excepted,
            alerts: course.trial.raised,
            cost_ns: u64::try_from(course.cost.as_nanos()).unwrap_or(u64::MAX),
            evaluations: course.evaluations,
            first_alerts: course.trial.alerts.iter().take(MAX_ALERTS).take_while(fits).cloned().collect(),
            days: course.days.into_values().collect(),
            completeness: Some(Completeness { degraded: !reasons.is_empty(), reasons }),
        })
    }

    async fn rule(&self, wanted: &TestRule) -> Result<Arc<CompiledRule>, RequestError> {
        if wanted.rule_text.is_empty() {
            let rules = self.engine.rules();
            return rules
                .iter()
                .find(|rule| rule.rule.id == wanted.rule_id)
                .cloned()
                .ok_or_else(|| unknown(&wanted.rule_id));
        }
        let loaded = load_text(Path::new(&wanted.file), &wanted.rule_text, &wanted.lists_text).await;
        loaded.map_err(|problem| RequestError {
            line: u32::try_from(problem.line).unwrap_or(0),
            column: u32::try_from(problem.column).unwrap_or(0),
            hint: problem.hint.clone().unwrap_or_default(),
            ..failure(RequestErrorKind::RefusedRequest, format!("{}: {}", wanted.file, problem.message))
        })
    }
}

impl Course {
    /// Whether the time is over; the answer is cut then.
    fn is_over(&mut self, until: &str) -> bool {
        let over = Instant::now() >= self.deadline;
        if over {
            let seconds = self.timeout.as_secs_f64();
            self.reasons.push(format!("time_limit: the trial was cut short after {seconds} s, at {until}"));
        }
        over
    }

    fn add(&mut self, rule: &CompiledRule, found: &Match, moment: i64) {
        let raised = self.trial.add(&rule.rule, found, moment);
        let day: String = time::sql_text(moment).chars().take(10).collect();
        let entry = self.days.entry(day.clone()).or_insert_with(|| TestDay { day, ..TestDay::default() });
        entry.matches += 1;
        entry.alerts += u64::from(raised);
    }

    async fn over_events(&mut self, rule: &CompiledRule, snapshot: &Snapshot, range: TimeRange) -> Result<(), String> {
        let table = rule.table().unwrap_or(Table::ProcessEvents);
        let all: Vec<usize> = (0..table.columns().len()).collect();
        let time_column = EVENT.iter().position(|column| column.name == "event_time").unwrap_or_default();
        for batch in snapshot.events_where(table, &all, range, &[]).map_err(|error| error.to_string())? {
            let batch = batch.map_err(|error| error.to_string())?;
            let cost = Cost::start();
            let evaluated = rule.evaluate_each(&batch);
            self.cost += cost.so_far();
            self.evaluations += 1;
            self.rows += batch.num_rows() as u64;
            self.excepted += evaluated.excepted;
            if let Some(why) = evaluated.why {
                self.reasons.push(format!("rule_failed: {} rows could not be evaluated: {why}", evaluated.failed_rows));
            }
            if !evaluated.matches.is_empty() {
                let columns = batch.project(&[0, time_column]).map_err(|error| error.to_string())?;
                let times: HashMap<String, i64> = rows(&columns)
                    .into_iter()
                    .filter_map(|row| Some((text(row.cells.first()?)?, time::parse(&text(row.cells.get(1)?)?)?)))
                    .collect();
                for found in evaluated.matches {
                    let moment = times.get(&found.event_id).copied().unwrap_or(range.from);
                    if (range.from..=range.to).contains(&moment) {
                        self.add(rule, &found, moment);
                    }
                }
            }
            // Lets the request be cancelled.
            tokio::task::yield_now().await;
            if self.is_over("a batch of events") {
                break;
            }
        }
        Ok(())
    }

    async fn over_runs(
        &mut self,
        rule: &CompiledRule,
        schedule: Schedule,
        queries: &Queries,
        tables: impl Fn() -> Result<Tables, RequestError>,
        range: TimeRange,
    ) -> Result<(), RequestError> {
        let every = i64::try_from(schedule.every.as_nanos()).unwrap_or(i64::MAX).max(1);
        // Before the first event there is nothing to see; the last run is now.
        let first = first_event(queries, tables()?, range).await?.unwrap_or(range.to);
        let span = range.to.saturating_sub(first.max(range.from));
        let step = every.max(span / MAX_RUNS);
        if step > every {
            let seconds = Duration::from_nanos(step.unsigned_abs()).as_secs();
            let own = schedule.every.as_secs();
            self.reasons.push(format!("run_limit: the trial ran the rule every {seconds} s instead of every {own} s"));
        }
        let mut known = None;
        for back in (0..=span / step).rev() {
            let now = range.to.saturating_sub(back.saturating_mul(step));
            let cost = Cost::start();
            let ran = rule.run(queries, Arc::new(tables()?), now).await.map_err(query_failure)?;
            self.cost += cost.so_far();
            self.evaluations += 1;
            self.rows += ran.rows;
            let found = match schedule.mode {
                Mode::All => ran.matches.into_iter().map(|(found, _)| found).collect(),
                Mode::Diff => {
                    let (fresh, all) = added(ran.matches, known.as_ref());
                    known = Some(all);
                    fresh
                }
            };
            for found in found {
                self.add(rule, &found, now);
            }
            tokio::task::yield_now().await;
            if self.is_over(&time::rfc3339(now)) {
                break;
            }
        }
        Ok(())
    }
}

/// When the first event of the stretch was.
async fn first_event(queries: &Queries, tables: Tables, range: TimeRange) -> Result<Option<i64>, RequestError> {
    let from = Parameter::Text(time::sql_text(range.from));
    let parameters = Parameters { positional: vec![from], ..Parameters::default() };
    let sql = "SELECT min(event_time) FROM processes.events WHERE event_time >= ?";
    let mut answer = queries.run(sql, &parameters, Arc::new(tables)).await.map_err(query_failure)?;
    let mut first = None;
    while let Some(batch) = answer.next().await {
        let batch = batch.map_err(query_failure)?;
        first = first.or_else(|| time::parse(&text(rows(&batch).first()?.cells.first()?)?));
    }
    Ok(first)
}

fn text(cell: &Cell) -> Option<String> {
    match cell.value.as_ref()? {
        cell::Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}
