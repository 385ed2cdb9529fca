//! `health`: how the agent and its collectors are.

use crate::executor::QueryExecutor;
use crate::failure::Failure;
use crate::output::{Kept, Outcome, Screen, Style, text_columns};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{Cell, Completeness, ComponentHealth, HealthReport, HealthStatus, cell};

/// What a report in test mode says of itself.
const TEST_MODE: &str = "test mode: an agent for tests, never for production";

pub(crate) async fn run(
    executor: &impl QueryExecutor,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let report = executor.health().await?;
    if format == OutputFormat::Table {
        headline(&report, screen)?;
    }
    let columns = text_columns(&["component", "status", "detail", "hint"]);
    let rows = Kept { columns, rows: report.components.iter().map(row).collect() };
    if format == OutputFormat::Table {
        table(&report, rows, screen)?;
    } else {
        screen.print(format, Style::default(), &rows, &completeness(&report))?;
    }
    Ok(match report.status() {
        HealthStatus::Ok => Outcome::Done,
        HealthStatus::Degraded => Outcome::Degraded,
        HealthStatus::Starting | HealthStatus::Failed => Outcome::Wanting,
    })
}

fn headline(report: &HealthReport, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let status = word(report.status());
    let since = time::sql_text(report.started);
    let since = since.split('.').next().unwrap_or_default();
    let version = for_terminal(&report.version);
    let (code, normal) = if screen.colours { (colour(report.status()), "\x1b[0m") } else { ("", "") };
    writeln!(screen.out, "{code}{status}{normal}: daemoneye-agent {version}, pid {}, since {since} UTC", report.pid)?;
    if report.test_mode {
        let (red, normal) = if screen.colours { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        writeln!(screen.out, "{red}{TEST_MODE}{normal}")?;
    }
    Ok(())
}

/// Hints stand below the table, where they have room.
fn table(report: &HealthReport, mut rows: Kept, screen: &mut Screen<'_>) -> Result<(), Failure> {
    let hint = rows.columns.len() - 1;
    rows.columns.truncate(hint);
    rows.rows.iter_mut().for_each(|row| row.truncate(hint));
    let style = Style { wraps: true, ..Style::default() };
    screen.print(OutputFormat::Table, style, &rows, &Completeness::default())?;
    for component in report.components.iter().filter(|component| !component.hint.is_empty()) {
        writeln!(screen.out, "hint: {}: {}", for_terminal(&component.component), for_terminal(&component.hint))?;
    }
    Ok(())
}

fn row(component: &ComponentHealth) -> Vec<Cell> {
    let text = |text: &str| Cell {
        value: Some(text).filter(|text| !text.is_empty()).map(|text| cell::Value::Text(text.to_owned())),
    };
    vec![text(&component.component), text(word(component.status())), text(&component.detail), text(&component.hint)]
}

/// Whatever is not well is a reason why answers may lack something.
fn completeness(report: &HealthReport) -> Completeness {
    let unwell = report.components.iter().filter(|component| component.status() != HealthStatus::Ok);
    let reason = |component: &ComponentHealth| {
        format!("{} is {}: {}", component.component, word(component.status()), component.detail)
    };
    let test_mode = report.test_mode.then(|| TEST_MODE.to_owned());
    let reasons = test_mode.into_iter().chain(unwell.map(reason)).collect();
    Completeness { degraded: report.status() != HealthStatus::Ok, reasons }
}

fn word(status: HealthStatus) -> &'static str {
    match status {
        HealthStatus::Starting => "starting",
        HealthStatus::Ok => "ok",
        HealthStatus::Degraded => "degraded",
        HealthStatus::Failed => "failed",
    }
}

fn colour(status: HealthStatus) -> &'static str {
    match status {
        HealthStatus::Ok => "\x1b[32m",
        HealthStatus::Starting | HealthStatus::Degraded => "\x1b[33m",
        HealthStatus::Failed => "\x1b[31m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Script, shown};

    fn script(status: HealthStatus, test_mode: bool) -> Script {
        let component = |component: &str, status: HealthStatus, detail: &str, hint: &str| ComponentHealth {
            component: component.to_owned(),
            status: status.into(),
            detail: detail.to_owned(),
            hint: hint.to_owned(),
        };
        let mut script = Script::new(&[]);
        script.health = HealthReport {
            status: status.into(),
            components: vec![
                component("store", HealthStatus::Ok, "1,204 events", ""),
                component(
                    "collector procmond",
                    HealthStatus::Degraded,
                    "mode poll: no kernel source",
                    "run it as root",
                ),
            ],
            test_mode,
            version: "0.1.0".to_owned(),
            pid: 7,
            started: 1_700_000_000_123_456_000,
        };
        script
    }

    fn ask(script: &Script, format: OutputFormat) -> (String, String, u8) {
        shown(80, async |screen| run(script, format, screen).await)
    }

    #[test]
    fn people_get_a_headline_a_table_and_hints() {
        let (out, err, code) = ask(&script(HealthStatus::Degraded, true), OutputFormat::Table);
        insta::assert_snapshot!(out, @r"
        degraded: daemoneye-agent 0.1.0, pid 7, since 2023-11-14 22:13:20 UTC
        test mode: an agent for tests, never for production
        component           status    detail
        store               ok        1,204 events
        collector procmond  degraded  mode poll: no kernel source
        hint: collector procmond: run it as root
        ");
        assert_eq!((err.as_str(), code), ("", 3));
    }

    #[test]
    fn what_is_long_goes_on_in_the_next_line() {
        let mut script = script(HealthStatus::Degraded, false);
        script.health.components[1].detail =
            "mode poll (no kernel source); other users' command lines and executables stay unknown".to_owned();
        let (out, _, _) = shown(60, async |screen| run(&script, OutputFormat::Table, screen).await);
        insta::assert_snapshot!(out, @r"
        degraded: daemoneye-agent 0.1.0, pid 7, since 2023-11-14 22:13:20 UTC
        component           status    detail
        store               ok        1,204 events
        collector procmond  degraded  mode poll (no kernel source);
                                      other users' command lines and
                                      executables stay unknown
        hint: collector procmond: run it as root
        ");
    }

    #[test]
    fn test_mode_is_red_where_colours_are_wanted() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen { out: &mut out, err: &mut err, width: 80, terminal: true, colours: true };
        headline(&script(HealthStatus::Ok, true).health, &mut screen).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains(&format!("\x1b[1;31m{TEST_MODE}\x1b[0m\n")), "{out:?}");
    }

    #[test]
    fn programs_get_a_row_for_each_component() {
        let (out, _, code) = ask(&script(HealthStatus::Degraded, false), OutputFormat::Json);
        insta::assert_snapshot!(out, @r#"
        {"columns":["component","status","detail","hint"],"rows":[
        {"component":"store","status":"ok","detail":"1,204 events","hint":null},
        {"component":"collector procmond","status":"degraded","detail":"mode poll: no kernel source","hint":"run it as root"}
        ],"completeness":{"status":"degraded","reasons":["collector procmond is degraded: mode poll: no kernel source"]}}
        "#);
        assert_eq!(code, 3);
    }

    #[test]
    fn the_exit_code_is_the_status() {
        let code = |status| ask(&script(status, false), OutputFormat::Json).2;
        use HealthStatus::{Degraded, Failed, Ok, Starting};
        assert_eq!([Starting, Ok, Degraded, Failed].map(code), [1, 0, 3, 1]);
    }
}
