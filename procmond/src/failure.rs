//! Why procmond ends with a failure, and what the operator reads of it.

use crate::print::PrintError;
use collector_core::{CollectorError, LockError};
use daemoneye_lib::config::ConfigError;
use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What this system's way of reading processes needs is not there.
    #[error(transparent)]
    #[cfg(target_os = "linux")]
    Host(Box<dyn Error + Send + Sync>),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("the line on standard input is no token: {0}")]
    Token(String),
    #[error("cannot start")]
    Start(#[source] io::Error),
    #[error(transparent)]
    Collector(#[from] CollectorError),
    #[error(transparent)]
    Print(#[from] PrintError),
}

impl Failure {
    #[cfg(target_os = "linux")]
    pub(crate) fn host(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Host(Box::new(error))
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Token(_) => Some("let the agent start procmond, or give it no input (</dev/null)".to_owned()),
            _ => None,
        }
    }

    /// Whoever reads our output has seen enough.
    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Print(PrintError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// `error: …` with every cause that does not stand in the message already, then `hint: …`.
    fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let error_text = error.to_string();
            if !text.contains(&error_text) {
                text = format!("{text}: {error_text}");
            }
            cause = error.source();
        }
        match self.hint() {
            Some(hint) => format!("error: {text}\nhint: {hint}"),
            None => format!("error: {text}"),
        }
    }
}

/// Tells a failure, and makes an exit code of it.
pub(crate) fn exit_code(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "{}", failure.report());
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let failure = Failure::Start(io::Error::other("no memory"));
        assert_eq!(failure.report(), "error: cannot start: no memory");
    }
}
