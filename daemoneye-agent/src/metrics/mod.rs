//! What the agent counts and measures, as `daemoneye-cli metrics` shows it: docs/metrics.md lists all of it.
//!
//! The handles in [`Metrics`] are made once in the wiring and given to whoever counts; counting takes no lock but that of a
//! label's first use. What others keep anyway (the collectors' state, what rules have cost, the size of the store) is not
//! counted twice: [`sampled`] reads it when somebody asks.
//!
//! Labels are bounded: a name that comes from outside is one of so many ([`Labels`]), and `other` beyond.

mod labels;
mod sampled;

pub(crate) use sampled::Sources;

use daemoneye_lib::models::rows::DeliveryRow;
use daemoneye_lib::proto::common::{Alert, Severity};
use daemoneye_lib::storage::{Appended, Arrived, Understood};
use labels::Labels;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use std::sync::Arc;
use std::time::Duration;

/// From a tenth of a millisecond to ten seconds, about three buckets a decade.
const SECONDS: &[f64] =
    &[0.0001, 0.000_25, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The counters and histograms that are fed as things happen.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    batches: IntCounterVec,
    items: IntCounterVec,
    repeated: IntCounter,
    batches_refused: IntCounter,
    events: IntCounterVec,
    commit: Histogram,
    evaluation: Histogram,
    alerts: IntCounterVec,
    alerts_repeated: IntCounter,
    deliveries: IntCounterVec,
    delivery: HistogramVec,
    gaps: IntCounterVec,
    scans: IntCounterVec,
    scan: HistogramVec,
    queries: IntCounterVec,
    query: Histogram,
    queries_running: IntGauge,
    reloads: IntCounterVec,
    gap_kinds: Arc<Labels>,
    collectors: Arc<Labels>,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// Two of one name, or a name that Prometheus does not allow: a defect.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let made = IntCounter::new(name, help)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let seconds = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let histogram = |name: &str, help: &str| {
            let made = Histogram::with_opts(seconds(name, help))?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let histograms = |name: &str, help: &str, labels: &[&str]| {
            let made = HistogramVec::new(seconds(name, help), labels)?;
            registry.register(Box::new(made.clone())).map(|()| made)
        };
        let running = IntGauge::new("daemoneye_queries_running", "Queries that run now.")?;
        registry.register(Box::new(running.clone()))?;
        let metrics = Self {
            batches: counters(
                "daemoneye_batches_received_total",
                "Batches taken from collectors, repetitions included.",
                &["collector"],
            )?,
            items: counters(
                "daemoneye_items_received_total",
                "Items in those batches: events, scans, gaps.",
                &["collector"],
            )?,
            repeated: counter("daemoneye_items_repeated_total", "Items that were in the store already.")?,
            batches_refused: counter("daemoneye_batches_refused_total", "Batches that were refused as malformed.")?,
            events: counters("daemoneye_events_stored_total", "Events committed to the store.", &["collector"])?,
            commit: histogram("daemoneye_commit_seconds", "What committing a group of batches took.")?,
            evaluation: histogram(
                "daemoneye_evaluation_seconds",
                "What evaluating all rules over the events of one batch took.",
            )?,
            alerts: counters("daemoneye_alerts_raised_total", "New alerts.", &["severity"])?,
            alerts_repeated: counter(
                "daemoneye_alerts_repeated_total",
                "Matches that were counted to an alert that was there.",
            )?,
            deliveries: counters(
                "daemoneye_deliveries_total",
                "Attempts to deliver an alert to a sink.",
                &["sink", "result"],
            )?,
            delivery: histograms(
                "daemoneye_delivery_seconds",
                "From handing an alert to its sink until the sink was done with it.",
                &["sink"],
            )?,
            gaps: counters(
                "daemoneye_gaps_total",
                "Stretches in which something was not seen, as they were told or found.",
                &["collector", "kind"],
            )?,
            scans: counters("daemoneye_scans_total", "Scans committed to the store.", &["collector"])?,
            scan: histograms("daemoneye_scan_seconds", "How long a scan took.", &["collector"])?,
            queries: counters("daemoneye_queries_total", "Queries that have ended.", &["result"])?,
            query: histogram("daemoneye_query_seconds", "How long a query took, waiting for its turn included.")?,
            queries_running: running,
            reloads: counters("daemoneye_config_reloads_total", "Reloads of the configuration.", &["result"])?,
            gap_kinds: Arc::new(Labels::new(32)),
            collectors: Arc::new(Labels::new(64)),
            registry,
        };
        metrics.begin_at_zero();
        Ok(metrics)
    }

    /// What has not happened yet is 0, not unknown, wherever the labels are known beforehand.
    fn begin_at_zero(&self) {
        for result in ["complete", "degraded", "refused", "failed", "cancelled"] {
            self.queries.with_label_values(&[result]);
        }
        for severity in [Severity::Low, Severity::Medium, Severity::High, Severity::Critical] {
            self.alerts.with_label_values(&[severity.name()]);
        }
        for result in ["applied", "refused"] {
            self.reloads.with_label_values(&[result]);
        }
    }

    /// A batch was taken from the bus.
    pub(crate) fn received(&self, batch: &Arrived) {
        let collector = self.collectors.bounded(&batch.collector);
        self.batches.with_label_values(&[collector]).inc();
        self.items.with_label_values(&[collector]).inc_by(batch.items.len() as u64);
    }

    /// A batch was not taken.
    pub(crate) fn refused(&self) {
        self.batches_refused.inc();
    }

    /// A group of batches is committed.
    pub(crate) fn committed(&self, group: &[Understood], appended: &Appended, took: Duration) {
        self.commit.observe(took.as_secs_f64());
        self.repeated.inc_by(appended.duplicates);
        for (batch, events) in group.iter().zip(&appended.stored) {
            let collector = self.collectors.bounded(&batch.batch().collector);
            self.events.with_label_values(&[collector]).inc_by(*events);
        }
        for gap in &appended.gaps {
            self.gap(&gap.collector, &gap.gap.kind);
        }
        for row in &appended.scans {
            let collector = self.collectors.bounded(&row.collector);
            self.scans.with_label_values(&[collector]).inc();
            let ns = row.scan.finished.saturating_sub(row.scan.started).max(0);
            self.scan.with_label_values(&[collector]).observe(Duration::from_nanos(ns.unsigned_abs()).as_secs_f64());
        }
    }

    /// Something was not seen, or could not be judged.
    pub(crate) fn gap(&self, collector: &str, kind: &str) {
        let labels = [self.collectors.bounded(collector), self.gap_kinds.bounded(kind)];
        self.gaps.with_label_values(&labels).inc();
    }

    /// The rules have been over the events of a commit.
    pub(crate) fn evaluated(&self, took: Duration) {
        self.evaluation.observe(took.as_secs_f64());
    }

    /// Alerts are committed, each new or one more occurrence.
    pub(crate) fn alerted(&self, alerts: &[(Alert, bool)]) {
        for (alert, is_new) in alerts {
            if *is_new {
                self.alerts.with_label_values(&[alert.severity().name()]).inc();
            } else {
                self.alerts_repeated.inc();
            }
        }
    }

    /// A sink is done with an alert; the names of sinks come from the configuration.
    pub(crate) fn delivered(&self, row: &DeliveryRow, took: Option<Duration>) {
        let result = if row.error.is_none() { "delivered" } else { "failed" };
        self.deliveries.with_label_values(&[row.sink.as_str(), result]).inc();
        if let Some(took) = took {
            self.delivery.with_label_values(&[row.sink.as_str()]).observe(took.as_secs_f64());
        }
    }

    /// A query begins; what is returned ends with it.
    pub(crate) fn query(&self) -> RunningQuery {
        self.queries_running.inc();
        RunningQuery { metrics: self.clone(), began: std::time::Instant::now(), result: "cancelled" }
    }

    /// The configuration was read anew, or could not be.
    pub(crate) fn reloaded(&self, result: &'static str) {
        self.reloads.with_label_values(&[result]).inc();
    }

    /// Everything as Prometheus reads it.
    ///
    /// # Errors
    /// What cannot be encoded: a defect.
    pub(crate) fn text(&self, sources: &Sources) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(sources.registry()?.gather());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

/// A query under way. Unless told otherwise when it is dropped, it was cancelled.
pub(crate) struct RunningQuery {
    metrics: Metrics,
    began: std::time::Instant,
    result: &'static str,
}

impl RunningQuery {
    /// How it ended.
    pub(crate) fn ends(mut self, result: &'static str) {
        self.result = result;
    }
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        self.metrics.queries_running.dec();
        self.metrics.queries.with_label_values(&[self.result]).inc();
        self.metrics.query.observe(self.began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use daemoneye_lib::models::domain::Domains;
    use daemoneye_lib::models::event::Epoch;

    #[test]
    fn events_count_for_the_collector_that_told_them() {
        let batch = |collector: &str| {
            Understood::from(Arrived {
                collector: collector.into(),
                domains: Domains::default(),
                epoch: Epoch([1; 16]),
                first_sequence: 1,
                items: Vec::new(),
            })
        };
        let metrics = Metrics::new().unwrap();
        let appended = Appended { stored: vec![2, 1, 3], ..Appended::default() };
        metrics.committed(&[batch("a"), batch("b"), batch("a")], &appended, Duration::ZERO);
        let count = |collector| metrics.events.with_label_values(&[collector]).get();
        assert_eq!((count("a"), count("b")), (5, 1));
    }

    #[test]
    fn a_query_that_nobody_ended_was_cancelled() {
        let metrics = Metrics::new().unwrap();
        metrics.query().ends("complete");
        let running = metrics.query();
        assert_eq!(metrics.queries_running.get(), 1);
        drop(running);
        let count = |result| metrics.queries.with_label_values(&[result]).get();
        assert_eq!((count("complete"), count("cancelled"), metrics.queries_running.get()), (1, 1, 0));
    }
}
