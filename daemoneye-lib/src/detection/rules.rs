//! Rule files: reading them, and saying exactly what is wrong with one.

use super::engine::CompiledRule;
use super::error::{Refusal, nearest};
use crate::proto::common::Severity;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// The largest rule file.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// The most rule files of a directory.
const MAX_FILES: usize = 10_000;
/// Directories within directories.
const MAX_DEPTH: usize = 16;
/// Matches of the same process and image are the same alert, unless the rule says otherwise.
const DEFAULT_DEDUP: [&str; 2] = ["process_key", "executable_path"];
const DEFAULT_DEDUP_WINDOW: Duration = Duration::from_secs(3_600);
const MAX_DEDUP_WINDOW: Duration = Duration::from_secs(366 * 86_400);

/// A standing query with its metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Stable name.
    pub id: String,
    /// For people.
    pub title: String,
    /// How bad a match is.
    pub severity: Severity,
    /// ATT&CK techniques and the like.
    pub tags: Vec<String>,
    /// Who wrote it; travels into the alert.
    pub author: String,
    /// What it looks for and why.
    pub description: String,
    /// Harmless things that match it.
    pub false_positives: Vec<String>,
    /// Columns that make two matches the same alert.
    pub dedup: Vec<String>,
    /// For how long they do.
    pub dedup_window: Duration,
    /// The query.
    pub sql: String,
    /// Where it was read from.
    pub file: PathBuf,
}

/// What is wrong with a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleProblem {
    /// Which file.
    pub file: PathBuf,
    /// The rule's id, as far as it could be read.
    pub rule_id: Option<String>,
    /// Line in the file, from 1; 0 where the problem has no place.
    pub line: u64,
    /// Column in the line, in characters from 1.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// What loading found: every rule that can run, and every file that cannot.
#[derive(Default)]
pub struct LoadOutcome {
    /// Compiled rules, by id.
    pub rules: Vec<CompiledRule>,
    /// Files that are refused.
    pub problems: Vec<RuleProblem>,
}

/// Loads every `*.toml` below a directory.
///
/// # Errors
/// When the directory itself cannot be read; what is wrong with a file is part of the outcome.
pub async fn load_dir(directory: &Path) -> io::Result<LoadOutcome> {
    load_files(&rule_files(directory)?).await
}

/// Loads one rule file.
///
/// # Errors
/// Never by itself: what is wrong with the file is part of the outcome.
pub async fn load_file(file: &Path) -> io::Result<LoadOutcome> {
    load_files(&[file.to_owned()]).await
}

/// Loads rule files; of two with the same id, the second is refused.
///
/// # Errors
/// When the engine cannot be set up.
pub async fn load_files(files: &[PathBuf]) -> io::Result<LoadOutcome> {
    let compiler = super::engine::Compiler::new().map_err(io::Error::other)?;
    let mut outcome = LoadOutcome::default();
    let mut ids: BTreeMap<String, PathBuf> = BTreeMap::new();
    for file in files {
        let source = match read(file) {
            Ok(source) => source,
            Err(error) => {
                outcome.problems.push(RuleProblem::of_file(file, format!("cannot be read: {error}")));
                continue;
            }
        };
        let (rule, sql_at) = match parse(file, &source) {
            Ok(parsed) => parsed,
            Err(problem) => {
                outcome.problems.push(problem);
                continue;
            }
        };
        if let Some(first) = ids.get(&rule.id) {
            let message = format!("the id `{}` is already taken by {}", rule.id, first.display());
            let problem = RuleProblem { rule_id: Some(rule.id), ..RuleProblem::of_file(file, message) };
            outcome.problems.push(problem.hint("give one of them another id, or remove it"));
            continue;
        }
        ids.insert(rule.id.clone(), file.clone());
        let id = rule.id.clone();
        match compiler.compile(rule).await {
            Ok(rule) => outcome.rules.push(rule),
            Err(refusal) => outcome.problems.push(RuleProblem::of_query(file, &source, id, sql_at, refusal)),
        }
    }
    outcome.rules.sort_by(|a, b| a.rule.id.cmp(&b.rule.id));
    Ok(outcome)
}

impl RuleProblem {
    fn of_file(file: &Path, message: String) -> Self {
        Self { file: file.to_owned(), rule_id: None, line: 0, column: 0, message, hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn at(mut self, source: &str, offset: usize) -> Self {
        (self.line, self.column) = place(source, offset);
        self
    }

    /// A refusal of the query, with its place in the file.
    fn of_query(file: &Path, source: &str, id: String, sql: QueryPlace, refusal: Refusal) -> Self {
        let mut problem = Self::of_file(file, refusal.message);
        problem.rule_id = Some(id);
        problem.hint = refusal.hint;
        (problem.line, problem.column) = place(source, sql.begins);
        match refusal.line {
            0 => {}
            1 => problem.column += refusal.column.saturating_sub(1),
            later if sql.spans_lines => (problem.line, problem.column) = (problem.line + later - 1, refusal.column),
            // The lines of the query are escapes within one line of the file.
            _ => {}
        }
        problem
    }
}

impl std::fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

/// Line and column, both from 1, of a byte of the text.
fn place(source: &str, offset: usize) -> (u64, u64) {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (line as u64, column as u64)
}

/// Every `*.toml` below a directory, in order of their paths; links to directories are not followed.
fn rule_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut directories = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if kind.is_dir() && depth < MAX_DEPTH && !hidden {
                directories.push((path, depth + 1));
            } else if !kind.is_dir() && !hidden && path.extension().is_some_and(|extension| extension == "toml") {
                files.insert(path);
            }
            if files.len() > MAX_FILES {
                return Err(io::Error::other(format!(
                    "more than {MAX_FILES} rule files below {}",
                    directory.display()
                )));
            }
        }
    }
    Ok(files.into_iter().collect())
}

fn read(file: &Path) -> io::Result<String> {
    // Before it is opened: opening a pipe would wait for somebody to write.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    fs::File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

/// The keys of a rule file.
const KEYS: [&str; 10] =
    ["id", "title", "severity", "tags", "author", "description", "false_positives", "dedup", "dedup_window", "sql"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    id: Spanned<String>,
    title: String,
    severity: Spanned<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    author: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    false_positives: Vec<String>,
    dedup: Option<Spanned<Vec<String>>>,
    dedup_window: Option<Spanned<String>>,
    sql: Spanned<String>,
}

/// Where the query stands in its file.
#[derive(Clone, Copy)]
struct QueryPlace {
    /// The byte of the file at which its text begins.
    begins: usize,
    /// Whether its lines are lines of the file.
    spans_lines: bool,
}

fn parse(file: &Path, source: &str) -> Result<(Rule, QueryPlace), RuleProblem> {
    let parsed: RuleFile = toml::from_str(source).map_err(|error| {
        let problem = RuleProblem::of_file(file, error.message().to_owned());
        let problem = match error.span() {
            Some(span) => problem.at(source, span.start),
            None => problem,
        };
        let unknown = error.message().strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        match unknown.and_then(|unknown| nearest(unknown, KEYS.into_iter())) {
            Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
            None => problem,
        }
    })?;
    let id = parsed.id.get_ref().clone();
    let wrong = |offset: usize, message: String| {
        RuleProblem { rule_id: Some(id.clone()), ..RuleProblem::of_file(file, message) }.at(source, offset)
    };
    let is_id = id.len() <= 128
        && id.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !is_id {
        let message = format!("the id `{id}` is not of the form [a-z0-9][a-z0-9-]*");
        return Err(wrong(parsed.id.span().start, message));
    }
    let severity = parsed.severity.get_ref().parse().map_err(|why| wrong(parsed.severity.span().start, why))?;
    let dedup_window = match &parsed.dedup_window {
        None => DEFAULT_DEDUP_WINDOW,
        Some(text) => duration(text.get_ref()).map_err(|why| wrong(text.span().start, why))?,
    };
    let columns = crate::models::catalog::Table::Processes.columns();
    let dedup = match &parsed.dedup {
        None => DEFAULT_DEDUP.map(str::to_owned).to_vec(),
        Some(dedup) => {
            for name in dedup.get_ref() {
                if !columns.iter().any(|(column, _)| column == name) {
                    let problem =
                        wrong(dedup.span().start, format!("`dedup` names `{name}`, which is no column of a process"));
                    return Err(match nearest(name, columns.iter().map(|(column, _)| *column)) {
                        Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
                        None => problem,
                    });
                }
            }
            dedup.get_ref().clone()
        }
    };
    let place = query_place(source, parsed.sql.span().start);
    let rule = Rule {
        id,
        title: parsed.title,
        severity,
        tags: parsed.tags,
        author: parsed.author,
        description: parsed.description,
        false_positives: parsed.false_positives,
        dedup,
        dedup_window,
        sql: parsed.sql.into_inner(),
        file: file.to_owned(),
    };
    Ok((rule, place))
}

/// Where a TOML string's text begins, behind its quotes and behind the newline that a multi-line string drops.
fn query_place(source: &str, start: usize) -> QueryPlace {
    let text = source.get(start..).unwrap_or_default();
    for quotes in ["\"\"\"", "'''"] {
        if let Some(rest) = text.strip_prefix(quotes) {
            let newline = if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
            return QueryPlace { begins: start + quotes.len() + newline, spans_lines: true };
        }
    }
    QueryPlace { begins: start + 1, spans_lines: false }
}

/// `90s`, `10m`, `1h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let usage = || format!("`{text}` is not a duration: write for example 90s, 10m, 1h or 7d, at most 366d");
    let unit = text.chars().last().ok_or_else(usage)?;
    let number: u64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(usage)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(usage()),
    };
    let duration = Duration::from_secs(number.checked_mul(seconds).ok_or_else(usage)?);
    if duration > MAX_DEDUP_WINDOW { Err(usage()) } else { Ok(duration) }
}
