//! What is not as it should be.

use std::io;

/// Why a check failed, in words for whoever writes the collector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

impl Fault {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self(format!("the suite itself cannot go on: {error}"))
    }
}

/// Fails with the reason unless it is so.
pub(crate) fn require(so: bool, why: impl FnOnce() -> String) -> Result<(), Fault> {
    if so { Ok(()) } else { Err(Fault(why())) }
}
