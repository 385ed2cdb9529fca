//! Whether an answer could be complete: "no match" and "could not look" are different answers.

use crate::collectors::Collectors;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::rows::GapRow;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::Gap;
use daemoneye_lib::storage::{Snapshot, Store, StoreError, TimeRange};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The kind of gap that a rule leaves which could not be evaluated over some rows.
const RULE_FAILED: &str = "rule_failed";
/// The kind of gap that stands for what limits cut from answers.
const QUERY_LIMIT: &str = "query_limit";
/// The kind of gap that stands for the events that retention has removed, and for the alerts.
const RETENTION: &str = "retention";
const ALERT_RETENTION: &str = "alert_retention";
/// The reasons that an answer lists; further ones are counted.
const MAX_REASONS: usize = 20;

/// The open gaps of rules that could not be evaluated; a handle on shared state.
///
/// It remembers which are open, so that a rule that fails at every batch costs one commit and not one each time. The lock is
/// held while the store is written, so that what is remembered and what is stored are the same.
#[derive(Clone, Default)]
pub(crate) struct RuleGaps(Arc<Mutex<HashSet<String>>>);

impl RuleGaps {
    /// Notes that the rule has not looked at what came since `from`; returns whether that was news.
    pub(crate) fn open(&self, store: &Store, rule_id: &str, why: &str, from: i64) -> Result<bool, StoreError> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.contains(rule_id) {
            return Ok(false);
        }
        let reason = format!("the rule could not be evaluated: {why}");
        let gap = Gap { kind: RULE_FAILED.to_owned(), from, to: None, count: None, reason };
        store.open_gap(rule_id, gap)?;
        Ok(open.insert(rule_id.to_owned()))
    }

    /// Rules are loaded anew: what they could not do before is over.
    pub(crate) fn close(&self, store: &Store) -> Result<(), StoreError> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        store.close_gaps(RULE_FAILED, time::now_ns())?;
        open.clear();
        Ok(())
    }
}

/// The queries that a limit has cut short since the agent began, as one gap; a handle on shared state.
///
/// What was left out is missing from those answers alone, and they said so: no other answer is the less for it, and nothing of it
/// is stored.
#[derive(Clone, Default)]
pub(crate) struct CutQueries(Arc<Mutex<Option<Gap>>>);

impl CutQueries {
    /// One more, now.
    pub(crate) fn note(&self, reason: &str) {
        let now = time::now_ns();
        let mut gap = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = gap.get_or_insert_with(|| Gap { kind: QUERY_LIMIT.to_owned(), from: now, ..Gap::default() });
        gap.to = Some(now);
        gap.count = Some(gap.count.unwrap_or_default().saturating_add(1));
        gap.reason = format!("answers were cut short, and said so; the last: {reason}");
    }

    /// The row that stands for them; none where every answer was whole.
    pub(crate) fn row(&self) -> Option<GapRow> {
        let gap = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(GapRow { gap_id: 0, collector: "agent".to_owned(), gap })
    }
}

/// Every gap: the recorded ones, collectors that are absent now, and what retention has removed.
pub(crate) fn gaps(snapshot: &Snapshot, collectors: &Collectors) -> Result<Vec<GapRow>, StoreError> {
    let mut gaps = snapshot.gaps()?;
    let (events, alerts) = snapshot.removed_until()?;
    gaps.extend(events.map(|until| removed(RETENTION, until, "events were removed as the configuration asks")));
    gaps.extend(alerts.map(|until| removed(ALERT_RETENTION, until, "alerts were removed as the configuration asks")));
    gaps.extend(collectors.absent());
    Ok(gaps)
}

fn removed(kind: &str, until: i64, reason: &str) -> GapRow {
    let gap = Gap { kind: kind.to_owned(), from: 0, to: Some(until), count: None, reason: reason.to_owned() };
    GapRow { gap_id: 0, collector: "agent".to_owned(), gap }
}

/// Why an answer from these stretches of these tables may lack something; empty when nothing is known to be missing.
pub(crate) fn reasons(gaps: &[GapRow], limitations: &[String], touched: &[(Table, i64, i64)]) -> Vec<String> {
    let now = time::now_ns();
    let concerns = |row: &GapRow| {
        touched.iter().any(|(table, from, to)| match table {
            // A rule that fails hides no event, but alerts.
            Table::Processes | Table::Ancestors | Table::ProcessEvents if row.gap.kind == RULE_FAILED => false,
            Table::ProcessEvents if row.gap.kind == ALERT_RETENTION => false,
            // Alerts stay longer than the events that led to them.
            Table::Alerts if row.gap.kind == RETENTION => false,
            // The present state is judged as of now.
            Table::Processes | Table::Ancestors => row.gap.to.is_none(),
            // Alerts say what rules found in events.
            Table::ProcessEvents | Table::Alerts => {
                TimeRange { from: *from, to: *to }.overlaps(row.gap.from, row.gap.to.unwrap_or(now.max(row.gap.from)))
            }
            _ => false,
        })
    };
    let mut reasons: Vec<String> = gaps.iter().filter(|row| concerns(row)).map(describe).collect();
    if reasons.len() > MAX_REASONS {
        let more = reasons.len() - MAX_REASONS;
        // The newest say most about now.
        reasons.drain(..more);
        reasons.push(format!("and {more} earlier gaps: see system.gaps"));
    }
    if touched.iter().any(|(table, ..)| table.is_observed() || *table == Table::Alerts) {
        reasons.extend_from_slice(limitations);
    }
    reasons
}

/// What an alert at this moment may lack.
pub(crate) fn reasons_at(gaps: &[GapRow], limitations: &[String], moment: i64) -> Vec<String> {
    reasons(gaps, limitations, &[(Table::ProcessEvents, moment, moment)])
}

fn describe(row: &GapRow) -> String {
    let gap = &row.gap;
    let until = gap.to.map_or_else(|| "now".to_owned(), time::rfc3339);
    let count = gap.count.map(|count| format!(", {count} items")).unwrap_or_default();
    format!("{}: {} ({}, {} to {until}{count})", gap.kind, gap.reason, row.collector, time::rfc3339(gap.from))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn gap(kind: &str, from: i64, to: Option<i64>) -> GapRow {
        let gap = Gap { kind: kind.to_owned(), from, to, count: None, reason: "why".to_owned() };
        GapRow { gap_id: 1, collector: "procmond".to_owned(), gap }
    }

    #[test]
    fn events_are_judged_over_their_range_and_processes_as_of_now() {
        let gaps = [gap("ended", 10, Some(20)), gap("open", 30, None)];
        let kinds = |touched: &[(Table, i64, i64)]| -> Vec<String> {
            reasons(&gaps, &[], touched)
                .iter()
                .map(|reason| reason.split(':').next().unwrap_or_default().to_owned())
                .collect()
        };
        assert_eq!(kinds(&[(Table::ProcessEvents, 0, 9)]), Vec::<String>::new());
        assert_eq!(kinds(&[(Table::ProcessEvents, 15, 16)]), ["ended"]);
        assert_eq!(kinds(&[(Table::ProcessEvents, 0, 100)]), ["ended", "open"]);
        assert_eq!(kinds(&[(Table::Processes, i64::MIN, i64::MAX)]), ["open"]);
        assert_eq!(kinds(&[(Table::Alerts, i64::MIN, i64::MAX)]), ["ended", "open"]);
        assert_eq!(kinds(&[(Table::Gaps, i64::MIN, i64::MAX)]), Vec::<String>::new());
    }

    #[test]
    fn a_failed_rule_puts_alerts_in_doubt_and_a_limitation_all_that_was_observed() {
        let gaps = [gap(RULE_FAILED, 10, None)];
        let limited = ["limited".to_owned()];
        let over = |table| reasons(&gaps, &limited, &[(table, i64::MIN, i64::MAX)]).len();
        assert_eq!([Table::Alerts, Table::ProcessEvents, Table::Processes, Table::Rules].map(over), [2, 1, 1, 0]);
    }

    #[test]
    fn a_rule_that_goes_on_failing_is_one_gap_and_one_commit() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&directory.path().join("events.redb")).unwrap();
        let rules = RuleGaps::default();
        let open = || {
            let gaps = store.snapshot().unwrap().gaps().unwrap();
            gaps.iter().filter(|row| row.gap.to.is_none()).map(|row| row.collector.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            ["a", "b", "a", "b", "a"].map(|rule| rules.open(&store, rule, "x", 7).unwrap()),
            [true, true, false, false, false]
        );
        assert_eq!(open(), ["a", "b"]);
        rules.close(&store).unwrap();
        assert_eq!(open(), [""; 0]);
        assert!(rules.open(&store, "a", "x", 8).unwrap(), "after that it is news again");
        assert_eq!(open(), ["a"]);
    }

    #[test]
    fn what_was_removed_concerns_only_its_own_table_and_time() {
        let gaps = [removed(RETENTION, 20, "why"), removed(ALERT_RETENTION, 20, "why")];
        let kinds = |table, from| -> Vec<String> { reasons(&gaps, &[], &[(table, from, i64::MAX)]) };
        for (table, kind) in [(Table::ProcessEvents, "retention: "), (Table::Alerts, "alert_retention: ")] {
            let found = kinds(table, i64::MIN);
            assert!(found.len() == 1 && found[0].starts_with(kind), "{found:?}");
            assert_eq!(kinds(table, 21), Vec::<String>::new());
        }
        assert_eq!(kinds(Table::Processes, i64::MIN), Vec::<String>::new());
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let gaps: Vec<_> = (0..50).map(|at| gap("ended", at, Some(at))).collect();
        let reasons = reasons(&gaps, &[], &[(Table::ProcessEvents, i64::MIN, i64::MAX)]);
        assert_eq!(reasons.len(), MAX_REASONS + 1);
        assert!(reasons[MAX_REASONS].contains("30 earlier"), "{reasons:?}");
    }
}
