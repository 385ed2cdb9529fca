//! What the agent knows of its collectors now.
//!
//! The supervisor, the registration and the pipeline each tell what they see; queries and health read it. Nothing here is
//! stored: what must outlive the agent is in the store.

use crate::answering::completeness::Limitation;
use crate::collecting::observing::{Observing, POLL};
use daemoneye_lib::models::domain::{Domain, Domains};
use daemoneye_lib::models::rows::{CollectorRow, GapRow, ScanRow};
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{CollectorStatus, Gap, Instructions, RegisterCollector, TaskType};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Collectors that can be known at once.
const MAX_COLLECTORS: usize = 64;
/// Statuses that may fail to come before a collector is called unresponsive.
const MISSED: u32 = 3;
/// What a busy host may add to that.
const GRACE: Duration = Duration::from_secs(5);
/// Beyond a few intervals, a scan may be under way for so long.
const SILENCE: Duration = Duration::from_secs(5);

/// The collector of this host's processes.
pub(crate) const PROCMOND: &str = "procmond";

/// A handle on what is known of all collectors.
#[derive(Clone)]
pub(crate) struct Collectors {
    agent_started: i64,
    known: Arc<Mutex<BTreeMap<String, Known>>>,
    /// How often they tell their status.
    heartbeat: Duration,
}

/// One collector.
#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) row: CollectorRow,
    /// Whether it is connected and registered.
    pub(crate) attached: bool,
    /// Whether a scan of its present run is committed.
    pub(crate) scanned: bool,
    /// The types of tasks that it does.
    pub(crate) tasks: Vec<i32>,
    /// What it tells of; none before it has registered.
    pub(crate) domains: Domains,
    /// Why its supervision is not simply running it.
    pub(crate) supervision: Option<Supervision>,
    /// How it observes, as it registered and as it is now; the store has the gaps of the latter.
    registered: Observing,
    pub(crate) observing: Observing,
    /// What it last told of itself.
    pub(crate) status: Option<CollectorStatus>,
    /// Why its last registration was refused.
    pub(crate) refused: Option<String>,
    /// Whether a registration of it was ever accepted: only then is taken what it publishes.
    admitted: bool,
    /// When it last said anything of its state.
    heard: Option<Instant>,
    /// What it is wanted to do.
    wanted: Instructions,
    /// Since when it is wanted to pause, in nanoseconds since 1970.
    paused_since: Option<i64>,
    /// The version of its settings that it has answered to, and its refusal.
    pub(crate) settings: (u64, String),
}

impl Known {
    /// Whether the first that it tells is a scan of all processes: one that took to scans later has told before.
    pub(crate) fn begins_with_a_scan(&self) -> bool {
        self.registered.mode == POLL && self.domains.contains(Domain::Process)
    }

    /// It observes in this way now.
    fn observes(&mut self, way: Observing) {
        self.row.mode.clone_from(&way.mode);
        self.row.mode_reason.clone_from(&way.mode_reason);
        self.row.features.clone_from(&way.features);
        self.observing = way;
    }

    /// Whether it has scanned in this run, and not for longer than can be chance: whatever holds it up, it sees nothing meanwhile.
    pub(crate) fn is_silent(&self, now: i64) -> bool {
        let Some((until, interval)) = self.row.observed_until.zip(self.row.scan_interval_ms) else { return false };
        let allowed = Duration::from_millis(interval).saturating_mul(3).saturating_add(SILENCE);
        self.scanned && now.saturating_sub(until) > i64::try_from(allowed.as_nanos()).unwrap_or(i64::MAX)
    }

    /// Whether nothing has come from it for longer than can be chance.
    fn is_overdue(&self, heartbeat: Duration) -> bool {
        self.attached && self.heard.is_some_and(|heard| heard.elapsed() > heartbeat * MISSED + GRACE)
    }

    /// Whether its settings wait for its answer, or were refused: why.
    pub(crate) fn unsettled(&self) -> Option<String> {
        let version = self.wanted.version;
        match &self.settings {
            (answered, _) if *answered < version && self.wanted.settings == "{}" => None,
            (answered, _) if *answered < version => {
                Some(format!("its settings (version {version}) are not in force yet"))
            }
            (_, refusal) if refusal.is_empty() => None,
            (_, refusal) => Some(format!("it refuses its settings (version {version}): {refusal}")),
        }
    }
}

/// How a collector observes, and what.
pub(crate) struct Ways {
    pub(crate) registered: Observing,
    pub(crate) now: Observing,
    pub(crate) domains: Domains,
}

/// What the supervisor has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Supervision {
    /// It will be started again.
    Restarting(String),
    /// It cannot be started.
    Failing(String),
    /// The configuration says that it shall not run.
    Disabled,
}

impl Collectors {
    pub(crate) fn new(heartbeat: Duration) -> Self {
        Self { agent_started: time::now_ns(), known: Arc::default(), heartbeat }
    }

    fn with<T>(&self, collector: &str, change: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_COLLECTORS && !known.contains_key(collector) {
            return None;
        }
        let entry = known.entry(collector.to_owned()).or_insert_with(|| Known {
            row: CollectorRow {
                collector: collector.to_owned(),
                state: "starting".to_owned(),
                ..CollectorRow::default()
            },
            ..Known::default()
        });
        Some(change(entry))
    }

    /// A collector that this agent expects; `observed_until` is what the store remembers.
    pub(crate) fn expect(&self, collector: &str, observed_until: Option<i64>) {
        self.with(collector, |known| known.row.observed_until = observed_until);
    }

    /// What the configuration wants of a collector; returns its instructions when they have changed.
    pub(crate) fn configure(
        &self,
        collector: &str,
        settings: String,
        memory_budget_bytes: u64,
    ) -> Option<Instructions> {
        let status_interval_ms = u64::try_from(self.heartbeat.as_millis()).unwrap_or(u64::MAX);
        self.with(collector, |known| {
            let wanted = &mut known.wanted;
            let before = wanted.clone();
            if wanted.version == 0 || wanted.settings != settings {
                wanted.version += 1;
                wanted.settings = settings;
            }
            wanted.memory_budget_bytes = memory_budget_bytes;
            wanted.status_interval_ms = status_interval_ms;
            (*wanted != before).then(|| wanted.clone())
        })
        .flatten()
    }

    /// What an operator wants of a collector: the instructions, and whether it is there to be told; none where there is no
    /// such collector.
    pub(crate) fn order(&self, collector: &str, paused: bool) -> Option<(Instructions, bool)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_mut(collector)?;
        if known.wanted.paused != paused {
            known.wanted.paused = paused;
            known.paused_since = paused.then(time::now_ns);
        }
        Some((known.wanted.clone(), known.attached))
    }

    /// What is wanted of a collector now.
    pub(crate) fn instructions(&self, collector: &str) -> Option<Instructions> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(collector).map(|known| known.wanted.clone())
    }

    /// The configuration says that it shall not run.
    pub(crate) fn disabled(&self, collector: &str) {
        self.supervision(collector, Some(Supervision::Disabled), false);
    }

    /// A registration that was not accepted.
    pub(crate) fn refused(&self, collector: &str, why: &str) {
        self.with(collector, |known| {
            known.refused = Some(why.to_owned());
            known.row.last_error = Some(format!("its registration is refused: it {why}"));
            known.admitted = false;
            known.attached = false;
            "refused".clone_into(&mut known.row.state);
        });
    }

    /// Whether what it publishes is taken.
    pub(crate) fn is_admitted(&self, collector: &str) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(collector).is_some_and(|known| known.admitted)
    }

    /// Nothing was read from collectors for a while: their silence in this time says nothing of them.
    pub(crate) fn listens_again(&self) {
        for known in self.known.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
            known.heard = known.heard.map(|_| Instant::now());
        }
    }

    /// Returns whether there was room for it.
    pub(crate) fn registered(&self, register: &RegisterCollector) -> bool {
        self.with(&register.collector, |known| {
            known.admitted = true;
            known.refused = None;
            known.heard = Some(Instant::now());
            known.settings = (0, String::new());
            known.registered = Observing::registered(register);
            known.observes(known.registered.clone());
            let row = &mut known.row;
            row.last_error = None;
            let same_run = row.start_time == Some(register.started);
            row.version.clone_from(&register.version);
            row.pid = Some(register.pid);
            row.start_time = Some(register.started);
            row.epoch = register.epoch.iter().map(|byte| format!("{byte:02x}")).collect();
            row.limitations.clone_from(&register.limitations);
            "attached".clone_into(&mut row.state);
            let can = register.capabilities.clone().unwrap_or_default();
            known.domains = Domains::named(&can.domains);
            row.domains = can.domains;
            row.source_caps.clone_from(&register.source_caps);
            let kind = |kind: &i32| TaskType::try_from(*kind).ok().map(|kind| kind.as_str_name().to_owned());
            row.tasks = can.tasks.iter().filter_map(kind).collect();
            known.tasks = can.tasks;
            known.attached = true;
            known.scanned &= same_run;
            known.supervision = None;
        })
        .is_some()
    }

    /// Marks as detached whoever is not among the connected.
    pub(crate) fn connected(&self, names: &[String]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, known) in known.iter_mut() {
            if known.attached && !names.contains(name) {
                known.attached = false;
                "detached".clone_into(&mut known.row.state);
            }
        }
    }

    pub(crate) fn is_attached(&self, collector: &str) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(collector).is_some_and(|known| known.attached)
    }

    /// How a collector that is let in observes.
    pub(crate) fn ways(&self, collector: &str) -> Option<Ways> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(collector).filter(|known| known.admitted)?;
        Some(Ways { registered: known.registered.clone(), now: known.observing.clone(), domains: known.domains })
    }

    /// What a collector says of its state, and how it observes now where that is news and stored.
    pub(crate) fn status(&self, collector: &str, status: &CollectorStatus, turned: Option<Observing>) {
        self.with(collector, |known| {
            if let Some(way) = turned {
                known.observes(way);
            }
            known.heard = Some(Instant::now());
            known.settings = (status.settings_version, status.settings_refused.clone());
            known.row.scan_interval_ms = Some(status.scan_interval_ms).filter(|interval| *interval > 0);
            known.row.spool_items = Some(status.spool_items);
            known.row.spool_bytes = Some(status.spool_bytes);
            known.row.last_error = Some(status.last_error.clone()).filter(|error| !error.is_empty());
            known.status = Some(status.clone());
        });
    }

    /// What of the collector is committed now.
    pub(crate) fn committed(&self, collector: &str, until: Option<i64>, scans: &[ScanRow]) {
        self.with(collector, |known| {
            known.row.observed_until = known.row.observed_until.max(until);
            let run = known.row.start_time.unwrap_or(i64::MAX);
            known.scanned |= scans.iter().any(|scan| scan.collector == collector && scan.scan.finished >= run);
        });
    }

    /// Returns whether the state is news.
    pub(crate) fn supervision(&self, collector: &str, state: Option<Supervision>, restarted: bool) -> bool {
        let news = self.with(collector, |known| {
            known.row.restarts += u64::from(restarted);
            if !known.attached && known.refused.is_none() {
                match &state {
                    None => "starting".clone_into(&mut known.row.state),
                    Some(Supervision::Restarting(_)) => "restarting".clone_into(&mut known.row.state),
                    Some(Supervision::Failing(_)) => "failing".clone_into(&mut known.row.state),
                    Some(Supervision::Disabled) => "disabled".clone_into(&mut known.row.state),
                }
            }
            let news = known.supervision != state;
            known.supervision = state;
            news
        });
        news.unwrap_or(true)
    }

    /// What a collector tells of; none before it has registered.
    pub(crate) fn domains(&self, collector: &str) -> Domains {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(collector).map(|known| known.domains).unwrap_or_default()
    }

    /// What collectors say that they cannot see, whatever happens, and what none of them looks at.
    pub(crate) fn limitations(&self) -> Vec<Limitation> {
        let known = self.list();
        let domains = [Domain::Network, Domain::Filesystem, Domain::Performance, Domain::Security];
        let unwatched = domains.into_iter().filter(|domain| {
            // What has not registered yet is missed already, by its absence.
            known.iter().all(|known| !known.domains.contains(*domain))
        });
        let unwatched: Vec<Limitation> = unwatched
            .map(|domain| Limitation {
                domains: [domain].into_iter().collect(),
                of_alerts: false,
                text: format!("unwatched: no collector tells of the domain {domain}: see docs/collectors.md"),
            })
            .collect();
        let of = |known: Known| {
            let (name, domains) = (known.row.collector, known.domains);
            known.row.limitations.into_iter().map(move |limitation| Limitation {
                domains,
                of_alerts: true,
                text: format!("limited: {limitation} ({name})"),
            })
        };
        known.into_iter().flat_map(of).chain(unwatched).collect()
    }

    pub(crate) fn list(&self) -> Vec<Known> {
        let present = |known: &Known| {
            let mut known = known.clone();
            if known.is_overdue(self.heartbeat) {
                "unresponsive".clone_into(&mut known.row.state);
            } else if known.attached && known.wanted.paused {
                "paused".clone_into(&mut known.row.state);
            }
            known
        };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).values().map(present).collect()
    }

    pub(crate) fn rows(&self) -> Vec<CollectorRow> {
        self.list().into_iter().map(|known| known.row).collect()
    }

    /// The blindness that is known only from a collector's absence. It is no row of the store: a collector that comes back
    /// with all that it saw leaves none, and one that was down tells of its gap itself.
    pub(crate) fn absent(&self) -> Vec<GapRow> {
        let now = time::now_ns();
        let absence = |known: Known| {
            let since = known.row.observed_until.unwrap_or(self.agent_started);
            let (kind, from, reason) = match known.row.state.as_str() {
                // One more that the operator does not want is not missed; without procmond nobody watches this host.
                "disabled" if known.row.collector != PROCMOND => return None,
                "disabled" => {
                    ("collector_down", since, "the collector is switched off by the configuration".to_owned())
                }
                "paused" => {
                    ("paused", known.paused_since.unwrap_or(since), "the collector is paused by an operator".to_owned())
                }
                "unresponsive" => ("collector_down", since, "the collector tells nothing of its state".to_owned()),
                _ if known.attached && known.is_silent(now) => {
                    ("silent", since, "the collector is attached, and nothing newer has arrived from it".to_owned())
                }
                _ if known.attached => return None,
                state => ("collector_down", since, format!("the collector is not attached ({state})")),
            };
            let gap = Gap { kind: kind.to_owned(), from, to: None, count: None, reason };
            let (collector, domains) = (known.row.collector, known.domains.bits());
            Some(GapRow { collector, gap, domains, ..GapRow::default() })
        };
        self.list().into_iter().filter_map(absence).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use daemoneye_lib::proto::ipc::ScanSummary;

    fn registered(collectors: &Collectors, name: &str) {
        let register = RegisterCollector { collector: name.to_owned(), ..RegisterCollector::default() };
        assert!(collectors.registered(&register));
    }

    fn absent(collectors: &Collectors) -> Vec<(String, String)> {
        collectors.absent().into_iter().map(|row| (row.collector, row.gap.kind)).collect()
    }

    fn row(collector: &str, kind: &str) -> (String, String) {
        (collector.to_owned(), kind.to_owned())
    }

    #[test]
    fn only_what_is_wanted_and_not_there_is_missed() {
        let collectors = Collectors::new(Duration::from_secs(3_600));
        collectors.configure(PROCMOND, "{}".to_owned(), 0);
        collectors.configure("other", "{}".to_owned(), 0);
        collectors.disabled("other");
        assert_eq!(absent(&collectors), [row(PROCMOND, "collector_down")]);
        registered(&collectors, PROCMOND);
        assert_eq!(absent(&collectors), []);
        assert!(collectors.is_admitted(PROCMOND));
        collectors.connected(&[]);
        assert_eq!(absent(&collectors), [row(PROCMOND, "collector_down")]);
        assert!(collectors.is_admitted(PROCMOND), "what it sent before its end is taken");
        collectors.refused(PROCMOND, "why");
        assert!(!collectors.is_admitted(PROCMOND));
    }

    #[test]
    fn without_procmond_nobody_looks() {
        let collectors = Collectors::new(Duration::from_secs(3_600));
        collectors.disabled(PROCMOND);
        assert_eq!(absent(&collectors), [row(PROCMOND, "collector_down")]);
    }

    #[test]
    fn who_is_attached_and_scans_no_more_sees_nothing() {
        let collectors = Collectors::new(Duration::from_secs(3_600));
        collectors.configure(PROCMOND, "{}".to_owned(), 0);
        registered(&collectors, PROCMOND);
        collectors.status(PROCMOND, &CollectorStatus { scan_interval_ms: 1_000, ..Default::default() }, None);
        let ago = |seconds: i64| time::now_ns() - seconds * 1_000_000_000;
        let scanned = |until: i64| {
            let scan = ScanSummary { finished: until, ..ScanSummary::default() };
            let scan = ScanRow { collector: PROCMOND.to_owned(), scan };
            collectors.committed(PROCMOND, Some(until), &[scan]);
        };
        let until = ago(9);
        scanned(until);
        let gaps = collectors.absent();
        assert_eq!(
            gaps.iter().map(|row| (row.gap.kind.as_str(), row.gap.from)).collect::<Vec<_>>(),
            [("silent", until)]
        );
        scanned(ago(6));
        assert_eq!(absent(&collectors), []);
    }

    #[test]
    fn a_pause_is_a_gap_while_it_lasts_and_counts_for_those_to_come() {
        let collectors = Collectors::new(Duration::from_secs(3_600));
        assert!(collectors.order("nobody", true).is_none());
        collectors.configure("other", "{}".to_owned(), 0);
        let (instructions, told) = collectors.order("other", true).unwrap();
        assert!(instructions.paused && !told);
        registered(&collectors, "other");
        assert_eq!(absent(&collectors), [row("other", "paused")]);
        assert!(collectors.instructions("other").unwrap().paused);
        let (instructions, told) = collectors.order("other", false).unwrap();
        assert!(!instructions.paused && told);
        assert_eq!(absent(&collectors), []);
    }

    #[test]
    fn settings_have_a_version_that_grows_with_them() {
        let collectors = Collectors::new(Duration::from_secs(5));
        let version = |settings: &str| collectors.configure("x", settings.to_owned(), 0).map(|wanted| wanted.version);
        assert_eq!(
            [version("{}"), version("{}"), version("{\"a\":1}"), version("{}")],
            [Some(1), None, Some(2), Some(3)]
        );
        registered(&collectors, "x");
        let unsettled = || collectors.list().remove(0).unsettled();
        assert_eq!(unsettled(), None, "there is nothing to take");
        version("{\"a\":1}");
        assert!(unsettled().unwrap().contains("not in force yet"));
        let status = CollectorStatus { settings_version: 4, settings_refused: "no a".to_owned(), ..Default::default() };
        collectors.status("x", &status, None);
        assert!(unsettled().unwrap().ends_with("no a"));
        collectors.status("x", &CollectorStatus { settings_refused: String::new(), ..status }, None);
        assert_eq!(unsettled(), None);
    }
}
