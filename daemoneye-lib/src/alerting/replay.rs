//! Every match of rules in recorded events: nothing is told twice, and nothing is left out because it is like another.

use super::recorded::{Recorded, runs};
use crate::detection::engine::{CompiledRule, Form, Match};
use crate::detection::query::Queries;
use crate::detection::scheduled::{Told, told};
use crate::detection::standing;
use crate::models::event::IdentifiedEvent;
use std::sync::Arc;

/// The most runs of a scheduled rule over one recording.
const MAX_RUNS: i64 = 10_000;
/// What the runs may take together.
const MEMORY_BYTES: usize = 64 << 20;

/// A rule, and why it could not be evaluated over all of the events.
pub type Failed = (String, String);

/// Shows events to standing rules, and gives each match to `found`.
pub fn standing(
    rules: &[Arc<CompiledRule>],
    events: &[IdentifiedEvent],
    mut found: impl FnMut(&CompiledRule, Match),
) -> Vec<Failed> {
    let mut failed = Vec::new();
    standing::evaluate(rules, events, |rule, evaluated| {
        if let Some(why) = evaluated.why {
            failed.push((rule.rule.id.clone(), format!("{why} ({} events)", evaluated.failed_rows)));
        }
        evaluated.matches.into_iter().for_each(|matched| found(rule, matched));
    });
    failed
}

/// Runs a scheduled rule over events as if they came at their times, and gives each match to `found`.
///
/// # Errors
/// When it cannot be evaluated.
pub async fn scheduled(
    rule: &CompiledRule,
    events: &Arc<[IdentifiedEvent]>,
    mut found: impl FnMut(&CompiledRule, Match),
) -> Result<(), Failed> {
    let (Form::Scheduled(_), Some(schedule)) = (&rule.form, rule.schedule()) else { return Ok(()) };
    let failed = |why: String| (rule.rule.id.clone(), why);
    let queries = Queries::new(MEMORY_BYTES).map_err(|error| failed(error.to_string()))?;
    let mut known = None;
    for now in runs(schedule, events, MAX_RUNS).map_err(failed)? {
        let recorded = Arc::new(Recorded::until(events, now));
        let ran = rule.run(&queries, recorded, now).await.map_err(|error| failed(error.to_string()))?;
        let Told { fresh, known: now_known, .. } = told(schedule.mode, ran.matches, known.as_ref());
        known = Some(now_known);
        fresh.into_iter().for_each(|matched| found(rule, matched));
    }
    Ok(())
}
