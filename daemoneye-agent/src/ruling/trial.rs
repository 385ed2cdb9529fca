//! What a rule would have raised over the stored events, how often a day, and what it costs.
//!
//! A trial has the time of a query, and memory of its own: however much it takes, it takes nothing from the rules in force.

use crate::answering::completeness::{self, CutQueries};
use crate::answering::planning::{Deadline, Planning, Undone};
use crate::answering::queries::{failure, query_failure};
use crate::answering::tables::Tables;
use crate::collecting::collectors::Collectors;
use crate::ruling::requests::unknown;
use daemoneye_lib::alerting::Trial;
use daemoneye_lib::config::Agent;
use daemoneye_lib::detection::engine::{CompiledRule, Match};
use daemoneye_lib::detection::query::{Parameter, Queries, QueryError, rows};
use daemoneye_lib::detection::rules::{Schedule, load_text};
use daemoneye_lib::detection::scheduled::{Told, told};
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
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

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
    pub(crate) cut_queries: CutQueries,
    pub(crate) limits: watch::Receiver<Agent>,
    pub(crate) planning: Planning,
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
    deadline: Deadline,
}

impl Trials {
    /// Blocks its thread for as long as a batch of events takes.
    pub(crate) async fn run(&self, wanted: TestRule) -> Result<TestRuleReply, RequestError> {
        let own = Duration::from_millis(self.limits.borrow().query_timeout_ms);
        let asked = Duration::from_millis(wanted.timeout_ms);
        let deadline = Deadline::after(if asked.is_zero() { own } else { asked.min(own) });
        let rule = self.rule(&wanted, deadline).await?;
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
            deadline,
        };
        match rule.schedule() {
            None => course.over_events(&rule, &snapshot, range).await.map_err(failed)?,
            Some(schedule) => {
                let tables = || -> Result<Tables, RequestError> {
                    let snapshot = self.store.snapshot().map_err(|error| failed(error.to_string()))?;
                    Ok(Tables {
                        snapshot,
                        collectors: self.collectors.clone(),
                        detection: self.engine.record(),
                        cut_queries: self.cut_queries.clone(),
                    })
                };
                course.over_runs(&rule, schedule, self, tables, range).await?;
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

    async fn rule(&self, wanted: &TestRule, deadline: Deadline) -> Result<Arc<CompiledRule>, RequestError> {
        if wanted.rule_text.is_empty() {
            let rules = self.engine.rules();
            return rules
                .iter()
                .find(|rule| rule.rule.id == wanted.rule_id)
                .cloned()
                .ok_or_else(|| unknown(&wanted.rule_id));
        }
        let (file, text, lists) = (PathBuf::from(&wanted.file), wanted.rule_text.clone(), wanted.lists_text.clone());
        let loading = self.planning.run(deadline, move || async move { load_text(&file, &text, &lists).await });
        let loaded = loading.await.map_err(|undone| undone.told("rule", deadline))?;
        loaded.map_err(|problem| RequestError {
            line: u32::try_from(problem.line).unwrap_or(0),
            column: u32::try_from(problem.column).unwrap_or(0),
            hint: problem.hint.clone().unwrap_or_default(),
            ..failure(RequestErrorKind::RefusedRequest, format!("{}: {}", wanted.file, problem.message))
        })
    }
}

impl Course {
    /// The time is over: the answer is cut.
    fn cut(&mut self, until: &str) {
        let seconds = self.deadline.timeout.as_secs_f64();
        self.reasons.push(format!("time_limit: the trial was cut short after {seconds} s, at {until}"));
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
            if self.deadline.is_over() {
                self.cut("a batch of events");
                break;
            }
        }
        Ok(())
    }

    async fn over_runs(
        &mut self,
        rule: &Arc<CompiledRule>,
        schedule: Schedule,
        trials: &Trials,
        tables: impl Fn() -> Result<Tables, RequestError>,
        range: TimeRange,
    ) -> Result<(), RequestError> {
        let every = i64::try_from(schedule.every.as_nanos()).unwrap_or(i64::MAX).max(1);
        // Before the first event there is nothing to see; the last run is now.
        let (queries, all) = (Arc::clone(&trials.queries), tables()?);
        let looking =
            trials.planning.run(self.deadline, move || async move { first_event(&queries, all, range).await });
        let first = match looking.await {
            Ok(first) => first.map_err(query_failure)?.unwrap_or(range.to),
            Err(undone) => return self.undone(undone, "the search for the first event"),
        };
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
            let (own, queries, tables) = (Arc::clone(rule), Arc::clone(&trials.queries), Arc::new(tables()?));
            let running = trials.planning.run(self.deadline, move || async move {
                let cost = Cost::start();
                let ran = own.run(&queries, tables, now).await;
                (ran, cost.so_far())
            });
            let (ran, cost) = match running.await {
                Ok((ran, cost)) => (ran.map_err(query_failure)?, cost),
                Err(undone) => return self.undone(undone, &time::rfc3339(now)),
            };
            self.cost += cost;
            self.evaluations += 1;
            self.rows += ran.rows;
            self.excepted += ran.excepted;
            let Told { fresh, found, known: now_known } = told(schedule.mode, ran.matches, known.as_ref());
            known = Some(now_known);
            self.trial.add_repeated(found.saturating_sub(fresh.len() as u64));
            for found in fresh {
                self.add(rule, &found, now);
            }
        }
        Ok(())
    }

    /// What was found until the time was over is an answer; a defect is none.
    fn undone(&mut self, undone: Undone, until: &str) -> Result<(), RequestError> {
        match undone {
            Undone::Late => {
                self.cut(until);
                Ok(())
            }
            defect @ Undone::Defect(_) => Err(defect.told("rule", self.deadline)),
        }
    }
}

/// When the first event of the stretch was.
async fn first_event(queries: &Queries, tables: Tables, range: TimeRange) -> Result<Option<i64>, QueryError> {
    let from = Parameter::Text(time::sql_text(range.from));
    let parameters = Parameters { positional: vec![from], ..Parameters::default() };
    let sql = "SELECT min(event_time) FROM processes.events WHERE event_time >= ?";
    let mut answer = queries.run(sql, &parameters, Arc::new(tables)).await?;
    let mut first = None;
    while let Some(batch) = answer.next().await {
        let batch = batch?;
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
