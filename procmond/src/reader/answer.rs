//! What a system answers when it is asked for something of a process.

use super::Errno;
use std::fmt;

/// Why something of a process could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The process has ended, or has no such thing.
    Gone,
    /// The kernel does not let us.
    Denied,
    /// Anything else.
    Failed(Errno),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("it is gone"),
            Self::Denied => f.write_str("permission denied"),
            Self::Failed(errno) => errno.fmt(f),
        }
    }
}

/// Who a process acts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
}
