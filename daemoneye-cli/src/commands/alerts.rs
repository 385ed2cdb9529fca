//! `alerts`: what was suspicious.

use super::alerts_watch;
use crate::executor::{Query, QueryExecutor, fetch};
use crate::failure::{Failure, Kind};
use crate::output::{Kept, Outcome, Screen, Style, plain};
use crate::parameters;
use clap::builder::PossibleValuesParser;
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::proto::ipc::{Cell, cell};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The alerts, the newest first
    List(ListArguments),
    /// One alert in full
    Show {
        /// Its id, or as much of its beginning as no other alert has
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        id: String,
    },
    /// Alerts as they come, until Ctrl-C
    Watch(alerts_watch::Arguments),
}

/// The words for how bad something is.
pub(super) const SEVERITIES: [&str; 4] = ["low", "medium", "high", "critical"];

#[derive(Debug, Default, clap::Args)]
pub(crate) struct ListArguments {
    /// Only alerts of this severity; may be given more than once
    #[arg(long, value_parser = PossibleValuesParser::new(SEVERITIES))]
    severity: Vec<String>,
    /// Only alerts of this rule
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// People get the columns that fit; programs get all.
const FOR_PEOPLE: &str = "last_seen, severity, rule_id, pid, name, executable_path, count, alert_id";

pub(crate) async fn run(
    command: &Command,
    executor: &impl QueryExecutor,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    match command {
        Command::List(arguments) => list(arguments, executor, format, screen).await,
        Command::Show { id } => show(id, executor, format, screen).await,
        Command::Watch(_) => Err(Failure::new(Kind::Defect, "watching is no query")),
    }
}

async fn list(
    arguments: &ListArguments,
    executor: &impl QueryExecutor,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let mut conditions = Vec::new();
    if !arguments.severity.is_empty() {
        conditions.push(format!("severity IN ({})", vec!["?"; arguments.severity.len()].join(", ")));
    }
    if arguments.rule.is_some() {
        conditions.push("rule_id = ?".to_owned());
    }
    let columns = if format == OutputFormat::Table { FOR_PEOPLE } else { "*" };
    let condition = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let limit = arguments.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
    let sql = format!("SELECT {columns} FROM alerts{condition} ORDER BY last_seen DESC{limit}");
    let values = arguments.severity.iter().chain(&arguments.rule).map(|value| parameters::text(value)).collect();

    let style = Style { show: Some(without_fraction), ..Style::default() };
    let completeness = fetch(executor, &Query::from(sql.as_str()), values, &mut *screen.sheet(format, style)).await?;
    screen.conclude(format, &completeness)
}

fn without_fraction(column: &str, cell: &Cell) -> Option<String> {
    match (column, cell.value.as_ref()?) {
        ("last_seen", cell::Value::Text(time)) => time.split('.').next().map(str::to_owned),
        _ => None,
    }
}

async fn show(
    id: &str,
    executor: &impl QueryExecutor,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    // A whole id sorts before those that only begin with it.
    let sql =
        format!("SELECT * FROM alerts WHERE substr(alert_id, 1, {}) = ? ORDER BY alert_id LIMIT 3", id.chars().count());
    let mut found = Kept::default();
    let completeness = fetch(executor, &Query::from(sql.as_str()), vec![parameters::text(id)], &mut found).await?;
    let column = found.columns.iter().position(|column| column.name == "alert_id");
    let ids: Vec<_> = found.rows.iter().filter_map(|row| row.get(column?).and_then(plain)).collect();
    match ids.as_slice() {
        [] => {
            let failure = Failure::new(Kind::NotFound, format!("no alert has an id that begins with {id}"));
            return Err(failure.hint("`daemoneye-cli alerts list` shows them"));
        }
        [first, _, rest @ ..] if first != id => {
            let more = if rest.is_empty() { "" } else { ", …" };
            let message = format!("more than one alert begins with {id}: {}{more}", ids[..2].join(", "));
            return Err(Failure::new(Kind::Usage, message).hint("give more of the id"));
        }
        _ => found.rows.truncate(1),
    }
    screen.print(format, Style { blocks: true, ..Style::default() }, &found, &completeness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Script, integer, shown, text};
    use daemoneye_lib::proto::ipc::ColumnKind;

    const COLUMNS: [(&str, ColumnKind); 4] = [
        ("alert_id", ColumnKind::Text),
        ("last_seen", ColumnKind::Time),
        ("count", ColumnKind::Integer),
        ("row", ColumnKind::Json),
    ];

    fn script(ids: &[&str]) -> Script {
        ids.iter().fold(Script::new(&COLUMNS), |script, id| {
            script.row([
                text(id),
                text("2026-01-02 03:04:05.678901"),
                integer(2),
                text(r#"{"pid":7,"command_line":"a very long command line"}"#),
            ])
        })
    }

    fn shown_by(script: &Script, command: &Command, format: OutputFormat) -> (String, String, u8) {
        shown(40, async |screen| run(command, script, format, screen).await)
    }

    #[test]
    fn filters_are_parameters_never_text() {
        let script = script(&[]);
        let arguments = ListArguments {
            severity: vec!["high".to_owned(), "critical".to_owned()],
            rule: Some("x' OR 1=1".to_owned()),
            limit: Some(5),
        };
        let (_, _, code) = shown_by(&script, &Command::List(arguments), OutputFormat::Json);
        assert_eq!(code, 0);
        let (sql, values) = script.asked.borrow()[0].clone();
        insta::assert_snapshot!(sql, @"SELECT * FROM alerts WHERE severity IN (?, ?) AND rule_id = ? ORDER BY last_seen DESC LIMIT 5");
        assert_eq!(values, ["high", "critical", "x' OR 1=1"].map(parameters::text));
    }

    #[test]
    fn people_get_the_columns_that_fit() {
        let script = script(&["a1"]);
        let (out, _, _) = shown_by(&script, &Command::List(ListArguments::default()), OutputFormat::Table);
        assert!(script.asked.borrow()[0].0.starts_with("SELECT last_seen, severity,"));
        assert!(out.contains("2026-01-02 03:04:05") && !out.contains("678901"), "{out}");
    }

    #[test]
    fn one_alert_is_shown_in_full() {
        let (out, err, code) = shown_by(&script(&["a1"]), &Command::Show { id: "a".to_owned() }, OutputFormat::Table);
        insta::assert_snapshot!(out, @r#"
        alert_id   a1
        last_seen  2026-01-02 03:04:05.678901
        count      2
        row        {"pid":7,"command_line":"a ve
                   ry long command line"}
        "#);
        assert_eq!((err.as_str(), code), ("", 0));
        let (out, _, _) = shown_by(&script(&["a1"]), &Command::Show { id: "a".to_owned() }, OutputFormat::Json);
        insta::assert_snapshot!(out, @r#"
        {"columns":["alert_id","last_seen","count","row"],"rows":[
        {"alert_id":"a1","last_seen":"2026-01-02T03:04:05.678901Z","count":2,"row":{"pid":7,"command_line":"a very long command line"}}
        ],"completeness":{"status":"complete","reasons":[]}}
        "#);
    }

    #[test]
    fn an_id_must_be_there_and_be_one() {
        let show = |ids: &[&str], id: &str| {
            let (_, err, code) = shown_by(&script(ids), &Command::Show { id: id.to_owned() }, OutputFormat::Table);
            format!("{err}exit {code}")
        };
        insta::assert_snapshot!(show(&[], "b"), @r"
        error: no alert has an id that begins with b
        hint: `daemoneye-cli alerts list` shows them
        exit 4
        ");
        insta::assert_snapshot!(show(&["a1", "a2"], "a"), @r"
        error: more than one alert begins with a: a1, a2
        hint: give more of the id
        exit 2
        ");
        assert!(show(&["a", "a2"], "a").ends_with("exit 0"));
    }
}
