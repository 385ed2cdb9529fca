//! Why a statement is not run.

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Span, TokenizerError};
use std::fmt;

/// What the engine knows as conditions only.
pub(super) const MISPLACED_QUERY: &str = "EXISTS and IN (SELECT …)";

/// A statement that is refused, with its place and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, with the thing's name.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Line in the statement, from 1; 0 where it has no place.
    pub line: u64,
    /// Column in the line, in characters from 1.
    pub column: u64,
}

impl Refusal {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, line: 0, column: 0 }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn at(self, span: Span) -> Self {
        self.at_location(span.start)
    }

    /// A place that is known already stays: it is nearer to the cause.
    pub(super) fn at_location(mut self, place: Location) -> Self {
        if self.line == 0 {
            (self.line, self.column) = (place.line, place.column);
        }
        self
    }

    pub(super) fn from_tokenizer(error: TokenizerError) -> Self {
        Self::new(format!("syntax error: {}", error.message)).at_location(error.location)
    }

    pub(super) fn from_parser(error: ParserError) -> Self {
        match error {
            ParserError::RecursionLimitExceeded => Self::new("the statement is nested too deeply")
                .hint("write it with fewer nested parentheses and sub-queries"),
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                let (message, place) = split_place(&text);
                Self::new(format!("syntax error: {message}")).at_location(place)
            }
        }
    }

    /// From the planner. Names of fields that it does not know are mended by the caller, who knows where they stand.
    pub(super) fn from_planner(error: &DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
                SchemaError::FieldNotFound { field, valid_fields } => {
                    let name = &field.name;
                    let nearest = nearest(name, valid_fields.iter().map(|field| field.name.as_str()));
                    let refusal = Self::new(format!("no such column: {}", field.flat_name().replace('"', "")));
                    match nearest {
                        Some(nearest) => refusal.hint(format!("did you mean `{nearest}`?")),
                        None => refusal.hint(format!(
                            "columns here: {}",
                            some_of(valid_fields.iter().map(|field| field.name.as_str()))
                        )),
                    }
                }
                SchemaError::AmbiguousReference { field } => {
                    Self::new(format!("the column name `{}` is ambiguous", field.name))
                        .hint("write it with its table: table.column")
                }
                other => Self::new(other.to_string()),
            },
            DataFusionError::NotImplemented(text) if text.contains("Exists(") || text.contains("InSubquery(") => {
                Self::new(format!("{MISPLACED_QUERY} are conditions: they can stand in WHERE and HAVING alone"))
                    .hint("join the table, or compare with (SELECT count(*) …)")
            }
            DataFusionError::Plan(text) | DataFusionError::NotImplemented(text) => Self::new(first_line(text)),
            other => Self::new(first_line(&other.to_string())),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn some_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.filter(|name| !name.starts_with("__")).take(60).collect();
    names.join(", ")
}

/// sqlparser writes the place into its message: `… at Line: 1, Column: 5`.
fn split_place(text: &str) -> (&str, Location) {
    let Some((message, place)) = text.rsplit_once(" at Line: ") else { return (text, Location::empty()) };
    let Some((line, column)) = place.split_once(", Column: ") else { return (text, Location::empty()) };
    match (line.trim().parse(), column.trim().parse()) {
        (Ok(line), Ok(column)) => (message, Location { line, column }),
        _ => (text, Location::empty()),
    }
}

/// The name that was probably meant.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(name.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if self.line > 0 {
            write!(f, " (line {}, column {})", self.line, self.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
