//! `query`: SQL from an argument, a file or stdin.

use crate::executor::{Query, QueryExecutor, fetch};
use crate::failure::{Failure, Kind};
use crate::output::{Outcome, Screen, Style};
use crate::parameters;
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::detection::MAX_SQL_BYTES;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The question; `-` reads it from stdin
    #[arg(required_unless_present = "file", conflicts_with = "file", allow_hyphen_values = true)]
    sql: Option<String>,
    /// Read the question from this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A value for the next `?`, or for `:NAME` where the SQL has it
    #[arg(long, value_name = "[NAME=]VALUE", allow_hyphen_values = true)]
    param: Vec<String>,
    /// At most so many rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_rows: Option<u64>,
    /// How long the query may take, as in `500ms`, `10s`, `2m`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

impl Arguments {
    /// The question in full.
    pub(crate) fn read(&self, stdin: &mut dyn Read) -> Result<Query, Failure> {
        let sql = match (&self.file, self.sql.as_deref()) {
            (Some(path), _) => {
                let what = path.display().to_string();
                let mut file = File::open(path)
                    .map_err(|error| Failure::new(Kind::Failed, format!("cannot read {what}: {error}")))?;
                bounded(&mut file, &what)?
            }
            (None, Some("-")) => bounded(stdin, "stdin")?,
            (None, sql) => sql.unwrap_or_default().to_owned(),
        };
        // The agent would refuse it too.
        if sql.len() > MAX_SQL_BYTES {
            let message = format!("the SQL has more than {MAX_SQL_BYTES} bytes");
            return Err(Failure::new(Kind::Refused, message).hint("put long lists of values into parameters"));
        }
        Ok(Query { sql, max_rows: self.max_rows, timeout: self.timeout, explain: false })
    }

    /// The values that were given for its parameters.
    pub(crate) fn given(&self) -> &[String] {
        &self.param
    }

    /// Asks it.
    pub(crate) async fn run(
        &self,
        executor: &impl QueryExecutor,
        query: Query,
        format: OutputFormat,
        screen: &mut Screen<'_>,
    ) -> Result<Outcome, Failure> {
        let parameters = parameters::bind(&query.sql, &self.param);
        let completeness = fetch(executor, &query, parameters, &mut *screen.sheet(format, Style::default())).await?;
        screen.conclude(format, &completeness)
    }
}

/// Reads one byte more than is allowed at most, so that what is too long is seen to be.
fn bounded(source: &mut dyn Read, what: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let limit = MAX_SQL_BYTES as u64 + 1;
    source
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(Kind::Failed, format!("cannot read {what}: {error}")))?;
    // A character that the limit cut in two does not matter: the text is too long anyway.
    if bytes.len() > MAX_SQL_BYTES {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|_| Failure::new(Kind::Refused, format!("the SQL in {what} is not UTF-8 text")))
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("it needs a unit: ms, s, m or h".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "it needs a whole number before the unit".to_owned())?;
    let day = Duration::from_secs(86_400);
    let time = number.checked_mul(unit).map(Duration::from_millis).filter(|time| !time.is_zero() && *time <= day);
    time.ok_or_else(|| "it must be more than nothing and at most a day".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Script, integer, shown, text};
    use clap::{Args, FromArgMatches};
    use daemoneye_lib::proto::ipc::ColumnKind;

    fn arguments(words: &[&str]) -> Arguments {
        let command = Arguments::augment_args(clap::Command::new("query"));
        let matches = command.try_get_matches_from([&["query"], words].concat()).unwrap();
        Arguments::from_arg_matches(&matches).unwrap()
    }

    fn script() -> Script {
        Script::new(&[("pid", ColumnKind::Integer), ("name", ColumnKind::Text), ("pid", ColumnKind::Integer)])
            .row([integer(1), text("init"), integer(7)])
            .row([integer(4711), text("ba\x1b[31md\n"), None])
    }

    fn ask(script: &Script, format: OutputFormat) -> (String, String, u8) {
        let arguments = arguments(&["SELECT pid, name, pid FROM processes"]);
        let query = arguments.read(&mut std::io::empty()).unwrap();
        shown(80, async |screen| arguments.run(script, query, format, screen).await)
    }

    #[test]
    fn a_table_is_aligned_and_harmless() {
        let (out, err, code) = ask(&script(), OutputFormat::Table);
        insta::assert_snapshot!(out, @r"
         pid  name             pid:1
           1  init                 7
        4711  ba\u{1b}[31md\n
        ");
        assert_eq!((err.as_str(), code), ("", 0));
    }

    #[test]
    fn json_is_one_document_with_its_completeness() {
        let (out, err, code) = ask(&script().degraded("polling since 10:00"), OutputFormat::Json);
        insta::assert_snapshot!(out, @r#"
        {"columns":["pid","name","pid:1"],"rows":[
        {"pid":1,"name":"init","pid:1":7},
        {"pid":4711,"name":"ba\u001b[31md\n","pid:1":null}
        ],"completeness":{"status":"degraded","reasons":["polling since 10:00"]}}
        "#);
        assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok());
        assert_eq!((err.as_str(), code), ("", 3));
    }

    #[test]
    fn json_lines_and_csv_carry_rows_only() {
        let (out, err, code) = ask(&script().degraded("polling since 10:00"), OutputFormat::Jsonl);
        insta::assert_snapshot!(out, @r#"
        {"pid":1,"name":"init","pid:1":7}
        {"pid":4711,"name":"ba\u001b[31md\n","pid:1":null}
        "#);
        assert_eq!((err.as_str(), code), ("completeness: degraded: polling since 10:00\n", 3));
        let (out, err, code) = ask(&script(), OutputFormat::Csv);
        assert_eq!(out, "pid,name,pid:1\r\n1,init,7\r\n4711,\"ba\x1b[31md\n\",\r\n");
        assert_eq!((err.as_str(), code), ("completeness: complete\n", 0));
    }

    #[test]
    fn no_rows_are_an_answer_in_every_format() {
        let nothing = Script::new(&[("pid", ColumnKind::Integer)]);
        let out = |format| ask(&nothing, format).0;
        assert_eq!(out(OutputFormat::Table), "pid\n");
        assert_eq!(out(OutputFormat::Csv), "pid\r\n");
        assert_eq!(out(OutputFormat::Jsonl), "");
        let document: serde_json::Value = serde_json::from_str(&out(OutputFormat::Json)).unwrap();
        assert_eq!(document["rows"], serde_json::json!([]));
    }

    #[test]
    fn an_answer_that_breaks_off_is_no_document_and_a_failure() {
        for script in [script().cut_off(), script().broken()] {
            let (out, err, code) = ask(&script, OutputFormat::Json);
            assert!(out.contains("4711") && serde_json::from_str::<serde_json::Value>(&out).is_err(), "{out}");
            assert!(err.starts_with("error: "), "{err}");
            assert_eq!(code, 1);
        }
    }

    #[test]
    fn a_row_that_does_not_fit_is_a_defect_of_ours() {
        let (_, err, code) = ask(&script().row([integer(1)]), OutputFormat::Jsonl);
        assert_eq!((err.as_str(), code), ("error: the agent sent a row that does not fit its answer\n", 70));
    }

    #[test]
    fn columns_that_do_not_fit_become_blocks() {
        let columns: Vec<(String, ColumnKind)> = (0..20).map(|n| (format!("column_{n}"), ColumnKind::Text)).collect();
        let columns: Vec<_> = columns.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        let script = Script::new(&columns).row((0..20).map(|_| text(&"x".repeat(90))).collect::<Vec<_>>());
        let (out, _, _) = ask(&script, OutputFormat::Table);
        assert!(out.starts_with("── row 1 ──\ncolumn_0   xxxx"), "{out}");
        assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    }

    #[test]
    fn sql_comes_from_an_argument_a_file_or_stdin() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("q.sql");
        std::fs::write(&path, "SELECT 2").unwrap();
        let read = |words: &[&str], stdin: &[u8]| arguments(words).read(&mut &*stdin).map(|query| query.sql);
        assert_eq!(read(&["SELECT 1"], b"").unwrap(), "SELECT 1");
        assert_eq!(read(&["-- hi\nSELECT 1"], b"").unwrap(), "-- hi\nSELECT 1");
        assert_eq!(read(&["-"], b"SELECT 3").unwrap(), "SELECT 3");
        assert_eq!(read(&["--file", path.to_str().unwrap()], b"").unwrap(), "SELECT 2");
        assert_eq!(read(&["-"], b"\xff").unwrap_err().kind, Kind::Refused);
        assert_eq!(read(&["-"], &[b' '; MAX_SQL_BYTES + 9]).unwrap_err().kind, Kind::Refused);
        assert_eq!(read(&["--file", "/none"], b"").unwrap_err().kind, Kind::Failed);
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "10", "s", "0s", "-1s", "1.5s", "25h", "99999999999999999999h", "10parsecs"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
