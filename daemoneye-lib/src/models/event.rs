//! What an event is called: its id, its type, and the severity of what it leads to.

use crate::proto::common::{EventType, ProcessEvent, Severity};
use std::fmt;
use std::str::FromStr;

/// A spool's random id: sequence numbers count within it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub [u8; 16]);

impl Epoch {
    /// The first epoch of a collector's spool in test mode: always the same, so that the ids of events are.
    pub fn reproducible(collector: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("daemoneye 2026 test-mode epoch v1");
        hasher.update(collector.as_bytes());
        let mut epoch = [0; 16];
        hasher.finalize_xof().fill(&mut epoch);
        Self(epoch)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

impl TryFrom<&[u8]> for Epoch {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(bytes.try_into()?))
    }
}

/// The id under which an operator finds an event: its epoch and its sequence number.
pub fn event_id(epoch: Epoch, sequence: u64) -> String {
    format!("{epoch}-{sequence}")
}

/// An event with the id that it has in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentifiedEvent {
    /// As [`event_id`] makes it.
    pub event_id: String,
    /// What was collected.
    pub event: ProcessEvent,
}

impl EventType {
    /// The name in the column `event_type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Exec => "exec",
            Self::Fork => "fork",
            Self::Exit => "exit",
            Self::Seen => "seen",
            Self::Changed => "changed",
        }
    }
}

impl Severity {
    /// The name in rules and in the column `severity`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Low, Self::Medium, Self::High, Self::Critical]
            .into_iter()
            .find(|severity| severity.name() == text)
            .ok_or_else(|| format!("unknown severity `{text}`: use low, medium, high or critical"))
    }
}
