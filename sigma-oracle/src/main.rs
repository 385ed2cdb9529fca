//! What `rsigma` says of rules and events.
//!
//! On each line of stdin stands `{"rule": "YAML", "events": [{…}, …]}`; on the same line of stdout `{"verdicts": [true, …]}`, or
//! `{"error": "…"}` where the rule is refused.
//!
//! `measure RULES EVENTS [many]` shows the events of a file of JSON lines to the rules of a file of YAML, and prints what evaluating
//! them has cost and how often a rule matched; `many` switches on what rsigma has for many rules.

use rsigma_eval::event::JsonEvent;
use rsigma_eval::{Engine, compile_rule, evaluate_rule};
use rsigma_parser::parse_sigma_yaml;
use serde_json::{Value, json};
use std::io::{self, BufRead, Write};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, rules, events, options @ ..] = arguments.as_slice()
        && verb == "measure"
    {
        return measure(rules, events, options.iter().any(|option| option == "many"));
    }
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

fn measure(rules: &str, events: &str, many: bool) -> io::Result<()> {
    let wrong = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let collection = parse_sigma_yaml(&std::fs::read_to_string(rules)?).map_err(|error| wrong(&error))?;
    let mut engine = Engine::new();
    engine.set_bloom_prefilter(many);
    engine.set_cross_rule_ac(many);
    engine.add_collection(&collection).map_err(|error| wrong(&error))?;
    let lines = std::fs::read_to_string(events)?;
    let events: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let began = cpu_time::ThreadTime::now();
    let matches: usize = events.iter().map(|event| engine.evaluate(&JsonEvent::borrow(event)).len()).sum();
    println!("{}", json!({ "seconds": began.elapsed().as_secs_f64(), "matches": matches }));
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
