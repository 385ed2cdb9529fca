//! The rules in force: all standing ones over every batch, replaced as a whole while they run.

use super::cost::Cost;
use super::engine::{CompiledRule, Evaluated, Form, Match, event_batch};
use super::record::{Budget, Noted, Outcome};
use super::rules::{LoadOutcome, Rule};
use crate::models::catalog::Table;
use crate::models::event::IdentifiedEvent;
use datafusion::arrow::array::RecordBatch;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

pub use super::record::DetectionRecord;

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
        let standing = || rules.iter().filter(|rule| matches!(rule.form, Form::Standing(_)));
        if events.is_empty() || standing().next().is_none() {
            return findings;
        }
        let mut batches: HashMap<Table, Option<RecordBatch>> = HashMap::new();
        for rule in standing().filter(|rule| self.record.may_run(&rule.rule.id)) {
            let Some(table) = rule.table() else { continue };
            let batch = batches.entry(table).or_insert_with(|| match event_batch(table, events) {
                Ok(batch) => Some(batch),
                Err(error) => {
                    tracing::error!(%error, "events cannot be shown to the rules: a defect of DaemonEye");
                    None
                }
            });
            let Some(batch) = batch else {
                findings.failed.push((rule.rule.id.clone(), "its table's events cannot be shown to rules".to_owned()));
                continue;
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let started = Cost::start();
            let Evaluated { matches, excepted, failed_rows, why } = rule.evaluate_each(batch);
            let failed = why.map(|why| format!("{why} ({failed_rows} of {} rows)", batch.num_rows()));
            let outcome = Outcome {
                rows: batch.num_rows() as u64,
                matches: matches.len() as u64,
                excepted,
                failed_rows,
                failure: failed.clone(),
                cost: started.so_far(),
                degraded_reasons: degraded_reasons.to_vec(),
            };
            let noted = self.record.note(&rule.rule.id, outcome, Budget::BATCH);
            findings.failed.extend(failed.map(|why| (rule.rule.id.clone(), why)));
            if let Noted::Suspended(why) = noted {
                findings.failed.push((rule.rule.id.clone(), why));
            }
            findings.found.extend(matches.into_iter().map(|matched| (Arc::clone(&rule.rule), matched)));
        }
        findings
    }
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
