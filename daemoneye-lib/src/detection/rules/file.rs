//! One rule file: TOML to a [`Rule`], each mistake with its place.

use super::problem::RuleProblem;
use super::{Exception, Mode, Rule, Schedule};
use crate::detection::error::nearest;
use crate::models::catalog::Table;
use crate::models::columns::EVENT;
use crate::models::time;
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

/// Matches of the same process and image are the same alert, unless the rule says otherwise.
pub(in crate::detection) const DEFAULT_DEDUP: [&str; 2] = ["process_key", "executable_path"];
const DEFAULT_DEDUP_WINDOW: Duration = Duration::from_secs(3_600);
/// The longest duration that a rule may name.
const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);
/// A scheduled rule runs at least so often, unless it says otherwise.
const LONGEST_EVERY: Duration = Duration::from_secs(60);
/// And at most so often.
const SHORTEST_EVERY: Duration = Duration::from_secs(1);
/// The most exceptions of a rule.
const MAX_EXCEPTIONS: usize = 100;
const DAY: Duration = Duration::from_secs(86_400);

/// The keys of a rule file, those of its exceptions among them.
const KEYS: [&str; 22] = [
    "id",
    "title",
    "severity",
    "tags",
    "author",
    "description",
    "false_positives",
    "references",
    "license",
    "status",
    "date",
    "modified",
    "dedup",
    "dedup_window",
    "window",
    "every",
    "mode",
    "sql",
    "exceptions",
    "where",
    "reason",
    "expires",
];

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
    #[serde(default)]
    references: Vec<String>,
    #[serde(default)]
    license: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    date: String,
    #[serde(default)]
    modified: String,
    dedup: Option<Spanned<Vec<String>>>,
    dedup_window: Option<Spanned<String>>,
    window: Option<Spanned<String>>,
    every: Option<Spanned<String>>,
    mode: Option<Spanned<String>>,
    sql: Spanned<String>,
    #[serde(default)]
    exceptions: Vec<ExceptionTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExceptionTable {
    #[serde(rename = "where")]
    condition: Spanned<String>,
    reason: Spanned<String>,
    expires: Option<Spanned<toml::Value>>,
}

/// Where the SQL of a rule file stands.
pub(super) struct Places {
    pub(super) sql: TextPlace,
    pub(super) exceptions: Vec<TextPlace>,
}

/// Where a text stands in its file.
#[derive(Clone, Copy)]
pub(super) struct TextPlace {
    /// The byte of the file at which it begins.
    pub(super) begins: usize,
    /// Whether its lines are lines of the file.
    pub(super) spans_lines: bool,
}

/// Reads a rule file. Its SQL is looked at later.
pub(super) fn parse(file: &Path, source: &str) -> Result<(Rule, Places), RuleProblem> {
    let parsed: RuleFile = toml::from_str(source).map_err(|error| {
        let problem = RuleProblem::of_toml(file, source, &error);
        let unknown = error.message().strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        match unknown.and_then(|unknown| nearest(unknown, KEYS.into_iter())) {
            Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
            None => problem,
        }
    })?;
    let id = parsed.id.get_ref().clone();
    let reader = Reader { file, source, id: id.clone() };
    let is_id = id.len() <= 128
        && id.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !is_id {
        let message = format!("the id `{id}` is not of the form [a-z0-9][a-z0-9-]*");
        return Err(reader.wrong(parsed.id.span().start, message));
    }
    let severity = parsed.severity.get_ref().parse().map_err(|why| reader.wrong(parsed.severity.span().start, why))?;
    let dedup_window = reader.duration(parsed.dedup_window.as_ref())?.unwrap_or(DEFAULT_DEDUP_WINDOW);
    let schedule = reader.schedule(parsed.window.as_ref(), parsed.every.as_ref(), parsed.mode.as_ref())?;
    let dedup = match parsed.dedup {
        // What a scheduled rule's columns are, its query says.
        None if schedule.is_some() => Vec::new(),
        None => DEFAULT_DEDUP.map(str::to_owned).to_vec(),
        Some(dedup) => reader.dedup(dedup, schedule.is_some())?,
    };
    let mut places = Places { sql: text_place(source, parsed.sql.span().start), exceptions: Vec::new() };
    if parsed.exceptions.len() > MAX_EXCEPTIONS {
        let message = format!("the rule has {} exceptions; {MAX_EXCEPTIONS} are allowed", parsed.exceptions.len());
        return Err(reader.wrong(parsed.id.span().start, message).hint("say it in the query, or with a list"));
    }
    let mut exceptions = Vec::with_capacity(parsed.exceptions.len());
    for exception in parsed.exceptions {
        places.exceptions.push(text_place(source, exception.condition.span().start));
        exceptions.push(reader.exception(exception)?);
    }
    let rule = Rule {
        id,
        title: parsed.title,
        severity,
        tags: parsed.tags,
        author: parsed.author,
        description: parsed.description,
        false_positives: parsed.false_positives,
        references: parsed.references,
        license: parsed.license,
        status: parsed.status,
        date: parsed.date,
        modified: parsed.modified,
        dedup,
        dedup_window,
        schedule,
        exceptions,
        sql: parsed.sql.into_inner(),
        file: file.to_owned(),
    };
    Ok((rule, places))
}

/// What every mistake is told with.
struct Reader<'s> {
    file: &'s Path,
    source: &'s str,
    id: String,
}

impl Reader<'_> {
    fn wrong(&self, offset: usize, message: String) -> RuleProblem {
        let problem = RuleProblem { rule_id: Some(self.id.clone()), ..RuleProblem::of_file(self.file, message) };
        problem.at(self.source, offset)
    }

    fn duration(&self, text: Option<&Spanned<String>>) -> Result<Option<Duration>, RuleProblem> {
        text.map(|text| duration(text.get_ref()).map_err(|why| self.wrong(text.span().start, why))).transpose()
    }

    fn schedule(
        &self,
        window: Option<&Spanned<String>>,
        every: Option<&Spanned<String>>,
        mode: Option<&Spanned<String>>,
    ) -> Result<Option<Schedule>, RuleProblem> {
        let read_mode = match mode {
            None => Mode::All,
            Some(mode) => {
                [Mode::All, Mode::Diff].into_iter().find(|own| own.name() == mode.get_ref()).ok_or_else(|| {
                    self.wrong(mode.span().start, format!("unknown mode `{}`: use all or diff", mode.get_ref()))
                })?
            }
        };
        let Some(window_at) = window else {
            return match every.map(|text| ("every", text)).or(mode.map(|text| ("mode", text))) {
                None => Ok(None),
                Some((key, text)) => {
                    let message = format!("`{key}` is for rules that run on a schedule, which have a `window`");
                    Err(self.wrong(text.span().start, message).hint("add for example window = \"10m\""))
                }
            };
        };
        let window = self.duration(Some(window_at))?.unwrap_or_default();
        let given = self.duration(every)?;
        let default = (window / 10).clamp(SHORTEST_EVERY, LONGEST_EVERY);
        let every_at = every.unwrap_or(window_at).span().start;
        let every = given.unwrap_or(default);
        if every < SHORTEST_EVERY || window < every {
            let message = format!(
                "a rule runs at most once a second and sees everything once at least: `every` is {} s and `window` {} s",
                every.as_secs(),
                window.as_secs()
            );
            return Err(self.wrong(every_at, message).hint("let `window` be at least as long as `every`"));
        }
        Ok(Some(Schedule { window, every, mode: read_mode }))
    }

    /// Whether the table has them is known when the query is planned, as is everything of a scheduled rule.
    fn dedup(&self, dedup: Spanned<Vec<String>>, scheduled: bool) -> Result<Vec<String>, RuleProblem> {
        let tables = Table::ALL.into_iter().filter(|table| table.is_observed());
        let columns: Vec<_> = tables
            .flat_map(Table::columns)
            .filter(|(own, _)| !EVENT.iter().any(|column| column.name == *own))
            .collect();
        for name in dedup.get_ref().iter().filter(|_| !scheduled) {
            if !columns.iter().any(|(column, _)| column == name) {
                let message = format!("`dedup` names `{name}`, which is no column of what collectors see");
                let problem = self.wrong(dedup.span().start, message);
                return Err(match nearest(name, columns.iter().map(|(column, _)| *column)) {
                    Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
                    None => problem,
                });
            }
        }
        Ok(dedup.into_inner())
    }

    fn exception(&self, table: ExceptionTable) -> Result<Exception, RuleProblem> {
        if table.reason.get_ref().trim().is_empty() {
            let problem = self.wrong(table.reason.span().start, "the reason of an exception is empty".to_owned());
            return Err(problem.hint("say why these rows are no matches, and who decided it"));
        }
        let (expires, until) = match &table.expires {
            None => (None, None),
            Some(value) => {
                let text = match value.get_ref() {
                    toml::Value::Datetime(at) if at.time.is_none() => at.to_string(),
                    toml::Value::String(text) if text.len() == 10 => text.clone(),
                    _ => String::new(),
                };
                let begins = time::parse(&text).filter(|_| text.len() == 10).ok_or_else(|| {
                    self.wrong(value.span().start, "`expires` is no date".to_owned()).hint("write expires = 2027-01-31")
                })?;
                let day = i64::try_from(DAY.as_nanos()).unwrap_or(i64::MAX);
                (Some(text), Some(begins.saturating_add(day)))
            }
        };
        Ok(Exception { condition: table.condition.into_inner(), reason: table.reason.into_inner(), expires, until })
    }
}

/// Where a TOML string's text begins, behind its quotes and behind the newline that a multi-line string drops.
fn text_place(source: &str, start: usize) -> TextPlace {
    let text = source.get(start..).unwrap_or_default();
    for quotes in ["\"\"\"", "'''"] {
        if let Some(rest) = text.strip_prefix(quotes) {
            let newline = if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
            return TextPlace { begins: start + quotes.len() + newline, spans_lines: true };
        }
    }
    TextPlace { begins: start + 1, spans_lines: false }
}

/// `90s`, `10m`, `1h`, `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
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
    if duration > MAX_DURATION { Err(usage()) } else { Ok(duration) }
}
