//! Sigma rules through the real program: imported, tried on events, compared with what is expected of them.

use crate::{Ran, cli, short_dir};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Real rules and labelled events.
fn corpus() -> Option<PathBuf> {
    let path = testkit::corpus().map(|corpus| corpus.join("sigma")).filter(|path| path.is_dir());
    testkit::require("corpus", path.is_some(), "there is no directory of Sigma rules").then_some(path?)
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

const RULE: &str = "title: Shell\nid: 11111111-1111-4111-8111-111111111111\nauthor: Ana\nlogsource: {category: process_creation}\n\
                    detection: {s: {Image|endswith: /sh}, condition: s}\nlevel: high\n";

/// What is in a directory, with the contents of the files.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let read =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap());
    entries.map(read).collect()
}

#[test]
fn nothing_is_overwritten_unless_it_is_asked_for() {
    let home = short_dir();
    fs::create_dir(home.path().join("in")).unwrap();
    let sigma = home.path().join("in/shell.yml");
    fs::write(&sigma, RULE).unwrap();
    let run = |more: &[&str]| {
        let arguments = [&["rules", "import", "sigma", "in", "-o", "out/rules"], more].concat();
        let (out, err, code) = cli(home.path(), &arguments);
        (out, err, code, files(&home.path().join("out/rules")))
    };
    let (out, err, code, first) = run(&["--license", "DRL 1.1"]);
    assert!(out.contains("11111111-1111-4111-8111-111111111111  imported  Shell"), "{out}");
    assert_eq!(
        (err.as_str(), code),
        ("1 imported, 0 replaced, 0 unchanged, 0 parts of correlations, 0 refused: out/rules\n", 0)
    );
    let text = &first["11111111-1111-4111-8111-111111111111.toml"];
    assert!(
        first.len() == 1 && text.contains("license = \"DRL 1.1\"\n") && text.contains("author = \"Ana\"\n"),
        "{first:?}"
    );
    let (out, _, code, again) = run(&["--license", "DRL 1.1"]);
    assert!(out.contains("unchanged") && code == 0 && again == first, "{out}");
    let (_, err, code, kept) = run(&[]);
    assert!(err.contains("is there already, and differs\nhint: --force replaces it\n"), "{err}");
    assert!(code == 5 && kept == first);
    let (out, _, code, replaced) = run(&["--force"]);
    assert!(out.contains("replaced") && code == 0 && replaced.len() == 1 && replaced != first, "{out}");
}

#[test]
fn what_is_refused_is_named_and_the_rest_is_written() {
    let home = short_dir();
    let input = home.path().join("in/deep");
    fs::create_dir_all(&input).unwrap();
    for (name, text) in [
        ("a.yml", RULE.to_owned()),
        ("b.yaml", RULE.replace("1111", "2222").replace("Image", "Imgae")),
        ("c.yml", RULE.replace("Shell", "Again")),
        ("d.yml", format!("{}---\n{}", RULE.replace("1111", "3333"), RULE.replace("1111", "4444"))),
        ("e.yml", "a: [\u{1b}[2J\n".to_owned()),
        ("f\u{1b}[31m.yml", "title: \"\\e]0;x\\a\"\nid: x\n".to_owned()),
        ("no.txt", "no rule".to_owned()),
        (".hidden.yml", "no rule".to_owned()),
    ] {
        fs::write(input.join(name), text).unwrap();
    }
    fs::write(input.join("g.yml"), b"title: \xff\n").unwrap();
    let arguments = ["rules", "import", "sigma", "in", "-o", "out"];
    let (out, err, code) = cli(home.path(), &arguments);
    assert_eq!(code, 5, "{err}");
    assert_eq!(files(&home.path().join("out")).len(), 3, "{out}");
    for why in [
        "in/deep/b.yaml:5:33: the field `Imgae` is not known here (selection `s`)\nhint: did you mean `Image`?",
        "in/deep/c.yml: its id is that of the rule in in/deep/a.yml",
        "in/deep/e.yml:",
        "in/deep/f\\u{1b}[31m.yml:",
        "in/deep/g.yml: cannot be read",
        "3 imported, 0 replaced, 0 unchanged, 0 parts of correlations, 5 refused: out",
    ] {
        assert!(err.contains(why), "{why}: {err}");
    }
    assert!(!out.contains('\u{1b}') && !err.contains('\u{1b}'), "{out}{err}");
    let (out, _, code) = cli(home.path(), &[&["--format", "jsonl"], &arguments[..]].concat());
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refused = rows.iter().find(|row| row["file"] == "in/deep/b.yaml").unwrap();
    assert_eq!(
        (&refused["status"], &refused["line"], &refused["hint"]),
        (&json!("refused"), &json!(5), &json!("did you mean `Image`?"))
    );
    assert_eq!((rows.iter().filter(|row| row["status"] == "unchanged").count(), code), (3, 5));
    let (_, err, code) = cli(home.path(), &["rules", "import", "sigma", "out", "-o", "x"]);
    assert!(err.contains("no *.yml or *.yaml is below out") && code == 1, "{err}");
}

#[test]
fn every_match_in_a_file_of_events_is_told() {
    let home = short_dir();
    fs::write(home.path().join("shell.yml"), RULE).unwrap();
    let (_, err, code) = cli(home.path(), &["rules", "import", "sigma", "shell.yml", "-o", "rules"]);
    assert_eq!(code, 0, "{err}");
    let test = |events: &str, more: &[&str]| {
        fs::write(home.path().join("events.jsonl"), events).unwrap();
        let arguments = ["rules", "test", "--rules", "rules", "--events", "events.jsonl", "--format", "jsonl"];
        let (out, err, code) = cli(home.path(), &[&arguments, more].concat());
        let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (rows, err, code)
    };
    let own = "{\"event_id\": \"x\", \"pid\": 1, \"executable_path\": \"/bin/sh\", \"_note\": 1}\n\n\
               {\"event_id\": 7, \"pid\": 1, \"executable_path\": \"/bin/SH\"}\n{\"pid\": 1, \"executable_path\": \"/bin/sh\"}\n\
               {\"event_id\": \"no\", \"pid\": 1, \"executable_path\": \"/bin/ls\"}\n";
    let (rows, err, code) = test(own, &[]);
    let ids: Vec<_> = rows.iter().map(|row| row["event_id"].clone()).collect();
    assert_eq!((ids, code), (vec![json!("x"), json!(7), json!("line-4")], 0), "{err}");
    let row = &rows[0];
    assert_eq!(
        (&row["rule_id"], &row["author"], &row["severity"]),
        (&json!("11111111-1111-4111-8111-111111111111"), &json!("Ana"), &json!("high"))
    );
    assert_eq!(row["row"]["executable_path"], "/bin/sh");
    let (rows, _, code) = test("{\"Image\": \"/bin/sh\"}\n{\"Image\": null}\n", &["--map", "sigma"]);
    assert_eq!((rows.len(), code), (1, 0));
    for (events, more, why) in [
        (
            "{\"pid\": 1}\n{\"pid\": 2, \"comand_line\": \"x\"}\n",
            &[][..],
            "events.jsonl: line 2: unknown column `comand_line`; the nearest known one is `command_line`",
        ),
        ("{\"Image\": \"x\"}\n", &[], "line 1: unknown column `Image`"),
        (
            "{\"Image\": \"x\"}\n\n{\"Comandline\": \"x\"}\n",
            &["--map", "sigma"],
            "line 3: unknown field `Comandline` of Sigma; the nearest known one is `CommandLine`",
        ),
        ("{\"pid\": 1", &[], "line 1: column"),
        ("7\n", &["--map", "sigma"], "line 1 is no JSON object"),
    ] {
        let (rows, err, code) = test(events, more);
        assert!(err.contains(why) && code == 1 && rows.is_empty(), "{why}: {err}");
    }
    let (_, err, code) = cli(home.path(), &["rules", "test", "--rules", "rules", "--events", "none.jsonl"]);
    assert!(err.contains("cannot read none.jsonl") && code == 1, "{err}");
    let (_, _, code) = cli(home.path(), &["rules", "test", "--events", "events.jsonl"]);
    assert_eq!(code, 2);
    // A rule that is refused is no rule that found nothing.
    fs::write(home.path().join("rules/bad.toml"), "id = \"bad\"\n").unwrap();
    let (rows, err, code) = test(own, &[]);
    assert!(rows.len() == 3 && err.contains("missing field") && code == 5, "{err}");
}

#[test]
fn correlations_are_tried_in_the_time_of_the_events() {
    let home = short_dir();
    let rules = format!(
        "{}---\ntitle: Burst\nid: burst\ncorrelation:\n  type: event_count\n  rules: [11111111-1111-4111-8111-111111111111]\n  \
         group-by: [User]\n  timespan: 1m\n  condition: {{gte: 3}}\nlevel: critical\n",
        RULE
    );
    fs::write(home.path().join("burst.yml"), rules).unwrap();
    let (out, err, code) = cli(home.path(), &["rules", "import", "sigma", "burst.yml", "-o", "rules"]);
    assert!(
        code == 0 && out.contains("part") && err.starts_with("1 imported, 0 replaced, 0 unchanged, 1 parts"),
        "{out}{err}"
    );
    let event = |id: usize, user: &str, second: u32| {
        format!(
            "{{\"event_id\": \"{id}\", \"Image\": \"/bin/sh\", \"User\": \"{user}\", \"event_time\": \"2026-01-02T00:00:{second:02}Z\"}}\n"
        )
    };
    let all = [event(1, "x", 1), event(2, "y", 2), event(3, "x", 3), event(4, "x", 50), event(5, "y", 51)];
    let matched = matches(home.path(), &all.concat());
    assert_eq!(matched, BTreeSet::from([("burst".to_owned(), "4".to_owned())]));
}
