//! What is known elsewhere, read when somebody asks: the collectors, the rules, the bus, the store's file, this process.

use crate::collecting::collectors::{Collectors, Known};
use daemoneye_eventbus::Gate;
use daemoneye_lib::detection::standing::DetectionRecord;
use daemoneye_lib::models::rows::RuleRow;
use daemoneye_lib::storage::Arrived;
use daemoneye_lib::telemetry::Usage;
use prometheus::{CounterVec, IntGaugeVec};
use prometheus::{Error, Gauge, GaugeVec, IntCounterVec, Opts, Registry, core::Collector};
use std::path::PathBuf;
use tokio::sync::mpsc::WeakSender;

/// Rules with a label of their own, in the order of their ids.
const MAX_RULES: usize = 1_000;

/// Where it is read.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) started: i64,
    pub(crate) collectors: Collectors,
    pub(crate) detection: DetectionRecord,
    pub(crate) gate: Gate,
    pub(crate) store: PathBuf,
    /// The queue of batches before the pipeline; it must not be kept open by whoever only looks.
    pub(crate) queue: WeakSender<Arrived>,
}

impl Sources {
    /// A registry with what is so now.
    pub(super) fn registry(&self) -> Result<Registry, Error> {
        let sample = Sample(Registry::new());
        self.process(&sample)?;
        self.line(&sample)?;
        collectors(&sample, &self.collectors.list())?;
        rules(&sample, self.detection.rules())?;
        Ok(sample.0)
    }

    fn process(&self, sample: &Sample) -> Result<(), Error> {
        let usage = Usage::of_this_process();
        if let Some(bytes) = usage.resident_bytes {
            sample.gauge("process_resident_memory_bytes", "Resident memory of the agent.", bytes as f64)?;
        }
        let cpu = sample.counters("process_cpu_seconds_total", "Processor time that the agent has used.", &[])?;
        cpu.with_label_values::<&str>(&[]).inc_by(usage.cpu_time.as_secs_f64());
        let started = self.started as f64 / 1e9;
        sample.gauge("process_start_time_seconds", "When the agent was started, since 1970-01-01 UTC.", started)?;
        let build = sample.gauges("daemoneye_build_info", "1, with the version as label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(())
    }

    fn line(&self, sample: &Sample) -> Result<(), Error> {
        let connected = self.gate.connected().borrow().len();
        sample.gauge("daemoneye_bus_connections", "Connections through the socket.", connected as f64)?;
        let help = "Connections that were refused or cut off.";
        let refused = sample.int_counters("daemoneye_bus_connections_refused_total", help, &[])?;
        refused.with_label_values::<&str>(&[]).inc_by(self.gate.refused());
        if let Some(queue) = self.queue.upgrade() {
            let waiting = queue.max_capacity() - queue.capacity();
            sample.gauge("daemoneye_pipeline_queue_batches", "Batches that wait for the store.", waiting as f64)?;
            let limit = queue.max_capacity() as f64;
            sample.gauge("daemoneye_pipeline_queue_limit_batches", "The most batches that may wait.", limit)?;
        }
        let space = crate::space::of(&self.store);
        if let Some(bytes) = space.file_bytes {
            sample.gauge("daemoneye_store_bytes", "The size of the event store's file.", bytes as f64)?;
        }
        if let Some(bytes) = space.free_bytes {
            sample.gauge("daemoneye_store_free_bytes", "Room on the store's file system.", bytes as f64)?;
        }
        Ok(())
    }
}

fn collectors(sample: &Sample, known: &[Known]) -> Result<(), Error> {
    const LABEL: &[&str] = &["collector"];
    let gauges = |name: &str, help: &str| sample.float_gauges(name, help, LABEL);
    let counters = |name: &str, help: &str| sample.int_counters(name, help, LABEL);
    let attached = gauges("daemoneye_collector_attached", "1 while the collector is connected, else 0.")?;
    let restarts =
        counters("daemoneye_collector_restarts_total", "How often this agent has started the collector again.")?;
    let interval =
        gauges("daemoneye_collector_scan_interval_seconds", "The interval between two scans that is in force.")?;
    let spool_items =
        gauges("daemoneye_collector_spool_items", "Items in the collector's spool that are not acknowledged.")?;
    let spool_bytes = gauges("daemoneye_collector_spool_bytes", "The size of the collector's spool.")?;
    let spool_limit = gauges("daemoneye_collector_spool_limit_bytes", "The bound on the collector's spool.")?;
    let queue = gauges("daemoneye_collector_queue_items", "Items between the collector's source and its spool.")?;
    let queue_limit = gauges("daemoneye_collector_queue_limit_items", "The most items that may wait there.")?;
    let memory = gauges("daemoneye_collector_resident_memory_bytes", "Resident memory of the collector.")?;
    let cpu = sample.counters(
        "daemoneye_collector_cpu_seconds_total",
        "Processor time that the collector has used.",
        LABEL,
    )?;
    let emitted = counters("daemoneye_collector_items_emitted_total", "Items that the collector's source has told.")?;
    let published = counters("daemoneye_collector_batches_published_total", "Batches that the collector has sent.")?;
    let dropped =
        counters("daemoneye_collector_items_dropped_total", "Items that the collector's spool had to give up.")?;
    for Known { row, attached: is_attached, status, .. } in known {
        let label = &[row.collector.as_str()];
        attached.with_label_values(label).set(f64::from(u8::from(*is_attached)));
        restarts.with_label_values(label).inc_by(row.restarts);
        let Some(status) = status else { continue };
        if status.scan_interval_ms > 0 {
            interval.with_label_values(label).set(status.scan_interval_ms as f64 / 1e3);
        }
        spool_items.with_label_values(label).set(status.spool_items as f64);
        spool_bytes.with_label_values(label).set(status.spool_bytes as f64);
        spool_limit.with_label_values(label).set(status.spool_limit_bytes as f64);
        let Some(own) = &status.telemetry else { continue };
        queue.with_label_values(label).set(own.queue_items as f64);
        queue_limit.with_label_values(label).set(own.queue_limit_items as f64);
        if own.resident_bytes > 0 {
            memory.with_label_values(label).set(own.resident_bytes as f64);
        }
        cpu.with_label_values(label).inc_by(own.cpu_time_ns as f64 / 1e9);
        emitted.with_label_values(label).inc_by(own.items_emitted);
        published.with_label_values(label).inc_by(own.batches_published);
        dropped.with_label_values(label).inc_by(own.items_dropped);
    }
    Ok(())
}

fn rules(sample: &Sample, mut rules: Vec<RuleRow>) -> Result<(), Error> {
    let states = sample.gauges("daemoneye_rules", "Rules, by what became of them.", &["state"])?;
    for state in ["healthy", "unhealthy", "suspended", "disabled", "refused"] {
        states.with_label_values(&[state]).set(0);
    }
    const LABEL: &[&str] = &["rule"];
    let evaluations = sample.int_counters("daemoneye_rule_evaluations_total", "Evaluations of the rule.", LABEL)?;
    let seconds = sample.counters(
        "daemoneye_rule_seconds_total",
        "Time that the rule's evaluations have taken together.",
        LABEL,
    )?;
    let matches = sample.int_counters("daemoneye_rule_matches_total", "Rows that the rule has matched.", LABEL)?;
    let failed =
        sample.int_counters("daemoneye_rule_failed_rows_total", "Rows over which it could not be evaluated.", LABEL)?;
    rules.sort_by(|a, b| a.rule_id.cmp(&b.rule_id));
    let mut named = 0;
    for rule in &rules {
        states.with_label_values(&[rule.state.as_str()]).inc();
        // One that is refused has no id that is known to be one, and has done nothing.
        if rule.state == "refused" {
            continue;
        }
        named += 1;
        let label = &[if named > MAX_RULES { "other" } else { rule.rule_id.as_str() }];
        evaluations.with_label_values(label).inc_by(rule.evaluations);
        seconds.with_label_values(label).inc_by(rule.cost_ns as f64 / 1e9);
        matches.with_label_values(label).inc_by(rule.matches);
        failed.with_label_values(label).inc_by(rule.failed_rows);
    }
    Ok(())
}

/// A registry for one answer.
struct Sample(Registry);

impl Sample {
    fn keep<C: Collector + Clone + 'static>(&self, made: C) -> Result<C, Error> {
        self.0.register(Box::new(made.clone())).map(|()| made)
    }

    fn gauge(&self, name: &str, help: &str, value: f64) -> Result<(), Error> {
        self.keep(Gauge::new(name, help)?)?.set(value);
        Ok(())
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, Error> {
        self.keep(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<CounterVec, Error> {
        self.keep(CounterVec::new(Opts::new(name, help), labels)?)
    }

    fn int_counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }
}
