//! Sigma rules through the real program: imported, tried on events, compared with what is expected of them.

use crate::{Ran, cli, short_dir};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Real rules and labelled events, beside the workspace where they are at hand.
fn corpus() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/sigma");
    testkit::require("../shared/corpus/sigma", path.is_dir(), "the corpus of Sigma rules").then_some(path)
}

fn import(home: &Path, from: &Path) -> Ran {
    let to = home.join("rules");
    cli(
        home,
        &[
            "--format".as_ref(),
            "jsonl".as_ref(),
            "rules".as_ref(),
            "import".as_ref(),
            "sigma".as_ref(),
            from.as_os_str(),
            "-o".as_ref(),
            to.as_os_str(),
        ],
    )
}

/// The pairs of rule and event that match.
fn matches(home: &Path, events: &str) -> BTreeSet<(String, String)> {
    let file = home.join("events.jsonl");
    fs::write(&file, events).unwrap();
    let arguments =
        ["rules", "test", "--rules", "rules", "--events", "events.jsonl", "--map", "sigma", "--format", "jsonl"];
    let (out, err, code) = cli(home, &arguments);
    assert_eq!(code, 0, "{err}");
    let pair = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["rule_id"].as_str().unwrap().to_owned(), line["event_id"].as_str().unwrap().to_owned())
    };
    let all: Vec<_> = out.lines().map(pair).collect();
    let each: BTreeSet<_> = all.iter().cloned().collect();
    assert_eq!(all.len(), each.len(), "a match is told once");
    each
}

#[test]
fn not_one_verdict_on_the_corpus_differs() {
    let Some(corpus) = corpus() else { return };
    let home = short_dir();
    let (out, err, code) = import(home.path(), &corpus.join("rules"));
    assert_eq!(code, 0, "{err}");
    let rules = fs::read_dir(corpus.join("rules")).unwrap().count();
    assert_eq!(out.matches("\"status\":\"imported\"").count(), rules, "{out}");

    let labelled = fs::read_to_string(corpus.join("events.jsonl")).unwrap();
    let (mut events, mut expected) = (String::new(), BTreeMap::new());
    for (index, line) in labelled.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let mut event = line["event"].clone();
        let id = format!("e-{index}");
        event["event_id"] = json!(id);
        events.push_str(&format!("{event}\n"));
        let rule = line["rule_id"].as_str().unwrap().to_owned();
        expected.insert((rule, id), (line["expected"].as_bool().unwrap(), line["kind"].clone()));
    }
    let matched = matches(home.path(), &events);
    let wrong: Vec<_> = expected.iter().filter(|(pair, (wanted, _))| matched.contains(pair) != *wanted).collect();
    assert!(wrong.is_empty(), "{} of {} verdicts differ: {wrong:#?}", wrong.len(), expected.len());
    assert!(expected.len() > 2_000 && matched.len() > 500);
}
