//! Whether an answer could be complete: "no match" and "could not look" are different answers.

use crate::collecting::collectors::Collectors;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::domain::{Domain, Domains};
use daemoneye_lib::models::rows::GapRow;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::Gap;
use daemoneye_lib::storage::{Snapshot, Store, StoreError, TimeRange};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The kind of gap that a rule leaves which could not be evaluated over some rows.
const RULE_FAILED: &str = "rule_failed";
/// The kind of gap that stands for what limits cut from answers.
const QUERY_LIMIT: &str = "query_limit";
/// The kind of gap that stands for the events that retention has removed, and for the alerts.
const RETENTION: &str = "retention";
const ALERT_RETENTION: &str = "alert_retention";
/// The same for snapshots.
const SNAPSHOT_RETENTION: &str = "snapshot_retention";
/// The kind of gap of a collector that tells no snapshots while much of its spool waits.
const SNAPSHOTS_LEFT_OUT: &str = "snapshots_left_out";
/// The reasons that an answer lists; further ones are counted.
const MAX_REASONS: usize = 20;

/// What a collector cannot see, whatever happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limitation {
    /// Of which domains; none where that is not known, and then it may be any.
    pub(crate) domains: Domains,
    /// Whether alerts are in doubt for it.
    pub(crate) of_alerts: bool,
    pub(crate) text: String,
}

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
        Some(GapRow { collector: "agent".to_owned(), gap, ..GapRow::default() })
    }
}

/// Every gap: the recorded ones, collectors that are absent now, and what retention has removed.
pub(crate) fn gaps(snapshot: &Snapshot, collectors: &Collectors) -> Result<Vec<GapRow>, StoreError> {
    let mut gaps = snapshot.gaps()?;
    let mut known: HashMap<String, u32> = HashMap::new();
    for row in &mut gaps {
        row.domains = match known.get(&row.collector) {
            Some(domains) => *domains,
            None => {
                let now = collectors.domains(&row.collector);
                let domains = if now.is_empty() { snapshot.domains(&row.collector)? } else { now };
                known.insert(row.collector.clone(), domains.bits());
                domains.bits()
            }
        };
    }
    for table in Table::ALL.into_iter().filter(|table| table.is_of_events()) {
        let why = "events were removed as the configuration asks";
        gaps.extend(snapshot.removed_until(table)?.map(|until| removed(RETENTION, table, until, why)));
    }
    let why = "snapshots were removed as the configuration asks";
    let snapshots = snapshot.removed_until(Table::Snapshots)?;
    gaps.extend(snapshots.map(|until| removed(SNAPSHOT_RETENTION, Table::Snapshots, until, why)));
    let why = "alerts were removed as the configuration asks";
    let alerts = snapshot.removed_until(Table::Alerts)?;
    gaps.extend(alerts.map(|until| removed(ALERT_RETENTION, Table::Alerts, until, why)));
    gaps.extend(collectors.absent());
    Ok(gaps)
}

fn removed(kind: &str, table: Table, until: i64, reason: &str) -> GapRow {
    let gap = Gap { kind: kind.to_owned(), from: 0, to: Some(until), count: None, reason: reason.to_owned() };
    let domains: Domains = table.domain().into_iter().collect();
    GapRow { collector: "agent".to_owned(), gap, domains: domains.bits(), ..GapRow::default() }
}

/// Why an answer from these stretches of these tables may lack something; empty when nothing is known to be missing.
pub(crate) fn reasons(gaps: &[GapRow], limitations: &[Limitation], touched: &[(Table, i64, i64)]) -> Vec<String> {
    let now = time::now_ns();
    let concerns = |row: &GapRow| {
        let kind = row.gap.kind.as_str();
        let overlaps = |from: i64, to: i64| {
            TimeRange { from, to }.overlaps(row.gap.from, row.gap.to.unwrap_or(now.max(row.gap.from)))
        };
        touched.iter().any(|(table, from, to)| match table.domain() {
            _ if !row.tables.is_empty() && !is_of(&row.tables, *table) => false,
            // Alerts say what rules found in events, and stay longer than these.
            None => *table == Table::Alerts && kind != RETENTION && overlaps(*from, *to),
            // A rule that fails hides no event, but alerts.
            Some(_) if kind == RULE_FAILED || kind == ALERT_RETENTION => false,
            Some(domain) if !may_be_of(Domains::from_bits(row.domains), domain) => false,
            // A snapshot that was left out or removed hides nothing else, and stays as long as it stays.
            Some(_) if [SNAPSHOTS_LEFT_OUT, SNAPSHOT_RETENTION].contains(&kind) && *table != Table::Snapshots => false,
            Some(_) if kind == RETENTION && *table == Table::Snapshots => false,
            Some(_) if table.time_column().is_some() => overlaps(*from, *to),
            // The present state is judged as of now.
            Some(_) => row.gap.to.is_none(),
        })
    };
    let mut reasons: Vec<String> = gaps.iter().filter(|row| concerns(row)).map(describe).collect();
    if reasons.len() > MAX_REASONS {
        let more = reasons.len() - MAX_REASONS;
        // The newest say most about now.
        reasons.drain(..more);
        reasons.push(format!("and {more} earlier gaps: see system.gaps"));
    }
    let limits = |limitation: &&Limitation| {
        touched.iter().any(|(table, ..)| match table.domain() {
            None => *table == Table::Alerts && limitation.of_alerts,
            Some(domain) => may_be_of(limitation.domains, domain),
        })
    };
    reasons.extend(limitations.iter().filter(limits).map(|limitation| limitation.text.clone()));
    reasons
}

/// Whether the rows of a table come from one of these.
fn is_of(names: &[String], table: Table) -> bool {
    // Ancestors are processes in another order.
    let source = if table == Table::Ancestors { Table::Processes } else { table };
    names.iter().any(|name| Table::find(name) == Some(source))
}

/// Whether what these domains are, as far as it is known, includes this one.
fn may_be_of(domains: Domains, domain: Domain) -> bool {
    domains.is_empty() || domains.contains(domain)
}

/// What an alert from an event of this table at this moment may lack.
pub(crate) fn reasons_at(
    gaps: &[GapRow],
    limitations: &[Limitation],
    tables: impl IntoIterator<Item = Table>,
    moment: i64,
) -> Vec<String> {
    let touched: Vec<_> = tables.into_iter().map(|table| (table, moment, moment)).collect();
    reasons(gaps, limitations, &touched)
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
        GapRow { collector: "procmond".to_owned(), gap, ..GapRow::default() }
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
        let limited = [Limitation { domains: Domains::default(), of_alerts: true, text: "limited".to_owned() }];
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
        let gaps =
            [removed(RETENTION, Table::ProcessEvents, 20, "why"), removed(ALERT_RETENTION, Table::Alerts, 20, "why")];
        let kinds = |table, from| -> Vec<String> { reasons(&gaps, &[], &[(table, from, i64::MAX)]) };
        for (table, kind) in [(Table::ProcessEvents, "retention: "), (Table::Alerts, "alert_retention: ")] {
            let found = kinds(table, i64::MIN);
            assert!(found.len() == 1 && found[0].starts_with(kind), "{found:?}");
            assert_eq!(kinds(table, 21), Vec::<String>::new());
        }
        for table in [Table::Processes, Table::NetworkConnections] {
            assert_eq!(kinds(table, i64::MIN), Vec::<String>::new());
        }
    }

    #[test]
    fn each_domain_is_judged_by_the_collectors_that_watch_it() {
        let network: Domains = [Domain::Network].into_iter().collect();
        let gaps = [GapRow { domains: network.bits(), ..gap("blind", 10, None) }];
        let limited = [Limitation { domains: network, of_alerts: false, text: "limited".to_owned() }];
        let over = |table| reasons(&gaps, &limited, &[(table, i64::MIN, i64::MAX)]).len();
        let tables = [Table::NetworkConnections, Table::ProcessEvents, Table::FilesystemEvents, Table::Alerts];
        assert_eq!(tables.map(over), [2, 0, 0, 1]);
    }

    #[test]
    fn what_concerns_one_table_leaves_the_others_alone() {
        let of = |table: &str, row| [GapRow { tables: vec![table.to_owned()], ..row }];
        let over = |gaps: &[GapRow], table, from| reasons(gaps, &[], &[(table, from, i64::MAX)]).len();
        let security = of("security.events", gap("without_ptrace", 10, Some(20)));
        let tables = [Table::SecurityEvents, Table::ProcessEvents, Table::Processes, Table::Alerts, Table::Gaps];
        assert_eq!(tables.map(|table| over(&security, table, 0)), [1, 0, 0, 0, 0]);
        assert_eq!(over(&security, Table::SecurityEvents, 21), 0, "it was there again");
        let now = of("processes.current", gap("without_exec", 10, None));
        let tables = [Table::Processes, Table::Ancestors, Table::Snapshots, Table::ProcessEvents];
        assert_eq!(tables.map(|table| over(&now, table, 0)), [1, 1, 0, 0]);
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let gaps: Vec<_> = (0..50).map(|at| gap("ended", at, Some(at))).collect();
        let reasons = reasons(&gaps, &[], &[(Table::ProcessEvents, i64::MIN, i64::MAX)]);
        assert_eq!(reasons.len(), MAX_REASONS + 1);
        assert!(reasons[MAX_REASONS].contains("30 earlier"), "{reasons:?}");
    }
}
