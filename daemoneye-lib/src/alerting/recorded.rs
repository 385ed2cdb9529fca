//! Recorded events as the tables that a scheduled rule reads, and the moments at which it runs over them.

use crate::detection::rules::Schedule;
use crate::detection::source::{Batches, SourceError, TableSource, Wanted};
use crate::models::batch::{batch_of, build};
use crate::models::catalog::{MAX_DEPTH, Table};
use crate::models::columns::{PROCESS, Value, event_value};
use crate::models::event::IdentifiedEvent;
use crate::proto::common::ProcessRecord;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tables as they were at a moment of the recording.
pub(super) struct Recorded {
    events: Arc<[IdentifiedEvent]>,
    now: i64,
}

impl Recorded {
    pub(super) fn until(events: &Arc<[IdentifiedEvent]>, now: i64) -> Self {
        Self { events: Arc::clone(events), now }
    }

    fn events(&self) -> impl Iterator<Item = &IdentifiedEvent> + Clone {
        self.events.iter().filter(|event| event.event.time() <= self.now)
    }

    /// The state of each process, by its key.
    fn processes(&self) -> BTreeMap<&str, &ProcessRecord> {
        let records = self.events().filter_map(|event| event.event.process());
        records.map(|record| (record.process_key.as_str(), record)).collect()
    }
}

/// The moments at which a rule runs over recorded events: from the first event on, until the last has been seen.
///
/// # Errors
/// When there are more than `most` of them.
pub(super) fn runs(
    schedule: Schedule,
    events: &[IdentifiedEvent],
    most: i64,
) -> Result<impl Iterator<Item = i64> + use<>, String> {
    let times = || events.iter().map(|event| event.event.time());
    let every = i64::try_from(schedule.every.as_nanos()).unwrap_or(i64::MAX).max(1);
    let (first, runs) = match (times().min(), times().max()) {
        (Some(first), Some(last)) => (first, last.saturating_sub(first) / every + 2),
        _ => (0, 0),
    };
    if runs > most {
        return Err(format!("its events stretch over {runs} runs of the rule; {most} are allowed"));
    }
    Ok((0..runs).map(move |run| first.saturating_add(run.saturating_mul(every))))
}

/// Each process's ancestors, the nearest first: whose, how far up, who.
fn ancestors<'r>(processes: &BTreeMap<&'r str, &'r ProcessRecord>) -> Vec<Ancestor<'r>> {
    let parent = |record: &ProcessRecord| processes.get(record.parent_key.as_deref()?).copied();
    let chain = |own| std::iter::successors(parent(own), |record| parent(record)).take(MAX_DEPTH);
    let of = |own: &'r ProcessRecord| {
        chain(own).zip(1..).map(move |(ancestor, depth)| (own.process_key.as_str(), depth, ancestor))
    };
    processes.values().flat_map(|own| of(own)).collect()
}

type Ancestor<'r> = (&'r str, i64, &'r ProcessRecord);

fn ancestor_value<'r>((key, depth, ancestor): &'r Ancestor<'r>, column: usize) -> Value<'r> {
    match column {
        0 => Value::from(*key),
        1 => Value::from(*depth),
        2 => Value::from(ancestor.process_key.as_str()),
        _ => PROCESS.get(column - 2).map_or(Value::Null, |own| (own.get)(ancestor)),
    }
}

impl TableSource for Recorded {
    fn scan(&self, table: Table, wanted: &Wanted) -> Result<Batches, SourceError> {
        let columns = wanted.projection.as_slice();
        let batch = match table {
            events if events.is_of_events() => {
                let within = |event: &&IdentifiedEvent| {
                    event.event.table() == events && (wanted.from..=wanted.to).contains(&event.event.time())
                };
                build(events, columns, self.events().filter(within), event_value)?
            }
            Table::Processes => batch_of(table, PROCESS, columns, self.processes().values().copied())?,
            Table::Ancestors => {
                let rows = ancestors(&self.processes());
                build(table, columns, rows.iter(), ancestor_value)?
            }
            // Nothing of these is recorded.
            _ => return Ok(Box::new(std::iter::empty())),
        };
        Ok(Box::new(std::iter::once(Ok(batch))))
    }
}
