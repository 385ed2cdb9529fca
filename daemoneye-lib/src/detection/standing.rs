//! The rules in force: all standing ones over every batch, replaced as a whole while they run.

use super::cost::Cost;
use super::engine::{CompiledRule, Evaluated, Form, Match, Standing, event_batch};
use super::record::{Budget, Noted, Outcome};
use super::rules::{LoadOutcome, Rule};
use crate::models::catalog::Table;
use crate::models::event::IdentifiedEvent;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result as EngineResult;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

pub use super::record::DetectionRecord;

/// From so many rows on, those rules that want all of them share their columns.
const SHARED_ROWS: usize = 4;

/// The rules in force; a handle on shared state.
#[derive(Clone)]
pub struct DetectionEngine {
    rules: Arc<RwLock<Arc<Vec<Arc<CompiledRule>>>>>,
    record: DetectionRecord,
}

/// What the rules said of a batch.
#[derive(Default)]
pub struct Findings {
    /// Each match with its rule.
    pub found: Vec<(Arc<Rule>, Match)>,
    /// Rules that could not be evaluated over some rows, each with the reason.
    pub failed: Vec<(String, String)>,
}

/// How a rule changed when the rules were replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which rule.
    pub rule_id: String,
    /// `added`, `changed`, `removed`, or `kept`: its new version is refused and the one before stays in force.
    pub what: &'static str,
}

impl DetectionEngine {
    /// An engine with what was loaded; refused files stay visible in the record.
    pub fn new(loaded: LoadOutcome) -> Self {
        let engine = Self { rules: Arc::default(), record: DetectionRecord::default() };
        engine.replace(loaded);
        engine
    }

    /// What the rules have done.
    pub fn record(&self) -> DetectionRecord {
        self.record.clone()
    }

    /// The rules in force, by id; disabled ones too.
    pub fn rules(&self) -> Arc<Vec<Arc<CompiledRule>>> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts what was loaded in the place of what is in force. A batch is evaluated by the rules of before or by those of after,
    /// never by some of each. Of a file that is refused now, the rule that it held before stays in force.
    pub fn replace(&self, loaded: LoadOutcome) -> Vec<Change> {
        let LoadOutcome { mut rules, problems } = loaded;
        let before = self.rules();
        let mut kept = BTreeMap::new();
        for problem in &problems {
            let earlier = before.iter().find(|rule| {
                rule.rule.file == problem.file || problem.rule_id.as_deref() == Some(rule.rule.id.as_str())
            });
            if let Some(earlier) = earlier
                && !rules.iter().any(|rule| rule.rule.id == earlier.rule.id)
            {
                kept.insert(earlier.rule.id.clone(), problem.to_string());
                rules.push(Arc::clone(earlier));
            }
        }
        rules.sort_by(|a, b| a.rule.id.cmp(&b.rule.id));
        let changes = changes(&before, &rules, &kept);
        self.record.replace(&rules, &problems, kept);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        changes
    }

    /// Evaluates every standing rule that is enabled over the events of its table. A rule that fails is marked unhealthy with the reason; the
    /// others go on.
    pub fn execute_rules(&self, events: &[IdentifiedEvent], degraded_reasons: &[String]) -> Findings {
        let rules = self.rules();
        let mut findings = Findings::default();
        let reasons: Arc<[String]> = degraded_reasons.into();
        let mut seen = screened(&rules, events, |rule| self.record.may_run(&rule.rule.id));
        let mut shared = HashMap::new();
        let mut outcomes = Vec::with_capacity(seen.len());
        for Seen { rule, standing, rows, wanted, cost } in seen.drain(..) {
            let mut outcome =
                Outcome { rows: rows as u64, cost, degraded_reasons: Arc::clone(&reasons), ..Outcome::default() };
            if !wanted.is_empty() {
                let started = Cost::start();
                let batch = match shown(standing, &wanted, rows, &mut shared) {
                    Ok(batch) => batch,
                    Err(error) => {
                        tracing::error!(%error, "events cannot be shown to the rules: a defect of DaemonEye");
                        let why = "its table's events cannot be shown to rules".to_owned();
                        findings.failed.push((rule.rule.id.clone(), why));
                        continue;
                    }
                };
                let Evaluated { matches, excepted, failed_rows, why } = rule.evaluate_each(&batch);
                outcome.cost += started.so_far();
                (outcome.matches, outcome.excepted) = (matches.len() as u64, excepted);
                outcome.failed_rows = failed_rows;
                outcome.failure = why.map(|why| format!("{why} ({failed_rows} of {rows} rows)"));
                findings.found.extend(matches.into_iter().map(|matched| (Arc::clone(&rule.rule), matched)));
            }
            outcomes.push((rule, outcome));
        }
        let failures = outcomes.iter().filter_map(|(rule, outcome)| {
            let why = outcome.failure.clone()?;
            Some((rule.rule.id.clone(), why))
        });
        findings.failed.extend(failures);
        for (rule, noted) in self.record.note_all(outcomes, Budget::BATCH) {
            if let Noted::Suspended(why) = noted {
                findings.failed.push((rule.rule.id.clone(), why));
            }
        }
        findings
    }
}

/// A rule beside the events that it may be true of.
struct Seen<'r, 'e> {
    rule: &'r Arc<CompiledRule>,
    standing: &'r Standing,
    /// How many events its table has.
    rows: usize,
    wanted: Vec<&'e IdentifiedEvent>,
    /// What finding these has cost.
    cost: Duration,
}

/// The standing rules that may run and whose table has events, beside the events that they may be true of.
fn screened<'r, 'e>(
    rules: &'r [Arc<CompiledRule>],
    events: &'e [IdentifiedEvent],
    may_run: impl Fn(&CompiledRule) -> bool,
) -> Vec<Seen<'r, 'e>> {
    let mut rows: HashMap<Table, Vec<&IdentifiedEvent>> = HashMap::new();
    for event in events {
        rows.entry(event.event.table()).or_default().push(event);
    }
    let (spent, mut before) = (Cost::start(), Instant::now());
    let began = before;
    let mut seen: Vec<Seen<'_, '_>> = Vec::new();
    for rule in rules {
        let Form::Standing(standing) = &rule.form else { continue };
        let Some(rows) = rows.get(&standing.table()).filter(|_| may_run(rule)) else { continue };
        let wanted = rows.iter().copied().filter(|event| standing.may_match(event)).collect();
        let now = Instant::now();
        seen.push(Seen { rule, standing, rows: rows.len(), wanted, cost: now - before });
        before = now;
    }
    // The clock of what the processor spent is dear to ask: it is asked once, and each rule is told the part that the cheap one
    // says. So a rule is never said to have cost more than all of them did, however busy the host.
    let (spent, elapsed) = (spent.so_far().as_secs_f64(), began.elapsed().as_secs_f64());
    if elapsed > 0.0 {
        seen.iter_mut().for_each(|seen| seen.cost = seen.cost.mul_f64(spent / elapsed));
    }
    seen
}

/// What a rule is evaluated over. All rows of a table are the same for all rules that want all of them.
fn shown(
    standing: &Standing,
    wanted: &[&IdentifiedEvent],
    rows: usize,
    shared: &mut HashMap<Table, RecordBatch>,
) -> EngineResult<RecordBatch> {
    if wanted.len() < rows || rows < SHARED_ROWS {
        return standing.batch_of(wanted);
    }
    if let Some(batch) = shared.get(&standing.table()) {
        return Ok(batch.clone());
    }
    let batch = event_batch(standing.table(), wanted.iter().copied())?;
    shared.insert(standing.table(), batch.clone());
    Ok(batch)
}

fn changes(before: &[Arc<CompiledRule>], now: &[Arc<CompiledRule>], kept: &BTreeMap<String, String>) -> Vec<Change> {
    let digests = |rules: &[Arc<CompiledRule>]| -> HashMap<String, [u8; 32]> {
        rules.iter().map(|rule| (rule.rule.id.clone(), rule.digest)).collect()
    };
    let (was, is) = (digests(before), digests(now));
    let what = |id: &str| match (was.get(id), is.get(id)) {
        (Some(_), None) => Some("removed"),
        (None, _) => Some("added"),
        _ if kept.contains_key(id) => Some("kept"),
        (was, is) => (was != is).then_some("changed"),
    };
    let mut ids: Vec<_> = was.keys().chain(is.keys()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().filter_map(|id| Some(Change { rule_id: id.clone(), what: what(id)? })).collect()
}
