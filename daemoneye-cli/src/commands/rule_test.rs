//! `rules test PATH…`: golden cases, as the agent's engine judges them, without an agent.

use super::rule_events::{self, Map};
use super::validate;
use crate::failure::{Failure, Kind};
use crate::output::{Kept, Outcome, Screen, Style, text_columns};
use daemoneye_lib::alerting::golden::{Case, EVENTS, Verdict};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, Completeness, cell};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Rule files, or directories that are searched for them; with --history also the id of a rule that the agent has
    #[arg(required_unless_present = "rules", value_name = "PATH|ID")]
    pub(super) what: Vec<PathBuf>,
    /// The same
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(super) rules: Vec<PathBuf>,
    /// Try the rule on what the agent has stored of this time, as in `12h` or `7d`
    #[arg(long, visible_alias = "since", value_name = "TIME", value_parser = history)]
    pub(crate) history: Option<Duration>,
    /// Try the rules on the events of a file, a JSON object on each line, and print every match
    #[arg(long, value_name = "FILE", conflicts_with_all = ["history", "by_day"])]
    pub(super) events: Option<PathBuf>,
    /// With --events: what the fields of the events are called, where it is not by our columns
    #[arg(long, value_name = "NAMES", requires = "events")]
    pub(super) map: Option<Map>,
    /// With --history: the days with their counts in place of the alerts
    #[arg(long, requires = "history")]
    pub(super) by_day: bool,
}

impl Arguments {
    /// The rules that are tried.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.what.iter().chain(&self.rules).cloned().collect()
    }
}

/// A row for each rule; people get what is wrong below.
pub(crate) async fn run(
    arguments: &Arguments,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    if let Some(file) = &arguments.events {
        return rule_events::run(arguments, file, format, screen).await;
    }
    let loaded = validate::load_all(&arguments.paths()).await?;
    let rules = loaded.rules;
    let mut verdicts: Vec<(String, String, &'static str, Verdict)> = Vec::new();
    for rule in &rules {
        let (id, file) = (rule.rule.id.clone(), rule.rule.file.display().to_string());
        let row = match Case::beside(&id, &rule.rule.file) {
            Ok(None) => (id, file, "untested", Verdict::default()),
            Err(error) => (id, file, "failed", Verdict { wrong: vec![error.to_string()], ..Verdict::default() }),
            Ok(Some(case)) => match case.try_rules(&rules).await {
                Ok(verdict) => (id, file, if verdict.wrong.is_empty() { "passed" } else { "failed" }, verdict),
                Err(error) => (id, file, "failed", Verdict { wrong: vec![error.to_string()], ..Verdict::default() }),
            },
        };
        verdicts.push(row);
    }
    for problem in &loaded.problems {
        let verdict = Verdict { wrong: vec![problem.to_string()], ..Verdict::default() };
        let id = problem.rule_id.clone().unwrap_or_default();
        verdicts.push((id, problem.file.display().to_string(), "refused", verdict));
    }
    print(&verdicts, format, screen)?;
    let count = |status: &str| verdicts.iter().filter(|(_, _, own, _)| *own == status).count();
    let (refused, failed, untested) = (count("refused"), count("failed"), count("untested"));
    if format == OutputFormat::Table {
        for (id, file, _, verdict) in &verdicts {
            for wrong in &verdict.wrong {
                let name = if id.is_empty() { file } else { id };
                Failure::new(Kind::Failed, format!("{name}: {wrong}")).print(screen.err);
            }
        }
        if untested > 0 {
            let hint = format!("put {EVENTS} and alerts.jsonl beside a rule to test it: {untested} rules have none");
            writeln!(screen.err, "note: {hint}")?;
        }
    }
    Ok(match (refused, failed) {
        (0, 0) => Outcome::Done,
        (0, _) => Outcome::Wanting,
        _ => Outcome::Refused,
    })
}

fn print(
    verdicts: &[(String, String, &'static str, Verdict)],
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<(), Failure> {
    let text = |text: &str| Cell { value: Some(cell::Value::Text(text.to_owned())) };
    let number = |number: usize| Cell { value: i64::try_from(number).ok().map(cell::Value::Integer) };
    let people = format == OutputFormat::Table;
    let names: &[&str] = if people {
        &["rule_id", "status", "events", "alerts"]
    } else {
        &["rule_id", "status", "events", "alerts", "wrong", "file"]
    };
    let mut columns = text_columns(names);
    for column in &mut columns {
        match column.name.as_str() {
            "events" | "alerts" => column.set_kind(ColumnKind::Integer),
            "wrong" => column.set_kind(ColumnKind::Json),
            _ => {}
        }
    }
    let rows = verdicts.iter().map(|(id, file, status, verdict)| {
        let name = if id.is_empty() { file } else { id };
        let mut cells = vec![text(name), text(status), number(verdict.events), number(verdict.alerts)];
        if !people {
            cells.extend([text(&serde_json::json!(verdict.wrong).to_string()), text(file)]);
        }
        cells
    });
    let rows = Kept { columns, rows: rows.collect() };
    screen.print(format, Style::default(), &rows, &Completeness::default())?;
    Ok(())
}

fn history(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match text.get(digits.len()..).unwrap_or_default() {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("it needs a unit: s, m, h or d".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "it needs a whole number before the unit".to_owned())?;
    let year = Duration::from_secs(366 * 86_400);
    let time = number.checked_mul(seconds).map(Duration::from_secs).filter(|time| !time.is_zero() && *time <= year);
    time.ok_or_else(|| "it must be more than nothing and at most 366 days".to_owned())
}

/// The rows of a test as CSV.
#[cfg(test)]
pub(super) fn tried(what: &[PathBuf]) -> String {
    let arguments = Arguments { what: what.to_vec(), ..Arguments::default() };
    crate::scripted::shown(100, async |screen| run(&arguments, OutputFormat::Csv, screen).await).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::shown;
    use std::fs;
    use std::path::Path;
    use tempfile::TempDir;

    const RULE: &str = "id = \"nc\"\ntitle = \"T\"\nseverity = \"low\"\nsql = \"\"\"\nSELECT process_key, pid, name, executable_path \
                        FROM processes.events WHERE event_type IN ('exec','seen') AND name IN (@tools)\n\"\"\"\n";

    fn case(directory: &Path, id: &str, events: &str, alerts: &str) {
        let own = directory.join(id);
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("rule.toml"), RULE.replace("\"nc\"", &format!("\"{id}\""))).unwrap();
        fs::write(own.join("events.jsonl"), events).unwrap();
        fs::write(own.join("alerts.jsonl"), alerts).unwrap();
    }

    fn tried(directory: &TempDir, what: &str) -> (String, String, u8) {
        let what = vec![directory.path().join(what)];
        let arguments = Arguments { what, ..Arguments::default() };
        let (out, err, code) = shown(100, async |screen| run(&arguments, OutputFormat::Csv, screen).await);
        let hide = |text: String| text.replace(&format!("{}/", directory.path().display()), "");
        (hide(out), hide(err), code)
    }

    const EVENTS: &str =
        "{\"pid\": 1, \"name\": \"nc\", \"executable_path\": \"/nc\"}\n\n{\"pid\": 2, \"name\": \"ls\"}\n";

    #[test]
    fn a_case_holds_when_exactly_the_alerts_come_that_it_wants() {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("lists.toml"), "tools = ['nc']\n").unwrap();
        for (alerts, status, code, words) in [
            ("{\"events\": [1], \"pid\": 1, \"row\": {\"name\": \"nc\"}, \"_why\": \"x\"}\n", "passed", 0, ""),
            ("", "failed", 1, "not expected: nc, events of the lines [1]"),
            ("{\"events\": [1]}\n{\"events\": [3]}\n", "failed", 1, "did not come: nc, events of the lines [3]"),
            ("{\"events\": [1], \"row\": {\"name\": \"ls\"}}\n", "failed", 1, "did not come"),
            ("{\"events\": [1]}\n{\"rule_id\": \"other\"}\n", "passed", 0, ""),
            ("{\"evnts\": [1]}\n", "failed", 1, "alerts.jsonl: line 1: unknown field `evnts`"),
        ] {
            case(directory.path(), "nc", EVENTS, alerts);
            let (out, err, exit) = tried(&directory, "nc");
            assert!(out.contains(&format!("nc,{status},")) && out.contains(words), "{alerts}: {out}{err}");
            assert_eq!(exit, code, "{alerts}: {out}");
        }
        case(directory.path(), "nc", "{\"pdi\": 1}\n", "");
        assert!(tried(&directory, "nc").0.contains("events.jsonl: line 1: unknown column `pdi`"));
    }

    #[test]
    fn an_alert_of_another_rule_of_the_directory_is_not_expected() {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("lists.toml"), "tools = ['nc']\n").unwrap();
        case(directory.path(), "nc", EVENTS, "{\"events\": [1]}\n");
        case(directory.path(), "same", "", "");
        let (out, _, code) = tried(&directory, "");
        assert!(out.contains("not expected: same"), "{out}");
        assert_eq!(code, 1);
        // On its own nothing else comes.
        assert_eq!(tried(&directory, "nc/rule.toml").2, 0);
    }

    #[test]
    fn a_rule_without_a_case_is_untested_and_a_broken_one_refused() {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("a.toml"), RULE.replace("@tools", "'nc'")).unwrap();
        let (out, _, code) = tried(&directory, "a.toml");
        assert_eq!((out.lines().nth(1), code), (Some("nc,untested,0,0,[],a.toml"), 0));
        fs::write(directory.path().join("a.toml"), RULE).unwrap();
        let (out, _, code) = tried(&directory, "a.toml");
        assert!(out.contains("no such list: @tools") && out.contains("refused"), "{out}");
        assert_eq!(code, 5);
    }
}
