//! What goes wrong, as the operator sees it: an exit code, a message, perhaps an excerpt of SQL, perhaps a hint.

use daemoneye_lib::config::{ConfigError, DirectoryError};
use daemoneye_lib::models::text::for_terminal;
use std::error::Error;
use std::fmt::Write as _;
use std::io;

/// Who or what is at fault; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Nothing is: whoever read our output wants no more of it.
    OutputClosed = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 4,
    Refused = 5,
    Unreachable = 69,
    Defect = 70,
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    message: String,
    /// Lines that are shown as they are: made harmless by whoever made them.
    excerpt: Option<String>,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), excerpt: None, hint: None }
    }

    /// A message with all causes of an error behind it.
    pub(crate) fn caused(kind: Kind, error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            // Writing to a String cannot fail.
            let _ = write!(message, ": {error}");
            cause = error.source();
        }
        Self::new(kind, message)
    }

    /// Adds what the operator can do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        self
    }

    /// Adds the place in the SQL text.
    pub(crate) fn excerpt(mut self, excerpt: Option<String>) -> Self {
        self.excerpt = excerpt;
        self
    }

    /// Tells the operator. Nothing is told when stdout was closed: that is how a pipe ends.
    pub(crate) fn print(&self, err: &mut dyn io::Write) {
        if self.kind == Kind::OutputClosed {
            return;
        }
        // There is nowhere left to complain when stderr is closed.
        let _ = writeln!(err, "error: {}", for_terminal(&self.message));
        if let Some(excerpt) = &self.excerpt {
            let _ = write!(err, "{excerpt}");
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(err, "hint: {}", for_terminal(hint));
        }
    }
}

impl From<io::Error> for Failure {
    /// Only writing to the screen fails with a bare I/O error.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::OutputClosed, "the output is closed"),
            _ => Self::new(Kind::Failed, format!("cannot write the output: {error}")),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let kind = if matches!(error, ConfigError::Defect(_)) { Kind::Defect } else { Kind::Failed };
        Self::caused(kind, &error).hint(error.hint().unwrap_or_default())
    }
}

impl From<DirectoryError> for Failure {
    fn from(error: DirectoryError) -> Self {
        Self::caused(Kind::Failed, &error).hint(error.hint())
    }
}
