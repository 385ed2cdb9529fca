//! Standing rules over events: ours beside the naive way, SQLite with the rules as queries, and `rsigma`, on the same rules and
//! events.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a measurement that cannot be made ends with its reason"
)]

mod made;
mod sqlite;

use bench::Host;
use clap::Parser;
use daemoneye_lib::detection::Cost;
use daemoneye_lib::detection::engine::{CompiledRule, event_batch};
use daemoneye_lib::detection::rules::load_dir;
use daemoneye_lib::detection::standing::DetectionEngine;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::event::IdentifiedEvent;
use daemoneye_lib::proto::common::{EventType, ProcessRecord};
use daemoneye_lib::sigma::{Made, Options, compile};
use made::{Random, Rule};
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

#[derive(Parser)]
struct Arguments {
    /// `cargo bench` gives it
    #[arg(long, hide = true)]
    bench: bool,
    /// So many rules each time
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,3000")]
    rules: Vec<usize>,
    /// Events that are shown to them
    #[arg(long, default_value_t = 50_000)]
    events: usize,
    /// Everything is measured so often, in turns; the least counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The program of `sigma-oracle`, built for release; without it rsigma is left out
    #[arg(long)]
    rsigma: Option<PathBuf>,
}

/// Events of a batch, as the agent commits them under load.
const BATCH: usize = 1_024;
/// One event in so many is what a rule looks for.
const SUSPICIOUS: usize = 500;
/// The slow ways are shown so many rows times rules at most; what they cost an event does not depend on it.
const PATIENCE: usize = 4_000_000;

/// What a way took, for how many events, and how often a rule matched.
struct Run {
    seconds: f64,
    events: usize,
    matches: u64,
}

impl Run {
    fn rate(&self) -> f64 {
        self.events as f64 / self.seconds
    }
}

fn main() {
    let arguments = Arguments::parse();
    println!(
        "| rules | compiled in | DaemonEye | each rule over each batch | SQLite | rsigma | rsigma, its options for many rules |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for count in &arguments.rules {
        let rules = made::rules(*count);
        let events = events(arguments.events, &rules);
        let directory = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let engine = engine(&rules, directory.path());
        let compiled = began.elapsed();
        let few = (PATIENCE / count).clamp(BATCH, events.len()).min(events.len());
        let mut best: [Option<Run>; 5] = Default::default();
        for _ in 0..arguments.rounds {
            let runs = [
                Some(ours(&engine, &events)),
                Some(naive(&engine.rules(), &events[..few])),
                Some(sqlite::run(&rules, &events[..few])),
                arguments.rsigma.as_deref().map(|program| rsigma(program, &rules, &events, directory.path(), false)),
                arguments.rsigma.as_deref().map(|program| rsigma(program, &rules, &events, directory.path(), true)),
            ];
            for (best, run) in best.iter_mut().zip(runs) {
                if let Some(run) = run
                    && best.as_ref().is_none_or(|best| run.seconds < best.seconds)
                {
                    *best = Some(run);
                }
            }
        }
        let of_few = ours(&engine, &events[..few]).matches;
        let [ours, naive, sqlite, rsigma, rsigma_many] = &best;
        for (way, own) in [(naive, of_few), (sqlite, of_few), (rsigma, matches(ours)), (rsigma_many, matches(ours))] {
            assert!(way.is_none() || matches(way) == own, "the ways do not agree: {} and {own}", matches(way));
        }
        let rate =
            |run: &Option<Run>| run.as_ref().map_or("not measured".to_owned(), |run| format!("{:.0}", run.rate()));
        let rates: Vec<_> = [ours, naive, sqlite, rsigma, rsigma_many].into_iter().map(rate).collect();
        println!("| {count} | {:.1} s | {} |", compiled.as_secs_f64(), rates.join(" | "));
    }
}

fn matches(run: &Option<Run>) -> u64 {
    run.as_ref().map_or(0, |run| run.matches)
}

/// Starts of programs on a busy host, some of which rules look for.
fn events(count: usize, rules: &[Rule]) -> Vec<IdentifiedEvent> {
    let mut host = Host::new(1_767_225_600_000_000_000, 1_000_000);
    let mut random = Random::new(7);
    let mut events = Vec::with_capacity(count);
    while events.len() < count {
        let mut event = host.event();
        event.event_type = EventType::Exec.into();
        let record = event.process.get_or_insert_default();
        record.parent_executable_path.get_or_insert_with(|| "/usr/bin/bash".to_owned());
        if events.len() % SUSPICIOUS == SUSPICIOUS - 1 {
            rules[random.below(rules.len())].satisfy(record);
        }
        let event_id = format!("e-{}", events.len());
        events.push(IdentifiedEvent { event_id, event: event.into() });
    }
    events
}

fn engine(rules: &[Rule], directory: &Path) -> DetectionEngine {
    for rule in rules {
        let outcome = compile(&rule.yaml(), &Options::default()).remove(0);
        let Ok(Made::Rule(compiled)) = outcome.made else { panic!("{outcome:?}: {}", rule.yaml()) };
        std::fs::write(directory.join(format!("{}.toml", compiled.id)), compiled.text).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let loaded = runtime.block_on(load_dir(directory)).unwrap();
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    DetectionEngine::new(loaded)
}

fn ours(engine: &DetectionEngine, events: &[IdentifiedEvent]) -> Run {
    let cost = Cost::start();
    let matches = events.chunks(BATCH).map(|batch| engine.execute_rules(batch, &[]).found.len() as u64).sum();
    Run { seconds: cost.so_far().as_secs_f64(), events: events.len(), matches }
}

/// Each rule by itself over all rows of each batch, the columns shared.
fn naive(rules: &[Arc<CompiledRule>], events: &[IdentifiedEvent]) -> Run {
    let (cost, mut matches) = (Cost::start(), 0);
    for batch in events.chunks(BATCH) {
        let rows = event_batch(Table::ProcessEvents, batch).unwrap();
        matches += rules.iter().map(|rule| rule.evaluate_each(&rows).matches.len() as u64).sum::<u64>();
    }
    Run { seconds: cost.so_far().as_secs_f64(), events: events.len(), matches }
}

/// The program reads both, and says what evaluating alone has cost it.
fn rsigma(program: &Path, rules: &[Rule], events: &[IdentifiedEvent], directory: &Path, many: bool) -> Run {
    let (rules_file, events_file) = (directory.join("rules.yml"), directory.join("events.jsonl"));
    if !events_file.exists() {
        let yaml: Vec<_> = rules.iter().map(Rule::yaml).collect();
        std::fs::write(&rules_file, yaml.join("---\n")).unwrap();
        let mut file = std::io::BufWriter::new(std::fs::File::create(&events_file).unwrap());
        let none = ProcessRecord::default();
        for event in events {
            let record = event.event.process().unwrap_or(&none);
            let fields = json!({
                "Image": record.executable_path,
                "CommandLine": record.command_line,
                "ParentImage": record.parent_executable_path,
                "User": record.user,
                "CurrentDirectory": record.cwd,
            });
            writeln!(file, "{fields}").unwrap();
        }
        file.flush().unwrap();
    }
    let mut command = Command::new(program);
    command.arg("measure").arg(rules_file).arg(events_file).args(many.then_some("many"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    Run { seconds: said["seconds"].as_f64().unwrap(), events: events.len(), matches: said["matches"].as_u64().unwrap() }
}
