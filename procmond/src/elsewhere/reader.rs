//! What a system answers when it is asked for something of a process, where that is not Linux.

#[path = "../reader/answer.rs"]
mod answer;

pub use answer::{Owner, Unreadable};

use std::fmt;

/// A system's error by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}
