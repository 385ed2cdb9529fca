//! `metrics`: what the agent counts and measures.
//!
//! Prometheus reads the text as it is, so that is what comes out unless the command line itself asks for another format:
//! a configured `cli.format` does not reach whoever scrapes.

use crate::executor::QueryExecutor;
use crate::failure::{Failure, Kind};
use crate::output::{Kept, Outcome, Screen, Style};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, Completeness, ResultColumn, cell};

pub(crate) async fn run(
    executor: &impl QueryExecutor,
    format: Option<OutputFormat>,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let text = executor.metrics().await?;
    match format {
        None | Some(OutputFormat::Table) => {
            for line in text.lines() {
                // Labels can bear names that others chose; where a terminal reads them they cannot command it.
                let line = if screen.terminal { for_terminal(line) } else { line.into() };
                writeln!(screen.out, "{line}")?;
            }
            Ok(Outcome::Done)
        }
        Some(format) => {
            let rows: Option<Vec<_>> = text.lines().filter(|line| !line.starts_with('#')).map(row).collect();
            let rows = rows.ok_or_else(|| Failure::new(Kind::Defect, "the agent's metrics cannot be read"))?;
            screen.print(format, Style::default(), &Kept { columns: columns(), rows }, &Completeness::default())
        }
    }
}

fn columns() -> Vec<ResultColumn> {
    let column = |name: &str, kind: ColumnKind| ResultColumn { name: name.to_owned(), kind: kind.into() };
    vec![column("metric", ColumnKind::Text), column("labels", ColumnKind::Text), column("value", ColumnKind::Real)]
}

/// `name{labels} value` or `name value`.
fn row(line: &str) -> Option<Vec<Cell>> {
    let (sample, value) = line.rsplit_once(' ')?;
    let (name, labels) = match sample.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (sample, ""),
    };
    let text = |text: &str| Some(cell::Value::Text(text.to_owned()));
    let value = Some(cell::Value::Real(value.parse().ok()?));
    Some([text(name), text(labels), value].map(|value| Cell { value }).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Script, shown};

    const TEXT: &str = "# HELP a_total Things.\n# TYPE a_total counter\na_total{sink=\"x y\"} 2\n# HELP b B.\nb 0.5\n";

    fn ask(text: &str, format: Option<OutputFormat>) -> (String, String, u8) {
        let mut script = Script::new(&[]);
        text.clone_into(&mut script.metrics);
        shown(80, async |screen| run(&script, format, screen).await)
    }

    #[test]
    fn the_text_comes_out_as_it_is() {
        assert_eq!(ask(TEXT, None), (TEXT.to_owned(), String::new(), 0));
        assert_eq!(ask(TEXT, Some(OutputFormat::Table)).0, TEXT);
    }

    #[test]
    fn programs_get_a_row_for_each_sample() {
        let (out, _, code) = ask(TEXT, Some(OutputFormat::Json));
        insta::assert_snapshot!(out, @r#"
        {"columns":["metric","labels","value"],"rows":[
        {"metric":"a_total","labels":"sink=\"x y\"","value":2.0},
        {"metric":"b","labels":"","value":0.5}
        ],"completeness":{"status":"complete","reasons":[]}}
        "#);
        assert_eq!(code, 0);
    }

    #[test]
    fn a_text_that_is_none_is_a_defect() {
        assert_eq!(ask("nonsense\n", Some(OutputFormat::Csv)).2, 70);
    }
}
