//! What the rules have done, what they cost, and which of them may run.
//!
//! A rule that is over its budget several times in a row is suspended for a while, so that one rule never slows the others;
//! then it is tried again. What it has not seen meanwhile is for its caller to tell.

use super::engine::CompiledRule;
use super::rules::Rule;
use super::rules::{RuleProblem, Schedule};
use crate::models::rows::{RuleRow, RunRow};
use crate::models::time;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The newest runs that `detection.runs` shows.
const MAX_RUNS: usize = 1_000;
/// Evaluations over budget, one after the other, after which a rule is suspended.
const PATIENCE: u32 = 5;
/// For how long.
const SUSPENSION: Duration = Duration::from_secs(60);

/// What one evaluation may cost.
#[derive(Clone, Copy, Debug)]
pub struct Budget(Duration);

impl Budget {
    /// Over one batch of events.
    pub const BATCH: Self = Self(Duration::from_millis(100));

    /// For a run of a scheduled rule: a hundredth of the time between two runs, and not less than over a batch.
    pub fn of_run(schedule: Schedule) -> Self {
        Self(Self::BATCH.0.max(schedule.every / 100))
    }
}

/// What an evaluation came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Rows that it read.
    pub rows: u64,
    /// Rows that it returned.
    pub matches: u64,
    /// Rows that exceptions took out.
    pub excepted: u64,
    /// Rows over which it could not be evaluated.
    pub failed_rows: u64,
    /// Why.
    pub failure: Option<String>,
    /// What it cost.
    pub cost: Duration,
    /// Why it could not see everything.
    pub degraded_reasons: Arc<[String]>,
}

/// What noting an evaluation led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Noted {
    /// Nothing.
    Well,
    /// The rule is suspended from now on, for this reason.
    Suspended(String),
}

/// What the rules have done, for whoever shows it; a handle on shared state.
#[derive(Clone, Default)]
pub struct DetectionRecord(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    rules: BTreeMap<String, Entry>,
    refused: Vec<RuleRow>,
    disabled: BTreeSet<String>,
    trouble: Option<String>,
    runs: VecDeque<Run>,
}

/// A row of `detection.runs`, of which many share most.
struct Run {
    run_time: i64,
    rule_id: Arc<str>,
    rows: u64,
    matches: u64,
    cost_ns: u64,
    degraded_reasons: Arc<[String]>,
}

/// A rule in force.
struct Entry {
    rule: Arc<Rule>,
    id: Arc<str>,
    /// What has been counted.
    row: RuleRow,
    failure: Option<String>,
    over_budget: Option<String>,
    over_in_a_row: u32,
    suspended: Option<(Instant, String)>,
    /// Why its new version is refused.
    outdated: Option<String>,
}

impl DetectionRecord {
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rules are loaded anew: what they could not do before is over, what they have done stays counted.
    pub(super) fn replace(
        &self,
        rules: &[Arc<CompiledRule>],
        problems: &[RuleProblem],
        mut outdated: BTreeMap<String, String>,
    ) {
        let mut record = self.lock();
        let mut before = std::mem::take(&mut record.rules);
        for rule in rules {
            let id = &rule.rule.id;
            let row = before.remove(id).map(|entry| entry.row).unwrap_or_default();
            let entry = Entry {
                rule: Arc::clone(&rule.rule),
                id: Arc::from(id.as_str()),
                row: RuleRow { failed_rows: 0, ..row },
                failure: None,
                over_budget: None,
                over_in_a_row: 0,
                suspended: None,
                outdated: outdated.remove(id),
            };
            record.rules.insert(id.clone(), entry);
        }
        let shown = |problem: &&RuleProblem| {
            let kept = |entry: &Entry| {
                entry.outdated.is_some()
                    && (entry.rule.file == problem.file || problem.rule_id.as_deref() == Some(entry.rule.id.as_str()))
            };
            !record.rules.values().any(kept)
        };
        record.refused = problems.iter().filter(shown).map(refused).collect();
        record.trouble = None;
    }

    /// Says why the rules cannot be loaded anew; those in force stay.
    pub fn note_trouble(&self, why: Option<String>) {
        self.lock().trouble = why;
    }

    /// Why the rules cannot be loaded anew.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Whether a rule of this id is in force or was refused.
    pub fn knows(&self, rule_id: &str) -> bool {
        let record = self.lock();
        record.rules.contains_key(rule_id) || record.refused.iter().any(|row| row.rule_id == rule_id)
    }

    /// Whether a rule is to be evaluated now.
    pub fn may_run(&self, rule_id: &str) -> bool {
        let record = self.lock();
        let is_suspended = record.rules.get(rule_id).is_some_and(|entry| entry.is_suspended(Instant::now()));
        !record.disabled.contains(rule_id) && !is_suspended
    }

    /// The rules that are not to be evaluated now.
    pub(super) fn at_rest(&self) -> BTreeSet<String> {
        let (record, now) = (self.lock(), Instant::now());
        let mut rest = record.disabled.clone();
        let suspended = record.rules.iter().filter(|(_, entry)| entry.is_suspended(now));
        rest.extend(suspended.map(|(id, _)| id.clone()));
        rest
    }

    /// Which rules are not to be evaluated, by the operator's will.
    pub fn set_disabled(&self, disabled: BTreeSet<String>) {
        self.lock().disabled = disabled;
    }

    /// Counts an evaluation.
    pub fn note(&self, rule_id: &str, outcome: Outcome, budget: Budget) -> Noted {
        self.lock().note(rule_id, outcome, budget, time::now_ns())
    }

    /// Counts the evaluations of several rules over one batch.
    pub(super) fn note_all<'r>(
        &self,
        outcomes: Vec<(&'r Arc<CompiledRule>, Outcome)>,
        budget: Budget,
    ) -> Vec<(&'r Arc<CompiledRule>, Noted)> {
        let (mut record, now) = (self.lock(), time::now_ns());
        let noted =
            outcomes.into_iter().map(|(rule, outcome)| (rule, record.note(&rule.rule.id, outcome, budget, now)));
        noted.collect()
    }

    /// Every rule and every refused file with its state.
    pub fn rules(&self) -> Vec<RuleRow> {
        let record = self.lock();
        let now = time::now_ns();
        let in_force = record.rules.iter().map(|(id, entry)| entry.shown(!record.disabled.contains(id), now));
        in_force.chain(record.refused.iter().cloned()).collect()
    }

    /// The newest evaluations.
    pub fn runs(&self) -> Vec<RunRow> {
        let shown = |run: &Run| RunRow {
            run_time: run.run_time,
            rule_id: run.rule_id.to_string(),
            rows: run.rows,
            matches: run.matches,
            cost_ns: run.cost_ns,
            degraded_reasons: run.degraded_reasons.to_vec(),
        };
        self.lock().runs.iter().map(shown).collect()
    }
}

impl Record {
    fn note(&mut self, rule_id: &str, outcome: Outcome, budget: Budget, run_time: i64) -> Noted {
        let (noted, rule_id) = match self.rules.get_mut(rule_id) {
            Some(entry) => (entry.note(&outcome, budget, run_time), Arc::clone(&entry.id)),
            None => (Noted::Well, Arc::from(rule_id)),
        };
        if self.runs.len() == MAX_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back(Run {
            run_time,
            rule_id,
            rows: outcome.rows,
            matches: outcome.matches,
            cost_ns: nanoseconds(outcome.cost),
            degraded_reasons: outcome.degraded_reasons,
        });
        noted
    }
}

impl Entry {
    fn is_suspended(&self, now: Instant) -> bool {
        self.suspended.as_ref().is_some_and(|(until, _)| *until > now)
    }

    fn note(&mut self, outcome: &Outcome, Budget(budget): Budget, run_time: i64) -> Noted {
        let row = &mut self.row;
        row.evaluations += 1;
        row.rows += outcome.rows;
        row.matches += outcome.matches;
        row.excepted += outcome.excepted;
        row.failed_rows += outcome.failed_rows;
        row.cost_ns = row.cost_ns.saturating_add(nanoseconds(outcome.cost));
        if outcome.matches > 0 {
            row.last_match = Some(run_time);
        }
        // A rule that has failed stays in doubt until it is loaded anew.
        if let Some(why) = &outcome.failure {
            let at = time::sql_text(run_time);
            let reason = match row.failed_rows {
                0 => format!("it could not be evaluated, the last time at {at}: {why}"),
                rows => format!("{rows} rows could not be evaluated so far, the last at {at}: {why}"),
            };
            if self.failure.replace(reason).is_none() {
                tracing::warn!(rule = %self.rule.id, %why, "a rule is unhealthy");
            }
        }
        if outcome.cost <= budget {
            (self.over_budget, self.over_in_a_row, self.suspended) = (None, 0, None);
            return Noted::Well;
        }
        let (took, allowed) = (outcome.cost.as_millis(), budget.as_millis());
        self.over_budget = Some(format!("the newest evaluation took {took} ms; {allowed} are allowed"));
        self.over_in_a_row += 1;
        if self.over_in_a_row < PATIENCE {
            return Noted::Well;
        }
        let seconds = SUSPENSION.as_secs();
        let reason = format!(
            "{} evaluations one after the other took more than {allowed} ms, the last {took} ms: it is suspended, and tried \
             again every {seconds} s",
            self.over_in_a_row
        );
        tracing::warn!(rule = %self.rule.id, %reason, "a rule is suspended");
        self.suspended = Some((Instant::now() + SUSPENSION, reason.clone()));
        Noted::Suspended(reason)
    }

    fn shown(&self, enabled: bool, now: i64) -> RuleRow {
        let rule = &self.rule;
        let reasons = [
            self.suspended.as_ref().map(|(_, why)| why.clone()),
            self.outdated
                .as_ref()
                .map(|why| format!("the new version is refused, the one before stays in force: {why}")),
            self.failure.clone(),
            self.over_budget.clone().filter(|_| self.suspended.is_none()),
        ];
        let reason = reasons.into_iter().flatten().collect::<Vec<_>>().join("; ");
        let state = match () {
            () if !enabled => "disabled",
            () if self.suspended.is_some() => "suspended",
            () if !reason.is_empty() => "unhealthy",
            () => "healthy",
        };
        let exceptions: Vec<_> = rule
            .exceptions
            .iter()
            .map(|exception| {
                json!({
                    "where": exception.condition,
                    "reason": exception.reason,
                    "expires": exception.expires,
                    "applies": exception.applies(now),
                })
            })
            .collect();
        RuleRow {
            rule_id: rule.id.clone(),
            title: rule.title.clone(),
            severity: rule.severity.name().to_owned(),
            state: state.to_owned(),
            reason: Some(reason).filter(|reason| !reason.is_empty()),
            file: rule.file.display().to_string(),
            tags: rule.tags.clone(),
            author: rule.author.clone(),
            enabled,
            description: rule.description.clone(),
            false_positives: rule.false_positives.clone(),
            references: rule.references.clone(),
            license: rule.license.clone(),
            status: rule.status.clone(),
            date: rule.date.clone(),
            modified: rule.modified.clone(),
            dedup: rule.dedup.clone(),
            dedup_window_s: Some(rule.dedup_window.as_secs()),
            window_s: rule.schedule.map(|schedule| schedule.window.as_secs()),
            every_s: rule.schedule.map(|schedule| schedule.every.as_secs()),
            mode: rule.schedule.map(|schedule| schedule.mode.name().to_owned()),
            exceptions: (!exceptions.is_empty()).then(|| json!(exceptions).to_string()),
            expired_exceptions: rule.exceptions.iter().filter(|exception| !exception.applies(now)).count() as u64,
            sql: Some(rule.sql.clone()),
            ..self.row.clone()
        }
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

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::engine::Form;
    use crate::detection::rules::{Mode, load_text};
    use std::path::Path;

    fn compiled() -> Arc<CompiledRule> {
        let text = "id = \"r\"\ntitle = \"T\"\nseverity = \"low\"\nsql = \"SELECT pid FROM processes.events\"\n";
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(load_text(Path::new("r.toml"), text, "")).unwrap()
    }

    fn record() -> DetectionRecord {
        let record = DetectionRecord::default();
        let rule = compiled();
        assert!(matches!(rule.form, Form::Standing(_)));
        record.replace(&[rule], &[], BTreeMap::new());
        record
    }

    fn took(ms: u64) -> Outcome {
        Outcome { rows: 1, cost: Duration::from_millis(ms), ..Outcome::default() }
    }

    #[test]
    fn a_rule_that_stays_over_its_budget_is_suspended_and_one_that_was_once_is_not() {
        let record = record();
        let state = || record.rules()[0].state.clone();
        for _ in 1..PATIENCE {
            assert_eq!(record.note("r", took(200), Budget::BATCH), Noted::Well);
        }
        assert_eq!(state(), "unhealthy");
        record.note("r", took(1), Budget::BATCH);
        assert_eq!((state().as_str(), record.may_run("r")), ("healthy", true));
        for _ in 1..PATIENCE {
            record.note("r", took(200), Budget::BATCH);
        }
        let last = record.note("r", took(200), Budget::BATCH);
        assert!(matches!(last, Noted::Suspended(why) if why.contains("took more than 100 ms, the last 200 ms")));
        assert_eq!((state().as_str(), record.may_run("r")), ("suspended", false));
        // Loaded anew, it is given another chance; what it did stays counted.
        record.replace(&[compiled()], &[], BTreeMap::new());
        assert_eq!((state().as_str(), record.may_run("r")), ("healthy", true));
        assert_eq!(record.rules()[0].evaluations, u64::from(2 * PATIENCE));
    }

    #[test]
    fn the_budget_of_a_run_grows_with_the_time_between_two() {
        let budget = |every| {
            let every = Duration::from_secs(every);
            Budget::of_run(Schedule { window: every, every, mode: Mode::All }).0.as_millis()
        };
        assert_eq!([budget(1), budget(10), budget(3_600)], [100, 100, 36_000]);
    }

    #[test]
    fn a_disabled_rule_does_not_run_and_is_shown_as_that() {
        let record = record();
        record.set_disabled(BTreeSet::from(["r".to_owned()]));
        assert_eq!((record.rules()[0].state.as_str(), record.may_run("r")), ("disabled", false));
        assert!(record.knows("r") && !record.knows("s"));
    }
}
