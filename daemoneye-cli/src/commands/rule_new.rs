//! `rules new`: a rule file with everything in its place, checked before it is written, and an empty golden case beside it.

use crate::failure::{Failure, Kind};
use crate::output::{Kept, Outcome, Screen, Style, text_columns};
use clap::builder::PossibleValuesParser;
use daemoneye_lib::alerting::golden::{ALERTS, EVENTS};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::detection::rules::{lists_beside, load_text};
use daemoneye_lib::proto::ipc::{Cell, Completeness, cell};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A query to begin with.
const TEMPLATE: &str = "SELECT process_key, pid, name, executable_path, command_line, user, parent_name
FROM processes.events
WHERE event_type IN ('exec', 'seen')
  AND name = 'replace-this'";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The new rule's id, of a-z, 0-9 and hyphens
    id: String,
    /// Its query; without one a query to begin with
    #[arg(long, value_name = "SQL")]
    sql: Option<String>,
    /// One line for whoever reads the alert
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// How bad a match is
    #[arg(long, default_value = "medium", value_parser = PossibleValuesParser::new(["low", "medium", "high", "critical"]))]
    severity: String,
    /// Who wrote it
    #[arg(long, value_name = "NAME", default_value = "")]
    author: String,
    /// Makes it a scheduled rule that looks so far back, as in `10m`
    #[arg(long, value_name = "TIME")]
    window: Option<String>,
    /// The rules directory in which the rule gets a directory of its own
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

pub(crate) async fn run(
    arguments: &Arguments,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let directory = arguments.dir.join(&arguments.id);
    let file = directory.join("rule.toml");
    let text = rule(arguments);
    let lists = match lists_beside(&file) {
        None => String::new(),
        Some(lists) => fs::read_to_string(&lists).map_err(|error| cannot("read", &lists, &error))?,
    };
    load_text(Path::new("rule.toml"), &text, &lists)
        .await
        .map_err(|problem| Failure::new(Kind::Refused, problem.message).hint(problem.hint.unwrap_or_default()))?;
    match fs::create_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let message = format!("{} is there already", directory.display());
            return Err(Failure::new(Kind::Failed, message).hint("choose another id"));
        }
        made => made.map_err(|error| cannot("make", &directory, &error))?,
    }
    // The rule last: an agent that watches the directory finds it whole.
    for (path, text) in [(directory.join(EVENTS), ""), (directory.join(ALERTS), ""), (file, text.as_str())] {
        fs::write(&path, text).map_err(|error| cannot("write", &path, &error))?;
    }
    let row = [&arguments.id, &directory.display().to_string()];
    let row = row.map(|text| Cell { value: Some(cell::Value::Text(text.clone())) });
    let rows = Kept { columns: text_columns(&["rule_id", "directory"]), rows: vec![row.to_vec()] };
    screen.print(format, Style::default(), &rows, &Completeness::default())
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(Kind::Failed, format!("cannot {what} {}: {error}", path.display()))
}

fn rule(arguments: &Arguments) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let title = arguments.title.as_deref().unwrap_or(&arguments.id);
    let sql = arguments.sql.as_deref().unwrap_or(TEMPLATE).trim();
    let window = arguments.window.as_deref().map(|window| format!("window = {}\n", quoted(window)));
    // Three quotes of this kind cannot stand in SQL but at the cost of the string.
    let sql = if sql.contains("'''") || sql.contains('\r') { quoted(sql) } else { format!("'''\n{sql}\n'''") };
    format!(
        "id = {}\ntitle = {}\nseverity = {}\ntags = []\nauthor = {}\ndescription = \"\"\"\nWhat it looks for, and what its silence \
         does not mean.\n\"\"\"\nfalse_positives = []\n{}sql = {sql}\n",
        quoted(&arguments.id),
        quoted(title),
        quoted(&arguments.severity),
        quoted(&arguments.author),
        window.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::rule_test;
    use crate::scripted::shown;

    fn arguments(id: &str, sql: Option<&str>, dir: &Path) -> Arguments {
        Arguments {
            id: id.to_owned(),
            sql: sql.map(str::to_owned),
            title: Some("A \"quoted\" title".to_owned()),
            severity: "low".to_owned(),
            author: String::new(),
            window: None,
            dir: dir.to_owned(),
        }
    }

    fn made(arguments: &Arguments) -> (String, String, u8) {
        shown(100, async |screen| run(arguments, OutputFormat::Csv, screen).await)
    }

    #[test]
    fn a_new_rule_is_valid_and_its_empty_case_holds() {
        let directory = tempfile::tempdir().unwrap();
        for (id, sql) in [("a", None), ("b", Some("SELECT pid FROM processes.events WHERE name REGEXP '^x\\.y''''z$'"))]
        {
            let (_, err, code) = made(&arguments(id, sql, directory.path()));
            assert_eq!((err.as_str(), code), ("completeness: complete\n", 0));
        }
        let tried = rule_test::tried(&[directory.path().to_owned()]);
        assert_eq!(tried.matches(",passed,").count(), 2, "{tried}");
        let (_, err, code) = made(&arguments("a", None, directory.path()));
        assert!(err.contains("is there already") && code == 1, "{err}");
    }

    #[test]
    fn what_would_be_refused_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        for (id, sql, message) in [
            ("Big", None, "the id `Big` is not of the form"),
            ("../up", None, "is not of the form"),
            ("c", Some("SELECT naem FROM processes.events"), "no such column: naem"),
            ("c", Some("SELECT count(*) FROM processes.events"), "without `window`"),
        ] {
            let (_, err, code) = made(&arguments(id, sql, directory.path()));
            assert!(err.contains(message), "{err}");
            assert_eq!(code, 5);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
