//! What `rsigma` says of rules and events.
//!
//! On each line of stdin stands `{"rule": "YAML", "events": [{…}, …]}`; on the same line of stdout `{"verdicts": [true, …]}`, or
//! `{"error": "…"}` where the rule is refused.

use rsigma_eval::event::JsonEvent;
use rsigma_eval::{compile_rule, evaluate_rule};
use rsigma_parser::parse_sigma_yaml;
use serde_json::{Value, json};
use std::io::{self, BufRead, Write};

fn main() -> io::Result<()> {
    let (stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
    for line in stdin.lines() {
        let said = match judge(&line?) {
            Ok(verdicts) => json!({ "verdicts": verdicts }),
            Err(error) => json!({ "error": error }),
        };
        writeln!(stdout, "{said}")?;
        stdout.flush()?;
    }
    Ok(())
}

fn judge(line: &str) -> Result<Vec<bool>, String> {
    let asked: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let rule = asked["rule"].as_str().ok_or("no rule")?;
    let rules = parse_sigma_yaml(rule).map_err(|error| error.to_string())?;
    if let Some(error) = rules.errors.first() {
        return Err(error.clone());
    }
    let [rule] = rules.rules.as_slice() else { return Err("not one rule".to_owned()) };
    let rule = compile_rule(rule).map_err(|error| error.to_string())?;
    let events = asked["events"].as_array().ok_or("no events")?;
    Ok(events.iter().map(|event| evaluate_rule(&rule, &JsonEvent::borrow(event)).is_some()).collect())
}
