//! All rules over every batch, with what each of them costs and finds.

use super::engine::{CompiledRule, Evaluated, Match, event_batch};
use super::lower::Parameters;
use super::query::{Queries, QueryError};
use super::rules::{LoadOutcome, Rule, RuleProblem};
use crate::models::event::IdentifiedEvent;
use crate::models::rows::{RuleRow, RunRow};
use crate::models::time;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The newest runs that `detection.runs` shows.
const MAX_RUNS: usize = 1_000;
/// A rule that takes longer over one batch is over its budget.
const BUDGET: Duration = Duration::from_millis(100);

/// The rules in force.
pub struct DetectionEngine {
    rules: Vec<CompiledRule>,
    record: DetectionRecord,
}

/// What the rules said of a batch.
#[derive(Default)]
pub struct Findings<'e> {
    /// Each match with its rule.
    pub found: Vec<(&'e Rule, Match)>,
    /// Rules that could not be evaluated over some rows, each with the reason.
    pub failed: Vec<(String, String)>,
}

/// What the rules have done, for whoever shows it; a handle on shared state.
#[derive(Clone, Default)]
pub struct DetectionRecord(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    rules: Vec<RuleRow>,
    runs: VecDeque<RunRow>,
}

impl DetectionEngine {
    /// An engine with what was loaded; refused files stay visible in the record.
    pub fn new(loaded: LoadOutcome) -> Self {
        let LoadOutcome { rules, problems } = loaded;
        let rows = rules.iter().map(|rule| healthy(&rule.rule)).chain(problems.iter().map(refused)).collect();
        let record = DetectionRecord(Arc::new(Mutex::new(Record { rules: rows, runs: VecDeque::new() })));
        Self { rules, record }
    }

    /// What the rules have done.
    pub fn record(&self) -> DetectionRecord {
        self.record.clone()
    }

    /// Evaluates every rule over the events. A rule that fails is marked unhealthy with the reason; the others go on.
    pub fn execute_rules(&self, events: &[IdentifiedEvent], degraded_reasons: &[String]) -> Findings<'_> {
        if events.is_empty() || self.rules.is_empty() {
            return Findings::default();
        }
        let batch = match event_batch(events) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::error!(%error, "events cannot be shown to the rules: a defect of DaemonEye");
                let failed = self.rules.iter().map(|rule| (rule.rule.id.clone(), error.to_string())).collect();
                return Findings { found: Vec::new(), failed };
            }
        };
        let mut found = Vec::new();
        let mut failed = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let started = Instant::now();
            let Evaluated { matches, failed_rows, why } = rule.evaluate_each(&batch);
            let run = RunRow {
                run_time: time::now_ns(),
                rule_id: rule.rule.id.clone(),
                rows: events.len() as u64,
                matches: matches.len() as u64,
                cost_ns: u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX),
                degraded_reasons: degraded_reasons.to_vec(),
            };
            if let Some(why) = &why {
                failed.push((rule.rule.id.clone(), format!("{why} ({failed_rows} of {} rows)", events.len())));
            }
            self.record.note(index, run, failed_rows, why);
            found.extend(matches.into_iter().map(|matched| (&rule.rule, matched)));
        }
        Findings { found, failed }
    }

    /// Checks a statement as a query would be, without running it.
    ///
    /// # Errors
    /// The refusal, when it may not run.
    pub async fn validate_sql(queries: &Queries, sql: &str) -> Result<(), QueryError> {
        queries.validate(sql, &Parameters::default()).await
    }
}

impl DetectionRecord {
    fn note(&self, index: usize, run: RunRow, failed_rows: u64, failure: Option<String>) {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = record.rules.get_mut(index) {
            row.evaluations += 1;
            row.rows += run.rows;
            row.matches += run.matches;
            row.cost_ns += run.cost_ns;
            if run.matches > 0 {
                row.last_match = Some(run.run_time);
            }
            row.failed_rows += failed_rows;
            let reason = match failure {
                Some(why) => Some(format!(
                    "{} rows could not be evaluated so far, the last at {}: {why}",
                    row.failed_rows,
                    time::sql_text(run.run_time)
                )),
                // A rule that has failed stays in doubt until it is loaded anew.
                None if row.failed_rows > 0 => row.reason.clone(),
                None if run.cost_ns > u64::try_from(BUDGET.as_nanos()).unwrap_or(u64::MAX) => Some(format!(
                    "the newest evaluation took {} ms; {} are allowed",
                    run.cost_ns / 1_000_000,
                    BUDGET.as_millis()
                )),
                None => None,
            };
            if reason.is_some() && row.reason.is_none() {
                tracing::warn!(rule = %row.rule_id, reason = reason.as_deref().unwrap_or_default(), "a rule is unhealthy");
            }
            row.state = if reason.is_some() { "unhealthy" } else { "healthy" }.to_owned();
            row.reason = reason;
        }
        if record.runs.len() == MAX_RUNS {
            record.runs.pop_front();
        }
        record.runs.push_back(run);
    }

    /// Every rule file with its state.
    pub fn rules(&self) -> Vec<RuleRow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rules.clone()
    }

    /// The newest evaluations.
    pub fn runs(&self) -> Vec<RunRow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).runs.iter().cloned().collect()
    }
}

fn healthy(rule: &Rule) -> RuleRow {
    RuleRow {
        rule_id: rule.id.clone(),
        title: rule.title.clone(),
        severity: rule.severity.name().to_owned(),
        state: "healthy".to_owned(),
        file: rule.file.display().to_string(),
        tags: rule.tags.clone(),
        author: rule.author.clone(),
        ..RuleRow::default()
    }
}

fn refused(problem: &RuleProblem) -> RuleRow {
    let file = problem.file.display().to_string();
    RuleRow {
        rule_id: problem.rule_id.clone().unwrap_or_else(|| file.clone()),
        state: "refused".to_owned(),
        reason: Some(problem.to_string()),
        file,
        ..RuleRow::default()
    }
}
