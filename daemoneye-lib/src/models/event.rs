//! What an event is called: its id, its type, and the severity of what it leads to.

use crate::models::catalog::Table;
use crate::proto::common::{
    EventType, FilesystemEvent, FilesystemEventType, NetworkEvent, NetworkEventType, PerformanceSample, ProcessEvent,
    ProcessRecord, SecurityEvent, SecurityEventType, Severity,
};
use crate::proto::ipc::collected_item::Item;
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
    pub event: Event,
}

/// What a collector saw: a row of the event table of its domain.
#[expect(clippy::large_enum_variant, reason = "nearly all events are of the largest kind")]
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Of `processes.events`.
    Process(ProcessEvent),
    /// Of `network.connections`.
    Network(NetworkEvent),
    /// Of `filesystem.events`.
    Filesystem(FilesystemEvent),
    /// Of `performance.samples`.
    Performance(PerformanceSample),
    /// Of `security.events`.
    Security(SecurityEvent),
}

impl Event {
    /// The event that an item is.
    ///
    /// # Errors
    /// The item, where it is none.
    #[expect(clippy::result_large_err, reason = "what is no event is seldom, and goes on as it is")]
    pub fn of(item: Item) -> Result<Self, Item> {
        match item {
            Item::Process(event) => Ok(Self::Process(event)),
            Item::Network(event) => Ok(Self::Network(event)),
            Item::Filesystem(event) => Ok(Self::Filesystem(event)),
            Item::Performance(sample) => Ok(Self::Performance(sample)),
            Item::Security(event) => Ok(Self::Security(event)),
            other @ (Item::Scan(_) | Item::Gap(_) | Item::Trigger(_) | Item::Snapshot(_)) => Err(other),
        }
    }

    /// The table of which it is a row.
    pub const fn table(&self) -> Table {
        match self {
            Self::Process(_) => Table::ProcessEvents,
            Self::Network(_) => Table::NetworkConnections,
            Self::Filesystem(_) => Table::FilesystemEvents,
            Self::Performance(_) => Table::PerformanceSamples,
            Self::Security(_) => Table::SecurityEvents,
        }
    }

    /// The value of `event_time`.
    pub const fn time(&self) -> i64 {
        match self {
            Self::Process(event) => event.event_time,
            Self::Network(event) => event.event_time,
            Self::Filesystem(event) => event.event_time,
            Self::Performance(sample) => sample.event_time,
            Self::Security(event) => event.event_time,
        }
    }

    /// The value of `event_type`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Process(event) => event.event_type().name(),
            Self::Network(event) => event.event_type().name(),
            Self::Filesystem(event) => event.event_type().name(),
            Self::Performance(_) => "sample",
            Self::Security(event) => event.event_type().name(),
        }
    }

    /// The process that an event of processes is about.
    pub const fn process(&self) -> Option<&ProcessRecord> {
        match self {
            Self::Process(event) => event.process.as_ref(),
            _ => None,
        }
    }
}

macro_rules! from_messages {
    ($($message:ident $kind:ident),*) => {$(
        impl From<$message> for Event {
            fn from(message: $message) -> Self {
                Self::$kind(message)
            }
        }
    )*};
}
from_messages!(ProcessEvent Process, NetworkEvent Network, FilesystemEvent Filesystem, PerformanceSample Performance,
    SecurityEvent Security);

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

impl NetworkEventType {
    /// Those that an event can have.
    pub const ALL: [Self; 5] = [Self::Connect, Self::Accept, Self::Close, Self::Listen, Self::SocketSeen];

    /// The name in the column `event_type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Connect => "connect",
            Self::Accept => "accept",
            Self::Close => "close",
            Self::Listen => "listen",
            Self::SocketSeen => "seen",
        }
    }
}

impl FilesystemEventType {
    /// Those that an event can have.
    pub const ALL: [Self; 6] =
        [Self::Created, Self::Modified, Self::Deleted, Self::Renamed, Self::Opened, Self::Attributes];

    /// The name in the column `event_type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Renamed => "renamed",
            Self::Opened => "opened",
            Self::Attributes => "attributes",
        }
    }
}

impl SecurityEventType {
    /// Those that an event can have.
    pub const ALL: [Self; 5] = [Self::Credentials, Self::Ptrace, Self::ModuleLoad, Self::BpfLoad, Self::MemoryExec];

    /// The name in the column `event_type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Credentials => "credentials",
            Self::Ptrace => "ptrace",
            Self::ModuleLoad => "module_load",
            Self::BpfLoad => "bpf_load",
            Self::MemoryExec => "memory_exec",
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
