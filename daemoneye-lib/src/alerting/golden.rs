//! Golden cases: recorded events beside a rule, and the alerts that must come of them, no more and no fewer.
//!
//! `events.jsonl` holds an event on each line; `alerts.jsonl` an expectation on each line: `events`, the lines whose events the
//! alert counts; and as far as they matter `rule_id` (else that of the rule beside it), `pid`, `count` and `row`, an object of
//! which each value must be in the alert's row. Keys that begin with `_` are remarks. A scheduled rule runs from the first
//! event on in its own rhythm until the last event has been seen, as if the events came at their times.

use super::recorded::{Recorded, runs};
use super::trial::Trial;
use crate::detection::engine::{CompiledRule, Form, event_batch};
use crate::detection::query::{Queries, QueryError};
use crate::detection::scheduled::{Told, told};
use crate::models::event::IdentifiedEvent;
use crate::models::jsonl::{JsonlError, parse_events};
use crate::proto::common::Alert;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The events of a case.
pub const EVENTS: &str = "events.jsonl";
/// The alerts that must come of them.
pub const ALERTS: &str = "alerts.jsonl";
/// The largest file of a case.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// The most runs of a scheduled rule over one case.
const MAX_RUNS: i64 = 1_000;
/// What the runs may take together.
const MEMORY_BYTES: usize = 64 << 20;

/// Why a case cannot be tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoldenError {
    /// A file of it cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An event cannot be read.
    #[error("{}: {source}", path.display())]
    Event {
        /// Which file.
        path: PathBuf,
        /// What is wrong with which line.
        source: JsonlError,
    },
    /// An expectation cannot be read.
    #[error("{}: line {line}: {why}", path.display())]
    Expectation {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A rule failed.
    #[error("the rule {rule_id} cannot be evaluated over {}: {why}", path.display())]
    Rule {
        /// Which rule.
        rule_id: String,
        /// Over which events.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// An alert that a case wants.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The rule; that of the case when it is empty.
    #[serde(default)]
    pub rule_id: String,
    /// The lines of the events that it counts.
    #[serde(default)]
    pub events: Option<Vec<usize>>,
    /// Of the first match.
    #[serde(default)]
    pub pid: Option<u32>,
    /// How often it was seen.
    #[serde(default)]
    pub count: Option<u64>,
    /// Values of its row.
    #[serde(default)]
    pub row: Map<String, Json>,
}

/// Recorded events, and the alerts that must come of them.
#[derive(Debug)]
pub struct Case {
    /// The rule beside which it lies.
    pub rule_id: String,
    events_path: PathBuf,
    events: Arc<[IdentifiedEvent]>,
    expected: Vec<Expected>,
}

/// What a case came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Events of the case.
    pub events: usize,
    /// Alerts that came.
    pub alerts: usize,
    /// What is not as it must be; empty when the case holds.
    pub wrong: Vec<String>,
}

impl Case {
    /// Reads the case that lies in the directory of a rule, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn beside(rule_id: &str, rule_file: &Path) -> Result<Option<Self>, GoldenError> {
        let path = |name: &str| rule_file.with_file_name(name);
        if !path(EVENTS).exists() {
            return Ok(None);
        }
        let (events_path, alerts_path) = (path(EVENTS), path(ALERTS));
        let events = parse_events(&read(&events_path)?)
            .map_err(|source| GoldenError::Event { path: events_path.clone(), source })?;
        let lines = read(&events_path)?;
        let numbers = lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(|(index, _)| index + 1);
        let events = numbers.zip(events).map(|(line, event)| IdentifiedEvent { event_id: event_id(line), event });
        let mut expected = Vec::new();
        for (index, line) in read(&alerts_path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |why: String| GoldenError::Expectation { path: alerts_path.clone(), line: index + 1, why };
            let mut object: Map<String, Json> = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            object.retain(|key, _| !key.starts_with('_'));
            let mut one: Expected =
                serde_json::from_value(Json::Object(object)).map_err(|error| wrong(error.to_string()))?;
            if one.rule_id.is_empty() {
                rule_id.clone_into(&mut one.rule_id);
            }
            expected.push(one);
        }
        Ok(Some(Self { rule_id: rule_id.to_owned(), events_path, events: events.collect(), expected }))
    }

    /// Shows the events to all these rules and compares what comes with what must come. What is expected of rules that are not
    /// among them is left out.
    ///
    /// # Errors
    /// When a rule cannot be evaluated.
    pub async fn try_rules(&self, rules: &[Arc<CompiledRule>]) -> Result<Verdict, GoldenError> {
        let mut trial = Trial::default();
        for rule in rules {
            let failed =
                |why: String| GoldenError::Rule { rule_id: rule.rule.id.clone(), path: self.events_path.clone(), why };
            match &rule.form {
                Form::Standing(_) => self.stand(rule, &mut trial).map_err(failed)?,
                Form::Scheduled(_) => {
                    self.run(rule, &mut trial).await.map_err(|error| failed(error.to_string()))?;
                }
            }
        }
        let wanted: Vec<&Expected> =
            self.expected.iter().filter(|one| rules.iter().any(|rule| rule.rule.id == one.rule_id)).collect();
        Ok(Verdict { events: self.events.len(), alerts: trial.alerts.len(), wrong: compare(&wanted, &trial.alerts) })
    }

    fn stand(&self, rule: &CompiledRule, trial: &mut Trial) -> Result<(), String> {
        let Some(table) = rule.table() else { return Ok(()) };
        let batch = event_batch(table, self.events.iter()).map_err(|error| error.to_string())?;
        for found in rule.evaluate(&batch)? {
            let event = self.events.iter().find(|event| event.event_id == found.event_id);
            trial.add(&rule.rule, &found, event.map_or(0, |event| event.event.time()));
        }
        Ok(())
    }

    async fn run(&self, rule: &CompiledRule, trial: &mut Trial) -> Result<(), QueryError> {
        let Some(schedule) = rule.schedule() else { return Ok(()) };
        let queries = Queries::new(MEMORY_BYTES)?;
        let mut known = None;
        for now in runs(schedule, &self.events, MAX_RUNS).map_err(QueryError::Failed)? {
            let ran = rule.run(&queries, Arc::new(Recorded::until(&self.events, now)), now).await?;
            let Told { fresh, known: now_known, .. } = told(schedule.mode, ran.matches, known.as_ref());
            known = Some(now_known);
            for found in fresh {
                trial.add(&rule.rule, &found, now);
            }
        }
        Ok(())
    }
}

fn event_id(line: usize) -> String {
    format!("line-{line}")
}

fn read(path: &Path) -> Result<String, GoldenError> {
    let cannot = |source| GoldenError::File { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(cannot(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes"))));
    }
    Ok(text)
}

/// What is expected and did not come, and what came and is not expected. Each alert meets one expectation.
fn compare(wanted: &[&Expected], alerts: &[Alert]) -> Vec<String> {
    let mut left: Vec<&Alert> = alerts.iter().collect();
    let mut wrong = Vec::new();
    for one in wanted {
        match left.iter().position(|alert| meets(alert, one)) {
            Some(index) => drop(left.remove(index)),
            None => wrong.push(format!("did not come: {one}")),
        }
    }
    wrong.extend(left.into_iter().map(|alert| format!("not expected: {}", came(alert))));
    wrong
}

fn meets(alert: &Alert, wanted: &Expected) -> bool {
    let row: Map<String, Json> = serde_json::from_str(&alert.row).unwrap_or_default();
    alert.rule_id == wanted.rule_id
        && wanted.events.as_ref().is_none_or(|lines| {
            lines.len() == alert.event_ids.len() && lines.iter().all(|line| alert.event_ids.contains(&event_id(*line)))
        })
        && wanted.pid.is_none_or(|pid| pid == alert.pid)
        && wanted.count.is_none_or(|count| count == alert.count)
        && wanted.row.iter().all(|(name, value)| row.get(name) == Some(value))
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule_id)?;
        if let Some(events) = &self.events {
            write!(f, ", events of the lines {events:?}")?;
        }
        if let Some(pid) = self.pid {
            write!(f, ", pid {pid}")?;
        }
        if let Some(count) = self.count {
            write!(f, ", count {count}")?;
        }
        if !self.row.is_empty() {
            write!(f, ", row with {}", Json::Object(self.row.clone()))?;
        }
        Ok(())
    }
}

fn came(alert: &Alert) -> String {
    let lines: Vec<&str> = alert.event_ids.iter().map(|id| id.strip_prefix("line-").unwrap_or(id)).collect();
    format!("{}, events of the lines [{}], {}", alert.rule_id, lines.join(", "), alert.row)
}
