//! Why a Sigma rule is not compiled.

use std::fmt;

/// What is wrong with a Sigma rule, or what of it cannot be said in a rule of DaemonEye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigmaProblem {
    /// Line in the file, from 1; 0 where the problem has no place.
    pub line: u64,
    /// Column in the line, in characters from 1.
    pub column: u64,
    /// What is wrong, with the thing's name.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

impl SigmaProblem {
    /// A problem without a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self { line: 0, column: 0, message: message.into(), hint: None }
    }

    /// The same with what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A place that is known already stays: it is nearer to the cause.
    pub(super) fn at(mut self, place: Place) -> Self {
        if self.line == 0 {
            (self.line, self.column) = (place.line, place.column);
        }
        self
    }
}

impl fmt::Display for SigmaProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        write!(f, "{}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for SigmaProblem {}

/// The beginning of a text that came with a rule, for messages.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    let short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}
