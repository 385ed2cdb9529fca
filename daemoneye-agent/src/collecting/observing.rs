//! How a collector observes, and what it is blind to for as long as it observes like that: what comes and goes between two
//! looks, and what a part of it would see that does not work here.
//!
//! Each is an open gap. A gap that begins or ends with the way of observing is stored with that moment, so that an answer is judged by how
//! its collectors observed in its own stretch of time, and not by how they observe now.

use super::admission;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::domain::{Domain, Domains};
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::ipc::{CollectorStatus, Feature, Gap, RegisterCollector};
use daemoneye_lib::storage::{Store, StoreError};

/// The mode of collectors that see only what is there when they look.
pub(crate) const POLL: &str = "poll";
/// The kind of gap of such a collector.
const POLLING: &str = "polling";
/// What the kind of the gap that a missing feature leaves begins with.
const WITHOUT: &str = "without_";

/// How a collector observes, since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observing {
    pub(crate) mode: String,
    pub(crate) mode_reason: String,
    pub(crate) features: Vec<Feature>,
    /// Not later than when it was told.
    since: i64,
}

impl Observing {
    /// As a registration says.
    pub(crate) fn registered(register: &RegisterCollector) -> Self {
        let since = if register.mode_since > 0 { register.mode_since } else { register.started };
        Self {
            mode: register.mode.clone(),
            mode_reason: register.mode_reason.clone(),
            features: register.features.clone(),
            since: since.min(now_ns()),
        }
    }

    /// As a status says, of a collector that registered like this.
    pub(crate) fn told(&self, status: &CollectorStatus) -> Self {
        let mut now = self.clone();
        if !status.mode.is_empty() {
            (now.mode, now.mode_reason) = (status.mode.clone(), status.mode_reason.clone());
        }
        if !status.features.is_empty() {
            now.features.clone_from(&status.features);
        }
        if status.mode_since > 0 {
            now.since = status.mode_since.min(now_ns());
        }
        now
    }

    /// Whether this is the same way of observing, whenever it began.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.mode == other.mode && self.mode_reason == other.mode_reason && self.features == other.features
    }

    /// Makes the stored gaps those of this way of observing; returns the kinds of those that began.
    pub(crate) fn settle(&self, store: &Store, collector: &str, domains: Domains) -> Result<Vec<String>, StoreError> {
        let judged = |kind: &str| kind == POLLING || kind.starts_with(WITHOUT);
        store.settle_gaps(collector, judged, &self.gaps(domains), self.since)
    }

    /// Each with the tables that it concerns; none where it concerns all of the domains.
    fn gaps(&self, domains: Domains) -> Vec<(Gap, Vec<String>)> {
        let gap = |kind: String, reason: String| Gap { kind, from: self.since, to: None, count: None, reason };
        let polling = (self.mode == POLL).then(|| {
            let reason = if domains.contains(Domain::Process) {
                "processes are seen only when a scan finds them: those that live shorter may be missing"
            } else {
                "what begins and ends between two looks may be missing"
            };
            (gap(POLLING.to_owned(), reason.to_owned()), Vec::new())
        });
        let missing = self.features.iter().filter(|feature| !feature.available && !feature.tables.is_empty());
        let without = missing.map(|feature| {
            (gap(format!("{WITHOUT}{}", feature.name), feature.reason.clone()), tables(&feature.tables))
        });
        polling.into_iter().chain(without).collect()
    }

    /// What does not work, in a line for the operator; nothing where everything does.
    pub(crate) fn missing(&self) -> Option<String> {
        let missing = self.features.iter().filter(|feature| !feature.available);
        let each: Vec<String> = missing.map(|feature| format!("{} ({})", feature.name, feature.reason)).collect();
        (!each.is_empty()).then(|| format!("unavailable: {}", each.join(", ")))
    }
}

/// By their whole names, in one order.
fn tables(names: &[String]) -> Vec<String> {
    let whole = |table: Table| {
        let (schema, name) = table.qualified_name();
        format!("{schema}.{name}")
    };
    let mut tables: Vec<String> = names.iter().filter_map(|name| Table::find(name)).map(whole).collect();
    tables.sort_unstable();
    tables.dedup();
    tables
}

/// Why a status is not believed, where it says how its collector observes.
pub(crate) fn judge(status: &CollectorStatus, domains: Domains, test_mode: bool) -> Result<(), String> {
    admission::way(&status.mode, &status.mode_reason, &status.features, domains, test_mode)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use daemoneye_lib::models::rows::GapRow;

    fn feature(name: &str, available: bool, tables: &[&str]) -> Feature {
        let tables = tables.iter().map(|table| (*table).to_owned()).collect();
        Feature { name: name.to_owned(), available, reason: format!("no {name}"), tables }
    }

    fn way(mode: &str, since: i64, features: Vec<Feature>) -> Observing {
        Observing { mode: mode.to_owned(), mode_reason: String::new(), features, since }
    }

    fn open(store: &Store) -> Vec<GapRow> {
        let gaps = store.snapshot().unwrap().gaps().unwrap();
        gaps.into_iter().filter(|row| row.gap.to.is_none()).collect()
    }

    fn kinds(rows: &[GapRow]) -> Vec<(&str, i64, Option<i64>)> {
        rows.iter().map(|row| (row.gap.kind.as_str(), row.gap.from, row.gap.to)).collect()
    }

    #[test]
    fn a_stretch_of_polling_ends_with_the_mode() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&directory.path().join("events.redb")).unwrap();
        let process = Domains::named(&["process"]);
        let settle = |mode: &str, since| way(mode, since, Vec::new()).settle(&store, "procmond", process).unwrap();
        assert_eq!(settle("poll", 10), ["polling"]);
        assert_eq!(settle("poll", 20), [""; 0], "the next run polls too: it goes on");
        assert_eq!(kinds(&open(&store)), [("polling", 10, None)]);
        assert_eq!(settle("ebpf", 30), [""; 0]);
        assert_eq!(settle("connector", 40), [""; 0]);
        assert_eq!(settle("poll", 50), ["polling"]);
        let all = store.snapshot().unwrap().gaps().unwrap();
        assert_eq!(kinds(&all), [("polling", 10, Some(30)), ("polling", 50, None)]);
        way("ebpf", 60, Vec::new()).settle(&store, "other", process).unwrap();
        assert_eq!(kinds(&open(&store)), [("polling", 50, None)], "it is another collector's");
    }

    #[test]
    fn a_missing_feature_is_a_gap_of_its_tables_until_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&directory.path().join("events.redb")).unwrap();
        let domains = Domains::named(&["process", "security"]);
        let settle = |features, since| way("ebpf", since, features).settle(&store, "procmond", domains).unwrap();
        let ptrace = |available| feature("ptrace", available, &["security.events"]);
        let exec = || feature("exec", false, &["processes.events", "processes"]);
        assert_eq!(
            settle(vec![ptrace(false), exec(), feature("modules", false, &[])], 10),
            ["without_ptrace", "without_exec"]
        );
        let rows = open(&store);
        assert_eq!(rows[0].tables, ["security.events"]);
        assert_eq!(
            (rows[1].tables.join(" "), rows[1].gap.reason.as_str()),
            ("processes.current processes.events".to_owned(), "no exec")
        );
        assert_eq!(settle(vec![ptrace(true), exec()], 20), [""; 0]);
        let all = store.snapshot().unwrap().gaps().unwrap();
        assert_eq!(kinds(&all), [("without_ptrace", 10, Some(20)), ("without_exec", 10, None)]);
        assert_eq!(settle(Vec::new(), 30), [""; 0], "a version that no longer knows it");
        assert_eq!(open(&store), []);
    }

    #[test]
    fn a_status_says_what_has_changed_since_the_registration() {
        let registered = way("ebpf", 10, vec![feature("ptrace", true, &[])]);
        assert_eq!(registered.told(&CollectorStatus::default()), registered);
        let status = CollectorStatus {
            mode: "connector".to_owned(),
            mode_since: 20,
            features: vec![feature("ptrace", false, &[])],
            ..CollectorStatus::default()
        };
        let now = registered.told(&status);
        assert_eq!((now.mode.as_str(), now.since), ("connector", 20));
        assert!(!now.is_like(&registered) && now.is_like(&registered.told(&status)));
        assert_eq!(now.missing().unwrap(), "unavailable: ptrace (no ptrace)");
        let tomorrow = CollectorStatus { mode_since: i64::MAX, ..status };
        assert!(registered.told(&tomorrow).since <= now_ns(), "nobody observes from tomorrow on");
    }
}
