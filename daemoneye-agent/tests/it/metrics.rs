//! What the agent counts: any scraper can read it, the manual lists it, and it counts what happened.

use crate::support::{PATIENCE, Sleeper, alerts_on, hidden_sleep, number, query, scans_go_by, site};
use std::collections::{BTreeMap, BTreeSet};
use testkit::{Monitor, Site, wait_for};

const MANUAL: &str = include_str!("../../../docs/metrics.md");

/// Samples by series, `name{labels}`; families by name, each with its type and its labels.
#[derive(Default)]
struct Metrics {
    samples: BTreeMap<String, f64>,
    families: BTreeMap<String, (String, BTreeSet<String>)>,
}

impl Metrics {
    fn of(site: &Site) -> Self {
        let output = site.cli(&["metrics"]).unwrap();
        assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
        read(&output.stdout)
    }

    /// The value of a series; 0 where it is not there.
    fn value(&self, series: &str) -> f64 {
        self.samples.get(series).copied().unwrap_or_default()
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Reads the text format as its specification has it, and refuses what a lenient reader would take.
fn read(text: &str) -> Metrics {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut metrics = Metrics::default();
    let mut family = String::new();
    let mut help = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, words) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && words.ends_with('.'), "{line}");
            help = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, help, "TYPE follows HELP: {line}");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(name.starts_with("daemoneye_") || name.starts_with("process_"), "{line}");
            let new = metrics.families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
            assert!(new.is_none(), "a family twice: {line}");
            name.clone_into(&mut family);
        } else {
            sample(line, &family, &mut metrics);
        }
    }
    histograms(&metrics);
    metrics
}

fn sample(line: &str, family: &str, metrics: &mut Metrics) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
    let name = series.split('{').next().unwrap();
    let (kind, labels) = metrics.families.get_mut(family).unwrap_or_else(|| panic!("no TYPE before {line}"));
    let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} stands below {family}"));
    let good = if kind == "histogram" { ["_bucket", "_sum", "_count"].contains(&suffix) } else { suffix.is_empty() };
    assert!(good, "{line}");
    if let Some(pairs) = series.strip_prefix(name).unwrap().strip_prefix('{') {
        for pair in pairs.strip_suffix('}').unwrap().split("\",") {
            let (label, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(label) && !value.trim_end_matches('"').contains(['"', '\n', '\\']), "{line}");
            labels.insert(label.to_owned());
        }
    }
    let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
    assert!(kind == "gauge" || value >= 0.0, "{line}");
    assert!(metrics.samples.insert(series.to_owned(), value).is_none(), "a series twice: {line}");
}

/// The buckets of a histogram are cumulative, and the last holds everything.
fn histograms(metrics: &Metrics) {
    for (name, (kind, _)) in &metrics.families {
        if kind != "histogram" {
            continue;
        }
        let counts = metrics.samples.iter().filter(|(series, _)| series.starts_with(&format!("{name}_count")));
        for (series, count) in counts {
            let labels = series.strip_prefix(&format!("{name}_count")).unwrap();
            let inner = labels.trim_start_matches('{').trim_end_matches('}');
            let of_this = |bucket: &&String| {
                bucket.starts_with(&format!("{name}_bucket{{")) && (inner.is_empty() || bucket.contains(inner))
            };
            let mut buckets: Vec<(f64, f64)> = Vec::new();
            for bucket in metrics.samples.keys().filter(of_this) {
                let le = bucket.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
                let le = if le == "+Inf" { f64::INFINITY } else { le.parse().unwrap() };
                buckets.push((le, metrics.samples[bucket]));
            }
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{series}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{series}");
        }
    }
}

/// The families that the manual lists, as it lists them.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells.first()?.strip_prefix('`')?.strip_suffix('`')?;
        let labels = cells[2].split(", ").filter(|label| !label.is_empty()).map(|label| label.replace('`', ""));
        Some((name.to_owned(), (cells[1].to_owned(), labels.collect())))
    };
    MANUAL.lines().filter(|line| line.starts_with("| `")).filter_map(row).collect()
}

#[test]
fn what_happens_on_the_line_is_counted_and_everything_that_is_shown_is_documented() {
    let monitor = Monitor::start(site()).unwrap();
    let site = monitor.site();
    let (_dir, program) = hidden_sleep();
    let sleeper = Sleeper::of(&program);
    wait_for("an alert", PATIENCE, || !alerts_on(site, &program).is_empty());
    wait_for("its delivery", PATIENCE, || {
        Metrics::of(site).value("daemoneye_deliveries_total{result=\"delivered\",sink=\"log\"}") >= 1.0
    });
    wait_for("procmond's own word", PATIENCE, || {
        Metrics::of(site).value("daemoneye_collector_scan_interval_seconds{collector=\"procmond\"}") > 0.0
    });
    assert_eq!(site.cli(&["query", "SELECT nothing FROM nowhere"]).unwrap().status, 5);

    let stored = |metrics: &Metrics| metrics.value("daemoneye_events_stored_total{collector=\"procmond\"}");
    let before = stored(&Metrics::of(site));
    let events = number(site, "SELECT count(*) FROM processes.events");
    let metrics = Metrics::of(site);
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let events = events as f64;
    assert!(before <= events && events <= stored(&metrics), "{before} <= {events} <= {}", stored(&metrics));

    for (series, at_least) in [
        ("daemoneye_alerts_raised_total{severity=\"high\"}", 1.0),
        ("daemoneye_batches_received_total{collector=\"procmond\"}", 1.0),
        ("daemoneye_collector_attached{collector=\"procmond\"}", 1.0),
        ("daemoneye_collector_items_emitted_total{collector=\"procmond\"}", 1.0),
        ("daemoneye_collector_resident_memory_bytes{collector=\"procmond\"}", 1e6),
        ("daemoneye_collector_scan_interval_seconds{collector=\"procmond\"}", 0.2),
        ("daemoneye_commit_seconds_count", 1.0),
        ("daemoneye_delivery_seconds_count{sink=\"log\"}", 1.0),
        ("daemoneye_evaluation_seconds_count", 1.0),
        ("daemoneye_gaps_total{collector=\"procmond\",kind=\"polling\"}", 1.0),
        ("daemoneye_pipeline_queue_limit_batches", 1.0),
        ("daemoneye_queries_total{result=\"degraded\"}", 1.0),
        ("daemoneye_queries_total{result=\"refused\"}", 1.0),
        ("daemoneye_query_seconds_count", 2.0),
        ("daemoneye_rule_matches_total{rule=\"linux-hidden-executable-in-temp\"}", 1.0),
        ("daemoneye_rules{state=\"healthy\"}", 1.0),
        ("daemoneye_scan_seconds_count{collector=\"procmond\"}", 1.0),
        ("daemoneye_store_bytes", 1e4),
        ("daemoneye_store_free_bytes", 1.0),
        ("process_cpu_seconds_total", 0.001),
        ("process_resident_memory_bytes", 1e7),
        ("process_start_time_seconds", 1.7e9),
    ] {
        let value = metrics.samples.get(series).unwrap_or_else(|| panic!("{series} is not there"));
        assert!(*value >= at_least, "{series} is {value}");
    }
    assert_eq!(metrics.value("daemoneye_build_info{version=\"0.1.0\"}"), 1.0);

    let mut shown = metrics.families;
    for (_, labels) in shown.values_mut() {
        labels.remove("le");
    }
    assert_eq!(shown, documented(), "docs/metrics.md against what the agent shows");
    drop(sleeper);
}

#[test]
fn counters_only_grow_and_the_formats_for_programs_say_the_same() {
    let monitor = Monitor::start(site()).unwrap();
    let first = Metrics::of(monitor.site());
    scans_go_by(&monitor, 1);
    query(monitor.site(), "SELECT 1");
    let second = Metrics::of(monitor.site());
    let counters = first.families.iter().filter(|(_, (kind, _))| kind == "counter").map(|(name, _)| name);
    for name in counters {
        for (series, before) in first.samples.iter().filter(|(series, _)| series.split('{').next() == Some(name)) {
            assert!(second.value(series) >= *before, "{series} fell from {before}");
        }
    }
    let scans = "daemoneye_scans_total{collector=\"procmond\"}";
    assert!(second.value(scans) > first.value(scans));
    let rows = monitor.rows(&["metrics"]).unwrap();
    let row = rows.iter().find(|row| row["metric"] == "daemoneye_scans_total").unwrap();
    assert_eq!(row["labels"], "collector=\"procmond\"");
    assert!(row["value"].as_f64().unwrap() >= second.value(scans));
}

#[test]
fn a_collector_that_is_told_so_keeps_its_telemetry_to_itself() {
    let place = site()
        .with_variable("PROCMOND_COLLECTOR_ENABLE_TELEMETRY", "0")
        .with_variable("PROCMOND_COLLECTOR_EVENT_BUFFER_SIZE", "16");
    let monitor = Monitor::start(place).unwrap();
    let interval = "daemoneye_collector_scan_interval_seconds{collector=\"procmond\"}";
    let metrics = wait_for("its state", PATIENCE, || {
        let metrics = Metrics::of(monitor.site());
        (metrics.value(interval) > 0.0).then_some(metrics)
    });
    for family in ["resident_memory_bytes", "items_emitted_total", "queue_limit_items"] {
        let series = format!("daemoneye_collector_{family}{{collector=\"procmond\"}}");
        assert!(!metrics.samples.contains_key(&series), "{series}");
    }
}

#[test]
fn the_buffer_of_a_collector_is_what_the_operator_says() {
    let place = site().with_variable("PROCMOND_COLLECTOR_EVENT_BUFFER_SIZE", "16");
    let monitor = Monitor::start(place).unwrap();
    wait_for("its state", PATIENCE, || {
        Metrics::of(monitor.site()).value("daemoneye_collector_queue_limit_items{collector=\"procmond\"}") == 16.0
    });
    scans_go_by(&monitor, 2);
}
