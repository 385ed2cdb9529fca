//! Fuzz targets: the validator of SQL, the reader of rule files and the compiler of Sigma rules take any text.

use crate::fixture::{on_planning_stack, queries, runtime};
use bolero::check;
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::detection::rules::{Loader, load_dir};
use daemoneye_lib::sigma::{Made, Options, compile};
use std::panic::AssertUnwindSafe;
use std::path::Path;

/// Words that make more of random bytes than random text does.
const WORDS: [&str; 48] = [
    "SELECT",
    "FROM",
    "WHERE",
    "processes",
    "processes.events",
    "alerts",
    "pid",
    "name",
    "command_line",
    "event_type",
    "(",
    ")",
    ",",
    "*",
    "=",
    "<",
    "||",
    "'x'",
    "'%a%'",
    "1",
    "-1",
    "1e9",
    "NULL",
    "?",
    ":p",
    "AND",
    "OR",
    "NOT",
    "LIKE",
    "GLOB",
    "REGEXP",
    "IN",
    "BETWEEN",
    "IS",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "CAST",
    "AS",
    "INTEGER",
    "count",
    "GROUP BY",
    "ORDER BY",
    "LIMIT",
    "JOIN",
    "ON",
    "WITH",
];

fn words(bytes: &[u8]) -> String {
    let word = |byte: &u8| WORDS[usize::from(*byte) % WORDS.len()];
    bytes.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn fuzz_sql() {
    on_planning_stack(validate_anything);
}

fn validate_anything() {
    let parameters = Parameters::default();
    // A panic ends the test: nothing is used after it.
    let tools = AssertUnwindSafe((queries(), runtime()));
    check!().for_each(|bytes: &[u8]| {
        let AssertUnwindSafe((queries, runtime)) = &tools;
        let text = String::from_utf8_lossy(bytes);
        let words = words(bytes);
        for sql in [&*text, &words, &format!("SELECT {words}"), &format!("SELECT pid FROM processes WHERE {words}")] {
            // Valid or refused: either is an answer.
            let _ = runtime.block_on(queries.validate_sql(sql, &parameters));
        }
    });
}

#[test]
fn fuzz_rule_file() {
    on_planning_stack(load_anything);
}

fn load_anything() {
    let runtime = runtime();
    let directory = tempfile::tempdir().unwrap();
    check!().for_each(|bytes: &[u8]| {
        let rule = format!("id = \"r\"\ntitle = \"T\"\nseverity = \"high\"\nsql = '''SELECT {}'''\n", words(bytes));
        let tail = [b"id = \"r\"\ntitle = \"T\"\nseverity = \"low\"\n", bytes].concat();
        for content in [bytes, rule.as_bytes(), &tail] {
            std::fs::write(directory.path().join("r.toml"), content).unwrap();
            let outcome = runtime.block_on(load_dir(directory.path())).unwrap();
            assert_eq!(
                outcome.rules.len() + outcome.problems.len(),
                1,
                "a file is a rule, or has a problem that is told"
            );
        }
    });
}

/// Pieces of Sigma rules.
const SIGMA: [&str; 40] = [
    "title: T\n",
    "id: a-1\n",
    "logsource:\n  category: process_creation\n",
    "  product: windows\n",
    "detection:\n",
    "  sel:\n",
    "    Image|endswith: ",
    "    CommandLine|contains|all: ",
    "    CommandLine|re: ",
    "    User|cidr: ",
    "    User|base64offset|contains: ",
    "    CommandLine|windash: ",
    "    '|all': ",
    "    - ",
    "['a', 'b']",
    "'x*y?'",
    "\"\\0'\\e\"",
    "'--a-b/c'",
    "null",
    "7",
    "'(a+)+$'",
    "\n",
    "  condition: ",
    "sel",
    " and ",
    " or ",
    " not ",
    "1 of sel*",
    "all of them",
    "(",
    ")",
    "level: high\n",
    "---\n",
    "correlation:\n",
    "  type: event_count\n",
    "  rules: [a-1]\n",
    "  timespan: 5m\n",
    "  condition: {gte: 2}\n",
    "  group-by: [User]\n",
    "    Image: x\n  condition: sel\n",
];

#[test]
fn fuzz_sigma() {
    on_planning_stack(compile_anything);
}

fn compile_anything() {
    let tools = AssertUnwindSafe((Loader::new("").unwrap(), runtime()));
    check!().for_each(|bytes: &[u8]| {
        let AssertUnwindSafe((loader, runtime)) = &tools;
        let pieces: String = bytes.iter().map(|byte| SIGMA[usize::from(*byte) % SIGMA.len()]).collect();
        let begun = format!("{}{}{}{}{pieces}", SIGMA[0], SIGMA[1], SIGMA[2], SIGMA[4]);
        for text in [&*String::from_utf8_lossy(bytes), &pieces, &begun] {
            for outcome in compile(text, &Options::default()) {
                // What compiles is a rule file; the agent may refuse it, and says why.
                if let Ok(Made::Rule(compiled)) = outcome.made {
                    let table: toml::Table = toml::from_str(&compiled.text).unwrap();
                    assert_eq!(table["id"].as_str(), Some(compiled.id.as_str()));
                    let loaded = runtime.block_on(loader.load(Path::new("r.toml"), &compiled.text));
                    assert!(loaded.is_ok() || loaded.is_err_and(|problem| !problem.message.contains("syntax error")));
                }
            }
        }
    });
}
