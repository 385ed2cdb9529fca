//! Runs rules that have a window, each when it is due, one after the other.
//!
//! A run has a time limit and a budget; what it has to tell goes to the pipeline, which alone raises alerts. Only when they are
//! committed is it remembered what the run returned: after a crash between the two the next run says the same once more, and the
//! alerts recognise it. On disk it is kept of rules of mode `diff`, and of those that return more than an alert can recognise.

use crate::answering::completeness::{self, CutQueries};
use crate::answering::tables::Tables;
use crate::collecting::collectors::Collectors;
use crate::ruling::state::RuleState;
use daemoneye_lib::alerting::MAX_EVENT_IDS;
use daemoneye_lib::detection::Cost;
use daemoneye_lib::detection::engine::{CompiledRule, Match};
use daemoneye_lib::detection::query::{Queries, QueryError};
use daemoneye_lib::detection::record::{Budget, Noted, Outcome};
use daemoneye_lib::detection::rules::{Mode, Rule, Schedule};
use daemoneye_lib::detection::scheduled::{Known, Ran, Told, told};
use daemoneye_lib::detection::standing::DetectionEngine;
use daemoneye_lib::models::time;
use daemoneye_lib::storage::Store;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Between two looks at what is due.
const LOOK: Duration = Duration::from_millis(250);
/// So long the first runs wait for a collector's first scan: what it brings is not new.
const FIRST_SCAN: Duration = Duration::from_secs(30);
/// What a run may take on the clock.
const LIMIT: Duration = Duration::from_secs(10);

/// What a run found, on its way to becoming alerts.
pub(crate) struct Found {
    pub(crate) rule: Arc<Rule>,
    pub(crate) matches: Vec<Match>,
    /// What kept the rule from seeing, for a gap.
    pub(crate) failed: Option<String>,
    pub(crate) time: i64,
    /// Why the run could not see everything.
    pub(crate) doubts: Vec<String>,
    /// Told when the alerts are committed.
    pub(crate) committed: oneshot::Sender<()>,
}

/// Runs what is due.
pub(crate) struct Scheduler {
    pub(crate) engine: DetectionEngine,
    /// With memory of its own: operators' queries take nothing from rules.
    pub(crate) queries: Arc<Queries>,
    pub(crate) store: Arc<Store>,
    pub(crate) collectors: Collectors,
    pub(crate) state: Arc<RuleState>,
    pub(crate) cut_queries: CutQueries,
    pub(crate) pipeline: mpsc::Sender<Found>,
}

/// When a rule runs next, and what it returned last.
struct Next {
    digest: [u8; 32],
    due: Instant,
    known: Option<Known>,
}

impl Scheduler {
    /// Runs until the pipeline has ended.
    pub(crate) async fn run(self) -> String {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut plan: HashMap<String, Next> = HashMap::new();
        let started = Instant::now();
        let mut begun = false;
        loop {
            look.tick().await;
            begun = begun
                || started.elapsed() > FIRST_SCAN
                || self.collectors.list().iter().any(|collector| collector.scanned);
            if !begun {
                continue;
            }
            let rules = self.engine.rules();
            let scheduled = || rules.iter().filter_map(|rule| Some((rule, rule.schedule()?)));
            plan.retain(|id, _| scheduled().any(|(rule, _)| rule.rule.id == *id));
            for (rule, schedule) in scheduled() {
                if !self.engine.record().may_run(&rule.rule.id) {
                    continue;
                }
                let next = plan.entry(rule.rule.id.clone()).or_insert_with(|| self.first(rule));
                if next.digest != rule.digest {
                    *next = self.first(rule);
                }
                if next.due > Instant::now() {
                    continue;
                }
                next.due = Instant::now() + schedule.every;
                if !self.run_once(rule, schedule, &mut next.known).await {
                    return "the pipeline has ended".to_owned();
                }
            }
        }
    }

    fn first(&self, rule: &CompiledRule) -> Next {
        Next { digest: rule.digest, due: Instant::now(), known: self.state.known(&rule.rule) }
    }

    /// Has the pipeline commit what it has: a run looks at what is stored, and where one window ends the next begins.
    async fn settle(&self, rule: &Arc<Rule>) -> bool {
        let (committed, is_committed) = oneshot::channel();
        let nothing = Found {
            rule: Arc::clone(rule),
            matches: Vec::new(),
            failed: None,
            time: time::now_ns(),
            doubts: Vec::new(),
            committed,
        };
        self.pipeline.send(nothing).await.is_ok() && is_committed.await.is_ok()
    }

    /// Returns false when there is no pipeline any more.
    async fn run_once(&self, rule: &Arc<CompiledRule>, schedule: Schedule, known: &mut Option<Known>) -> bool {
        if !self.settle(&rule.rule).await {
            return false;
        }
        let now = time::now_ns();
        let (ran, cost, doubts) = self.evaluate(rule, now).await;
        let (ran, failure) = match ran {
            Ok(ran) => (ran, None),
            Err(why) => (Ran::default(), Some(why)),
        };
        let (rows, excepted) = (ran.rows, ran.excepted);
        let (fresh, found, returned) = if failure.is_some() {
            (Vec::new(), 0, None)
        } else {
            let Told { fresh, found, known: returned } = told(schedule.mode, ran.matches, known.as_ref());
            if known.is_none() && schedule.mode == Mode::Diff {
                tracing::info!(rule = %rule.rule.id, rows = returned.len(), "the first run of a rule of mode diff takes what is there as known");
            }
            (fresh, found, Some(returned))
        };
        let outcome = Outcome {
            rows,
            matches: found,
            excepted,
            failure: failure.clone(),
            cost,
            degraded_reasons: doubts.as_slice().into(),
            ..Outcome::default()
        };
        let noted = self.engine.record().note(&rule.rule.id, outcome, Budget::of_run(schedule));
        let failed = match noted {
            Noted::Suspended(why) => Some(failure.unwrap_or(why)),
            Noted::Well => failure,
        };
        if !fresh.is_empty() || failed.is_some() {
            let (committed, is_committed) = oneshot::channel();
            let found = Found { rule: Arc::clone(&rule.rule), matches: fresh, failed, time: now, doubts, committed };
            if self.pipeline.send(found).await.is_err() || is_committed.await.is_err() {
                return false;
            }
        }
        if let Some(returned) = returned.filter(|returned| known.as_ref() != Some(returned)) {
            let is_kept = schedule.mode == Mode::Diff || returned.len() > MAX_EVENT_IDS;
            if let Err(error) = if is_kept { self.state.remember(&rule.rule, &returned) } else { Ok(()) } {
                tracing::error!(rule = %rule.rule.id, %error, "after a start the rule will tell again what it has told");
            }
            *known = Some(returned);
        }
        true
    }

    /// What a run returned or why it failed, its cost, and what it could not see.
    async fn evaluate(&self, rule: &Arc<CompiledRule>, now: i64) -> (Result<Ran, String>, Duration, Vec<String>) {
        let (rule, queries) = (Arc::clone(rule), Arc::clone(&self.queries));
        let cut_queries = self.cut_queries.clone();
        let (store, collectors, record) = (Arc::clone(&self.store), self.collectors.clone(), self.engine.record());
        let run = spawn_blocking(move || {
            let cost = Cost::start();
            let work = || -> Result<(Ran, Vec<String>), String> {
                let snapshot = store.snapshot().map_err(|error| error.to_string())?;
                let gaps = completeness::gaps(&snapshot, &collectors).map_err(|error| error.to_string())?;
                let tables =
                    Arc::new(Tables { snapshot, collectors: collectors.clone(), detection: record, cut_queries });
                let ran = Handle::current().block_on(timeout(LIMIT, rule.run(&queries, tables, now)));
                let ran = ran
                    .map_err(|_| QueryError::Failed(format!("it took more than {} s", LIMIT.as_secs())))
                    .flatten()
                    .map_err(|error| error.to_string())?;
                let doubts = completeness::reasons(&gaps, &collectors.limitations(), &ran.touched);
                Ok((ran, doubts))
            };
            (work(), cost.so_far())
        });
        match run.await {
            Ok((Ok((ran, doubts)), cost)) => (Ok(ran), cost, doubts),
            Ok((Err(why), cost)) => (Err(why), cost, Vec::new()),
            Err(panic) => {
                (Err(format!("the engine gave up, a defect of DaemonEye: {panic}")), Duration::ZERO, Vec::new())
            }
        }
    }
}
