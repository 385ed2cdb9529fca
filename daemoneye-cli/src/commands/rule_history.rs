//! `rules test … --history`: what a rule would have raised over what the agent has stored.

use super::rule_test::Arguments;
use super::tasks::{cell_of, heading};
use crate::bus::Agent;
use crate::failure::{Failure, Kind};
use crate::output::{Kept, Outcome, Screen, Style, text_columns};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::detection::rules::lists_beside;
use daemoneye_lib::models::columns::ALERT;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::common::Alert;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, TestDay, TestRule, TestRuleReply, cell};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The columns of an alert that a trial can know.
const ALERT_COLUMNS: [&str; 10] = [
    "first_seen",
    "last_seen",
    "count",
    "pid",
    "name",
    "executable_path",
    "process_key",
    "dedup_key",
    "row",
    "event_ids",
];
/// Those that people see.
const FOR_PEOPLE: [&str; 6] = ["first_seen", "count", "pid", "name", "executable_path", "row"];

/// The alerts that would have been raised, or the days; on stderr how much that is a day, and what it cost.
pub(crate) async fn run(
    arguments: &Arguments,
    agent: &Agent,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let paths = arguments.paths();
    let [what] = paths.as_slice() else {
        return Err(Failure::new(Kind::Usage, "--history tries one rule at a time"));
    };
    let history = arguments.history.unwrap_or_default();
    let mut request = read(what)?;
    request.history_ms = u64::try_from(history.as_millis()).unwrap_or(u64::MAX);
    let reply: TestRuleReply = agent.ask("requests.rules.test", &request, Some(&request.rule_text)).await?;
    let rows = if arguments.by_day { by_day(&reply.days) } else { alerts(&reply.first_alerts, format) };
    let completeness = reply.completeness.clone().unwrap_or_default();
    let outcome = screen.print(format, Style::default(), &rows, &completeness)?;
    writeln!(screen.err, "{}", summary(&reply))?;
    Ok(outcome)
}

/// A path is sent as text, so that the agent need not be able to read it; anything else is an id.
fn read(what: &Path) -> Result<TestRule, Failure> {
    let file = if what.is_dir() { what.join("rule.toml") } else { what.to_owned() };
    if !file.is_file() {
        return Ok(TestRule { rule_id: what.to_string_lossy().into_owned(), ..TestRule::default() });
    }
    let read = |path: &Path| {
        fs::read_to_string(path)
            .map_err(|error| Failure::new(Kind::Failed, format!("cannot read {}: {error}", path.display())))
    };
    let lists = match lists_beside(&file) {
        Some(lists) => read(&lists)?,
        None => String::new(),
    };
    Ok(TestRule { rule_text: read(&file)?, lists_text: lists, file: file.display().to_string(), ..TestRule::default() })
}

fn summary(reply: &TestRuleReply) -> String {
    let span = Duration::from_nanos(reply.to.saturating_sub(reply.from).unsigned_abs());
    let days = span.as_secs_f64() / 86_400.0;
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let (alerts, rows, cost) = (reply.alerts as f64, reply.rows as f64, reply.cost_ns as f64);
    let each = if reply.rows == 0 { String::new() } else { format!(", {:.2} µs a row", cost / 1_000.0 / rows) };
    let excepted = if reply.excepted == 0 { String::new() } else { format!(", {} rows excepted", reply.excepted) };
    let kept = reply.first_alerts.len() as u64;
    let shown = if kept < reply.alerts { format!("; the first {kept} are shown") } else { String::new() };
    format!(
        "{}: {} rows since {}, {} matches{excepted}, {} alerts ({:.2} a day){shown}; {:.1} ms in {} evaluations{each}",
        reply.rule_id,
        reply.rows,
        time::rfc3339(reply.from),
        reply.matches,
        reply.alerts,
        alerts / days.max(f64::MIN_POSITIVE),
        cost / 1_000_000.0,
        reply.evaluations,
    )
}

fn alerts(alerts: &[Alert], format: OutputFormat) -> Kept {
    let names = if format == OutputFormat::Table { &FOR_PEOPLE[..] } else { &ALERT_COLUMNS[..] };
    let columns = || names.iter().filter_map(|name| ALERT.iter().find(|column| column.name == *name));
    let rows = alerts.iter().map(|alert| columns().map(|column| cell_of(column, alert)).collect());
    let heads = columns().map(|column| heading(column.name, column.kind));
    Kept { columns: heads.collect(), rows: rows.collect() }
}

fn by_day(days: &[TestDay]) -> Kept {
    let mut columns = text_columns(&["day", "matches", "alerts"]);
    columns.iter_mut().skip(1).for_each(|column| column.set_kind(ColumnKind::Integer));
    let number = |number: u64| Cell { value: i64::try_from(number).ok().map(cell::Value::Integer) };
    let row = |day: &TestDay| {
        let name = Cell { value: Some(cell::Value::Text(day.day.clone())) };
        vec![name, number(day.matches), number(day.alerts)]
    };
    Kept { columns, rows: days.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemoneye_lib::detection::rules::lists;

    #[test]
    fn what_is_no_file_is_an_id_and_a_file_goes_with_its_lists() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("r");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("rule.toml"), "id = 'r'").unwrap();
        fs::write(directory.path().join(lists::FILE), "a = []").unwrap();
        for path in [own.clone(), own.join("rule.toml")] {
            let request = read(&path).unwrap();
            assert_eq!((request.rule_text.as_str(), request.lists_text.as_str()), ("id = 'r'", "a = []"));
            assert!(request.rule_id.is_empty() && request.file.ends_with("rule.toml"));
        }
        assert_eq!(read(Path::new("some-id")).unwrap().rule_id, "some-id");
    }

    #[test]
    fn the_summary_says_how_often_and_how_dear() {
        let reply = TestRuleReply {
            rule_id: "r".into(),
            to: 2 * 86_400_000_000_000,
            rows: 1_000,
            matches: 9,
            alerts: 3,
            cost_ns: 2_000_000,
            evaluations: 4,
            ..TestRuleReply::default()
        };
        let text = summary(&reply);
        assert!(text.contains("9 matches, 3 alerts (1.50 a day); the first 0 are shown"), "{text}");
        assert!(text.ends_with("2.0 ms in 4 evaluations, 2.00 µs a row"), "{text}");
    }
}
