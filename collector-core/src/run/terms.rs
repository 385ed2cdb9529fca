//! The terms of a run: what a collector is given, and how it can end.

use crate::spool::SpoolError;
use daemoneye_eventbus::{Keys, Token};
use daemoneye_lib::config::CollectorVariables;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What a collector needs to know to run.
#[derive(Debug, Clone)]
pub struct CollectorConfig {
    /// Its name on the bus: one segment of a topic.
    pub name: String,
    /// Its version, for the operator.
    pub version: String,
    /// Its own directory, created with mode 0700; the spool is in it.
    pub data_dir: PathBuf,
    /// The agent's socket.
    pub socket: PathBuf,
    /// The keys of an encrypted bus.
    pub bus_keys: Option<Keys>,
    /// The bound on the spool, in bytes; less than 64 KiB counts as 64 KiB.
    pub spool_max_bytes: u64,
    /// How long to go on without an agent; `None` for ever.
    pub orphan_timeout: Option<Duration>,
    /// What the agent handed over at spawn; not needed where a session key is in the data directory.
    pub token: Option<Token>,
    /// This boot of the host.
    pub boot_id: String,
    /// What the operator sets by variables of its own, whatever the collector.
    pub variables: CollectorVariables,
}

/// How a collector came to its orderly end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// It had no agent for longer than its orphan timeout.
    Orphaned,
}

/// Why a collector cannot run, or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectorError {
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The source ended without being told to.
    #[error("collector {name}: {reason}")]
    Source {
        /// The collector.
        name: String,
        /// What the source, or its panic, said.
        reason: String,
    },
    /// The source says no domain that its events could be published under.
    #[error("collector {name}: its source names no domain")]
    NoDomain {
        /// The collector.
        name: String,
    },
    /// The source says of its domains what cannot be.
    #[error("collector {name}: its source declares the domain {domain:?}, {problem}")]
    Domain {
        /// The collector.
        name: String,
        /// As the source names it.
        domain: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no way to prove to the agent who this is.
    #[error(
        "collector {name}: no token was handed over and there is no session key in {}; let daemoneye-agent start it",
        .path.display()
    )]
    NoCredential {
        /// The collector.
        name: String,
        /// Where the key was looked for.
        path: PathBuf,
    },
    /// The agent accepts no credential of this collector.
    #[error("collector {name}: the agent refuses it: {reason}; let the agent start it anew")]
    Refused {
        /// The collector.
        name: String,
        /// What the agent said.
        reason: String,
    },
    /// The system refuses a thread or random bytes.
    #[error("collector {name}: {source}")]
    System {
        /// The collector.
        name: String,
        /// What it said.
        source: io::Error,
    },
}
