//! `rules validate`: checks rule files as the agent would load them, without one.

use crate::caret;
use crate::failure::{Failure, Kind};
use crate::output::{Kept, Outcome, Screen, Style, text_columns};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::detection::rules::{LoadOutcome, RuleProblem, load_path};
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, Completeness, ResultColumn, cell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A row for each rule, with what is wrong with it; people get the refusals below, with their places.
pub(crate) async fn run(paths: &[PathBuf], format: OutputFormat, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    let found = load_all(paths).await?;
    let rows = rows(&found);
    if format == OutputFormat::Table {
        let columns = ["rule_id", "status", "file"];
        let rows = Kept { columns: text_columns(&columns), rows: rows.rows.into_iter().map(short).collect() };
        screen.print(format, Style::default(), &rows, &Completeness::default())?;
        for problem in &found.problems {
            explain(problem, screen.width).print(screen.err);
        }
    } else {
        screen.print(format, Style::default(), &rows, &Completeness::default())?;
    }
    Ok(if found.problems.is_empty() { Outcome::Done } else { Outcome::Refused })
}

/// What all the paths hold; an id that two files have is refused in the second.
pub(super) async fn load_all(paths: &[PathBuf]) -> Result<LoadOutcome, Failure> {
    let mut found = LoadOutcome::default();
    for path in paths {
        let LoadOutcome { rules, problems } = load(path).await?;
        found.rules.extend(rules);
        found.problems.extend(problems);
    }
    refuse_duplicates(&mut found);
    Ok(found)
}

async fn load(path: &Path) -> Result<LoadOutcome, Failure> {
    let unreadable = |error| Failure::new(Kind::Failed, format!("cannot read {}: {error}", path.display()));
    path.metadata().map_err(unreadable)?;
    let found = load_path(path).await.map_err(unreadable)?;
    if found.rules.is_empty() && found.problems.is_empty() {
        return Err(Failure::new(Kind::Failed, format!("no *.toml is below {}", path.display())));
    }
    Ok(found)
}

/// Paths are loaded one by one, so an id that two of them have is seen only here. A file that was named twice is one file.
fn refuse_duplicates(found: &mut LoadOutcome) {
    let mut files: HashMap<String, PathBuf> = HashMap::new();
    let mut problems = Vec::new();
    found.rules.retain(|compiled| {
        let rule = &compiled.rule;
        let Some(first) = files.insert(rule.id.clone(), rule.file.clone()) else { return true };
        if first != rule.file {
            problems.push(RuleProblem::duplicate(&rule.file, &rule.id, &first));
        }
        false
    });
    found.problems.append(&mut problems);
}

fn rows(found: &LoadOutcome) -> Kept {
    let text = |text: &str| Cell { value: Some(cell::Value::Text(text.to_owned())) };
    let optional = |value: Option<&str>| value.map(text).unwrap_or_default();
    // A place that is not known is NULL.
    let number = |number: u64| Cell { value: i64::try_from(number).ok().filter(|n| *n > 0).map(cell::Value::Integer) };
    let path = |path: &Path| text(&path.to_string_lossy());
    let mut columns = text_columns(&["rule_id", "status", "file", "line", "column", "message", "hint"]);
    let place = |column: &&mut ResultColumn| matches!(column.name.as_str(), "line" | "column");
    columns.iter_mut().filter(place).for_each(|column| column.set_kind(ColumnKind::Integer));
    let valid = found.rules.iter().map(|compiled| {
        let rule = &compiled.rule;
        vec![
            text(&rule.id),
            text("valid"),
            path(&rule.file),
            Cell::default(),
            Cell::default(),
            Cell::default(),
            Cell::default(),
        ]
    });
    let refused = found.problems.iter().map(|problem| {
        let (line, column) = (number(problem.line), number(problem.column));
        let (id, hint) = (optional(problem.rule_id.as_deref()), optional(problem.hint.as_deref()));
        vec![id, text("refused"), path(&problem.file), line, column, text(&problem.message), hint]
    });
    let rows = valid.chain(refused).collect();
    Kept { columns, rows }
}

fn short(mut row: Vec<Cell>) -> Vec<Cell> {
    row.truncate(3);
    row
}

/// A refusal as an error with its place in the file.
fn explain(problem: &RuleProblem, width: usize) -> Failure {
    let (line, column) = (u32::try_from(problem.line).unwrap_or(0), u32::try_from(problem.column).unwrap_or(0));
    let place = if line > 0 { format!(":{line}:{column}") } else { String::new() };
    // The file was read a moment ago; should it be gone by now, there is no excerpt.
    let text = std::fs::read_to_string(&problem.file).unwrap_or_default();
    Failure::new(Kind::Refused, format!("{}{place}: {}", problem.file.display(), problem.message))
        .excerpt(caret::excerpt(&text, line, column, width))
        .hint(problem.hint.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::shown;
    use std::fs;
    use tempfile::TempDir;

    fn rule(id: &str, sql: &str) -> String {
        format!(
            "id = \"{id}\"\ntitle = \"T\"\nseverity = \"high\"\nauthor = \"A\"\ndescription = \"D\"\nfalse_positives = []\n\
             tags = []\nsql = \"\"\"\n{sql}\n\"\"\"\n"
        )
    }

    const GOOD: &str = "SELECT process_key, pid, name, executable_path FROM processes.events\nWHERE event_type IN ('exec','seen') AND name = 'nc'";

    fn check(directory: &TempDir, paths: &[&str], format: OutputFormat) -> (String, String, u8) {
        let paths: Vec<_> = paths.iter().map(|path| directory.path().join(path)).collect();
        let (out, err, code) = shown(100, async |screen| run(&paths, format, screen).await);
        let hide = |text: String| text.replace(&format!("{}/", directory.path().display()), "");
        (hide(out), hide(err), code)
    }

    #[test]
    fn valid_rules_are_done() {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("a.toml"), rule("a", GOOD)).unwrap();
        let (out, err, code) = check(&directory, &["a.toml"], OutputFormat::Csv);
        assert_eq!(out, "rule_id,status,file,line,column,message,hint\r\na,valid,a.toml,,,,\r\n", "{err}");
        assert_eq!(code, 0);
    }

    #[test]
    fn a_refused_rule_shows_its_place_in_the_file() {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("a.toml"), rule("a", GOOD)).unwrap();
        fs::write(directory.path().join("b.toml"), rule("b", &GOOD.replace("name = ", "nmae = "))).unwrap();
        let (out, err, code) = check(&directory, &[""], OutputFormat::Table);
        assert!(out.contains("valid") && out.contains("refused"), "{out}");
        insta::assert_snapshot!(err, @r"
        error: b.toml:10:41: no such column: nmae
           |
        10 | WHERE event_type IN ('exec','seen') AND nmae = 'nc'
           |                                         ^
        hint: did you mean `name`?
        ");
        assert_eq!(code, 5);
    }

    #[test]
    fn an_id_is_taken_across_paths_too() {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("a.toml"), rule("a", GOOD)).unwrap();
        fs::write(directory.path().join("b.toml"), rule("a", GOOD)).unwrap();
        let (_, err, code) = check(&directory, &["a.toml", "b.toml"], OutputFormat::Table);
        insta::assert_snapshot!(err, @r"
        error: b.toml: the id `a` is already taken by a.toml
        hint: give one of them another id, or remove it
        ");
        assert_eq!(code, 5);
        assert_eq!(check(&directory, &["a.toml", "a.toml"], OutputFormat::Table).2, 0);
    }

    #[test]
    fn nothing_to_check_is_a_failure() {
        let directory = TempDir::new().unwrap();
        assert_eq!(check(&directory, &["none"], OutputFormat::Table).2, 1);
        let (_, err, code) = check(&directory, &[""], OutputFormat::Table);
        assert!(err.starts_with("error: no *.toml is below"), "{err}");
        assert_eq!(code, 1);
    }
}
