//! What is wrong with a rule file, and where.

use super::file::TextPlace;
use crate::detection::error::Refusal;
use std::fmt;
use std::path::{Path, PathBuf};

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

impl RuleProblem {
    pub(super) fn of_file(file: &Path, message: String) -> Self {
        Self { file: file.to_owned(), rule_id: None, line: 0, column: 0, message, hint: None }
    }

    /// Two files claim one id.
    pub fn duplicate(file: &Path, id: &str, first: &Path) -> Self {
        let message = format!("the id `{id}` is already taken by {}", first.display());
        let problem = Self { rule_id: Some(id.to_owned()), ..Self::of_file(file, message) };
        problem.hint("give one of them another id, or remove it")
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn at(mut self, source: &str, offset: usize) -> Self {
        (self.line, self.column) = place(source, offset);
        self
    }

    /// What the TOML parser found wrong.
    pub(super) fn of_toml(file: &Path, source: &str, error: &toml::de::Error) -> Self {
        let problem = Self::of_file(file, error.message().to_owned());
        match error.span() {
            Some(span) => problem.at(source, span.start),
            None => problem,
        }
    }

    /// A refusal of SQL that stands in the file, with its place there.
    pub(super) fn of_query(file: &Path, source: &str, id: String, sql: TextPlace, refusal: Refusal) -> Self {
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

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl std::error::Error for RuleProblem {}

/// Line and column, both from 1, of a byte of the text.
fn place(source: &str, offset: usize) -> (u64, u64) {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (line as u64, column as u64)
}
