//! The rules in force: all standing ones over every batch, replaced as a whole while they run.

use super::cost::Cost;
use super::engine::{CompiledRule, Evaluated, Match, Standing, event_batch};
use super::record::{Budget, Noted, Outcome};
use super::rules::{LoadOutcome, Rule};
use super::screen::{Asked, Screen};
use crate::models::catalog::Table;
use crate::models::event::IdentifiedEvent;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::Result as EngineResult;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

pub use super::record::DetectionRecord;

/// From so many rows on, those rules that want all of them share their columns.
const SHARED_ROWS: usize = 4;

/// The rules in force; a handle on shared state.
#[derive(Clone)]
pub struct DetectionEngine {
    in_force: Arc<RwLock<Arc<InForce>>>,
    record: DetectionRecord,
}

/// Rules, and the screen before the standing ones.
#[derive(Default)]
struct InForce {
    rules: Arc<Vec<Arc<CompiledRule>>>,
    screens: Vec<Screen>,
}

impl InForce {
    fn new(rules: Vec<Arc<CompiledRule>>) -> Self {
        Self { screens: screens(&rules), rules: Arc::new(rules) }
    }
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
        let engine = Self { in_force: Arc::default(), record: DetectionRecord::default() };
        engine.replace(loaded);
        engine
    }

    /// What the rules have done.
    pub fn record(&self) -> DetectionRecord {
        self.record.clone()
    }

    /// The rules in force, by id; disabled ones too.
    pub fn rules(&self) -> Arc<Vec<Arc<CompiledRule>>> {
        Arc::clone(&self.in_force().rules)
    }

    fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
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
        let in_force = Arc::new(InForce::new(rules));
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = in_force;
        changes
    }

    /// Evaluates every standing rule that is enabled over the events of its table. A rule that fails is marked unhealthy with the reason; the
    /// others go on.
    pub fn execute_rules(&self, events: &[IdentifiedEvent], degraded_reasons: &[String]) -> Findings {
        let in_force = self.in_force();
        let mut findings = Findings::default();
        let reasons: Arc<[String]> = degraded_reasons.into();
        let mut shared = HashMap::new();
        let seen = screened(&in_force.rules, &in_force.screens, events, &self.record.at_rest());
        let mut outcomes = Vec::with_capacity(seen.len());
        for Seen { rule, standing, rows, wanted, cost } in seen {
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

/// What each standing rule says of these events, where it looked at any.
pub fn evaluate<'r>(
    rules: &'r [Arc<CompiledRule>],
    events: &[IdentifiedEvent],
    mut told: impl FnMut(&'r CompiledRule, Evaluated),
) {
    let mut shared = HashMap::new();
    for Seen { rule, standing, rows, wanted, .. } in screened(rules, &screens(rules), events, &BTreeSet::new()) {
        if wanted.is_empty() {
            continue;
        }
        let evaluated = match shown(standing, &wanted, rows, &mut shared) {
            Ok(batch) => rule.evaluate_each(&batch),
            Err(error) => {
                let why = Some(format!("its events cannot be shown to it, a defect of DaemonEye: {error}"));
                Evaluated { failed_rows: wanted.len() as u64, why, ..Evaluated::default() }
            }
        };
        told(rule, evaluated);
    }
}

/// The screens before the standing ones of these rules.
fn screens(rules: &[Arc<CompiledRule>]) -> Vec<Screen> {
    let standing = rules.iter().enumerate();
    Screen::all(standing.filter_map(|(place, rule)| Some((place, rule.standing()?.screened()))))
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

/// The standing rules that are not at rest and whose table has events, beside the events that they may be true of; by id.
fn screened<'r, 'e>(
    rules: &'r [Arc<CompiledRule>],
    screens: &[Screen],
    events: &'e [IdentifiedEvent],
    at_rest: &BTreeSet<String>,
) -> Vec<Seen<'r, 'e>> {
    let mut rows: HashMap<Table, Vec<&IdentifiedEvent>> = HashMap::new();
    for event in events {
        rows.entry(event.event.table()).or_default().push(event);
    }
    let (spent, began) = (Cost::start(), Instant::now());
    let mut seen: Vec<(usize, Seen<'_, '_>)> = Vec::new();
    for screen in screens {
        let Some(rows) = rows.get(&screen.table()) else { continue };
        let may_run =
            |place: usize| rules.get(place).is_some_and(|rule| at_rest.is_empty() || !at_rest.contains(&rule.rule.id));
        seen.extend(screen.ask(rows, may_run).into_iter().filter_map(|Asked { rule: place, wanted, took, .. }| {
            let rule = rules.get(place)?;
            Some((place, Seen { rule, standing: rule.standing()?, rows: rows.len(), wanted, cost: took }))
        }));
    }
    seen.sort_unstable_by_key(|(place, _)| *place);
    // The clock of what the processor spent is dear to ask: it is asked once, and each rule is told the part that the cheap one
    // says. So a rule is never said to have cost more than all of them did, however busy the host.
    let (spent, elapsed) = (spent.so_far().as_secs_f64(), began.elapsed().as_secs_f64());
    let part = if elapsed > 0.0 { spent / elapsed } else { 1.0 };
    let told = seen.into_iter().map(|(_, seen)| Seen { cost: seen.cost.mul_f64(part), ..seen });
    told.collect()
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
