//! Fuzz targets: the validator of SQL and the reader of rule files take any text.

use crate::fixture::{on_planning_stack, queries, runtime};
use bolero::check;
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::detection::rules::load_dir;
use std::panic::AssertUnwindSafe;

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
