//! `alerts watch`: alerts as they are committed, one line each, until Ctrl-C.

use super::alerts::SEVERITIES;
use super::tasks::{cell_of, heading};
use crate::bus::Agent;
use crate::failure::{Failure, Kind};
use crate::output::{Outcome, Screen, Style};
use clap::builder::PossibleValuesParser;
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::models::columns::ALERT;
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::common::Alert;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Only alerts of this severity; may be given more than once
    #[arg(long, value_parser = PossibleValuesParser::new(SEVERITIES))]
    severity: Vec<String>,
}

pub(crate) async fn run(
    arguments: &Arguments,
    agent: &Agent,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    if format == OutputFormat::Json {
        return Err(
            Failure::new(Kind::Usage, "`json` is one document, and watching has no end").hint("use jsonl or csv")
        );
    }
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut alerts = agent.alerts(&arguments.severity).await?;
    // Whoever starts it from a program knows by this that nothing is missed from now on.
    writeln!(screen.err, "alerts are shown as they come; Ctrl-C ends it")?;
    if format == OutputFormat::Table {
        // A table would wait until it can be measured.
        let width = if screen.terminal { screen.width } else { usize::MAX };
        let out = &mut *screen.out;
        let mut print = |line: &str| -> Result<(), Failure> {
            writeln!(out, "{}", line.chars().take(width).collect::<String>())?;
            Ok(out.flush()?)
        };
        print(HEAD)?;
        alerts.each(&mut interrupted, &mut |alert| print(&line(&alert))).await?;
    } else {
        let mut sheet = screen.sheet(format, Style::default());
        sheet.begin(&ALERT.iter().map(|column| heading(column.name, column.kind)).collect::<Vec<_>>())?;
        sheet.show()?;
        let each = &mut |alert: Alert| {
            sheet.row(ALERT.iter().map(|column| cell_of(column, &alert)).collect())?;
            Ok(sheet.show()?)
        };
        alerts.each(&mut interrupted, each).await?;
    }
    Ok(Outcome::Done)
}

const HEAD: &str =
    "last_seen            severity  count      pid  name             alert_id          rule_id  executable_path";

fn line(alert: &Alert) -> String {
    let seen = time::sql_text(alert.last_seen);
    let text = |text: Option<&str>| for_terminal(text.unwrap_or_default()).into_owned();
    format!(
        "{}  {:<8}  {:>5}  {:>7}  {:<15}  {:<16}  {}  {}",
        seen.split('.').next().unwrap_or_default(),
        alert.severity().name(),
        alert.count,
        alert.pid,
        text(alert.name.as_deref()),
        text(Some(&alert.alert_id)),
        text(Some(&alert.rule_id)),
        text(alert.executable_path.as_deref()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemoneye_lib::proto::common::Severity;

    #[test]
    fn a_line_is_harmless_and_stands_below_its_heads() {
        let alert = Alert {
            alert_id: "0123456789abcdef".to_owned(),
            rule_id: "r".to_owned(),
            severity: Severity::Critical.into(),
            last_seen: 1_767_323_045_678_901_000,
            count: 3,
            pid: 4_711,
            name: Some("ba\u{1b}[31md".to_owned()),
            executable_path: Some("/tmp/x".to_owned()),
            ..Alert::default()
        };
        insta::assert_snapshot!(format!("{HEAD}\n{}", line(&alert)), @r"
        last_seen            severity  count      pid  name             alert_id          rule_id  executable_path
        2026-01-02 03:04:05  critical      3     4711  ba\u{1b}[31md    0123456789abcdef  r  /tmp/x
        ");
    }
}
