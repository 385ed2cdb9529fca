//! Sigma rules as they run: compiled, loaded as the agent loads rules, and shown events.

mod correlations;
mod hostile;
mod meaning;
mod oracle;

use crate::fixture::runtime;
use daemoneye_lib::alerting::replay;
use daemoneye_lib::detection::engine::CompiledRule;
use daemoneye_lib::detection::rules::Loader;
use daemoneye_lib::models::event::IdentifiedEvent;
use daemoneye_lib::models::jsonl::Recording;
use daemoneye_lib::sigma::{Compiled, Made, Options, Outcome, compile, events};
use serde_json::Value as Json;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;

const LISTS: &str = "admins = [\"root\", \"Ana\"]\nempty = []\n";

/// Compiles rules and shows events to them.
struct Judge {
    runtime: Runtime,
    loader: Loader,
}

impl Judge {
    fn new() -> Self {
        Self { runtime: runtime(), loader: Loader::new(LISTS).unwrap() }
    }

    /// The rule as the agent has it.
    fn load(&self, compiled: &Compiled) -> Result<Arc<CompiledRule>, String> {
        let loaded = self.runtime.block_on(self.loader.load(Path::new("r.toml"), &compiled.text));
        loaded.map_err(|problem| problem.to_string())
    }

    /// Which of the events the one rule of the text matches.
    fn verdicts(&self, rule: &str, events: &[Json]) -> Result<Vec<bool>, String> {
        let rule = self.load(&only(rule)?)?;
        let events = recorded(events);
        let mut matched = vec![false; events.len()];
        let failed = replay::standing(std::slice::from_ref(&rule), &events, |_, found| {
            matched[found.event_id.parse::<usize>().unwrap()] = true;
        });
        assert_eq!(failed, []);
        Ok(matched)
    }

    /// The numbers of the events with which the last rule of the text, which looks back, matches.
    fn completed(&self, rules: &str, events: &[Json]) -> Result<Vec<usize>, String> {
        let last = compile(rules, &Options::default()).pop().unwrap();
        let rule = self.load(&made(last)?)?;
        let (mut found, events) = (Vec::new(), recorded(events).into());
        let ran = replay::scheduled(&rule, &events, |_, matched| {
            found.push(matched.event_id.parse().unwrap());
        });
        self.runtime.block_on(ran).map_err(|(_, why)| why)?;
        found.sort_unstable();
        Ok(found)
    }
}

fn made(outcome: Outcome) -> Result<Compiled, String> {
    match outcome.made {
        Ok(Made::Rule(compiled)) => Ok(compiled),
        Ok(Made::Part(of)) => Err(format!("part of {of}")),
        Err(problem) => Err(problem.to_string()),
    }
}

/// The one rule of a text.
fn only(rule: &str) -> Result<Compiled, String> {
    let mut outcomes = compile(rule, &Options::default());
    assert_eq!(outcomes.len(), 1, "{rule}");
    made(outcomes.remove(0))
}

/// Events in Sigma's fields, called by their numbers.
fn recorded(all: &[Json]) -> Vec<IdentifiedEvent> {
    let mut recording = Recording::default();
    let read = all.iter().enumerate().map(|(index, event)| {
        let row = events::columns(event.as_object().unwrap().clone()).unwrap();
        IdentifiedEvent { event_id: index.to_string(), event: recording.event_of(row, index + 1).unwrap() }
    });
    read.collect()
}

/// A rule whose one selection has these lines.
fn rule(category: &str, selection: &str) -> String {
    let selection = selection.replace('\n', "\n    ");
    format!(
        "title: T\nid: 00000000-0000-4000-8000-000000000000\nlogsource:\n  category: {category}\n  product: windows\n\
         detection:\n  selection:\n    {selection}\n  condition: selection\nlevel: low\n"
    )
}
