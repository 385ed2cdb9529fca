//! Sigma rules on the way that events go: imported, taken by the agent, shown what a collector tells, read back as alerts.

use crate::support::{PATIENCE, ask, number, rows, text};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs;
use testkit::{Monitor, Site, binary, require, wait_for};

/// The columns of the fields that the labelled events have.
const COLUMNS: [(&str, &str); 7] = [
    ("Image", "executable_path"),
    ("CommandLine", "command_line"),
    ("ParentImage", "parent_executable_path"),
    ("ParentCommandLine", "parent_command_line"),
    ("User", "user"),
    ("CurrentDirectory", "cwd"),
    ("LogonId", "loginuid"),
];

/// The event as a collector tells it: a process of its own.
fn told(event: &Map<String, Value>, pid: usize) -> Value {
    let mut row = Map::from_iter([("pid".to_owned(), json!(pid)), ("event_type".to_owned(), json!("exec"))]);
    for (field, value) in event {
        let (_, column) = COLUMNS.iter().find(|(own, _)| own == field).unwrap();
        let value = match (*column, value.as_str()) {
            ("loginuid", Some(number)) => number.parse::<u32>().map_or(Value::Null, Value::from),
            _ => value.clone(),
        };
        row.insert((*column).to_owned(), value);
    }
    Value::Object(row)
}

#[test]
fn what_is_expected_of_sigma_rules_is_what_alerts_say() {
    let corpus = testkit::corpus().map(|corpus| corpus.join("sigma")).filter(|path| path.is_dir());
    if !require("corpus", corpus.is_some(), "there is no directory of Sigma rules") {
        return;
    }
    let corpus = corpus.unwrap();
    let labelled: Vec<Value> = fs::read_to_string(corpus.join("events.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let site = Site::new().unwrap();
    let events: String = labelled
        .iter()
        .enumerate()
        .map(|(pid, line)| format!("{}\n", told(line["event"].as_object().unwrap(), pid + 1)))
        .collect();
    let recorded = site.root().join("events.jsonl");
    fs::write(&recorded, events).unwrap();
    let rules = corpus.join("rules");
    let import = ["rules", "import", "sigma", rules.to_str().unwrap(), "-o", site.rules_dir().to_str().unwrap()];
    let imported = site.cli(&import).unwrap();
    assert_eq!(imported.status, 0, "{imported:?}");
    let command = format!("[{:?}, {:?}]", binary("daemoneye-replay").to_string_lossy(), recorded.to_string_lossy());
    let config = format!("[collectors.procmond]\nenabled = false\n[collectors.replay]\ncommand = {command}\n");
    let mut monitor = Monitor::start(site.with_config(&config).unwrap().in_test_mode()).unwrap();
    let site = monitor.site();
    let healthy = ask(site, &["rules", "list"]).rows;
    assert!(healthy.len() > 90 && healthy.iter().all(|row| text(row, "state") == "healthy"), "{healthy:?}");

    let label = |line: &Value| line["expected"].as_bool().unwrap();
    let expected: BTreeSet<(String, u64)> = (1..)
        .zip(&labelled)
        .filter(|(_, line)| label(line))
        .map(|(pid, line)| (text(line, "rule_id").to_owned(), pid))
        .collect();
    let evaluated = "SELECT count(*) FROM detection.rules WHERE rows < ";
    let all = labelled.len();
    wait_for("the events", PATIENCE, || number(site, &format!("{evaluated}{all}")) == 0);
    let raised: BTreeSet<(String, u64)> = rows(site, "SELECT rule_id, pid FROM alerts")
        .iter()
        .map(|row| (text(row, "rule_id").to_owned(), row["pid"].as_u64().unwrap()))
        .collect();
    // An event is about one rule; what others say of it is not labelled.
    let about = |pair: &&(String, u64)| {
        let line = &labelled[usize::try_from(pair.1).unwrap() - 1];
        text(line, "rule_id") == pair.0
    };
    let wrong: Vec<_> = raised
        .iter()
        .filter(about)
        .collect::<BTreeSet<_>>()
        .symmetric_difference(&expected.iter().collect())
        .copied()
        .collect();
    assert!(wrong.is_empty(), "{} of {all} verdicts differ: {wrong:?}", wrong.len());
    let author = rows(site, "SELECT author, \"references\", false_positives FROM alerts WHERE author <> '' LIMIT 1");
    assert!(text(&author[0], "author").len() > 2 && author[0]["references"].is_array(), "{author:?}");
    monitor.stop().unwrap();
}
