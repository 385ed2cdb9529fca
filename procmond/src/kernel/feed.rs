//! Where events come from, whichever way the kernel tells them.

use super::News;
use collector_core::{Sink, Stopped};
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

/// Where events come from.
pub(crate) trait Feed: Send {
    /// Gives everything that has happened, until there is nothing more or the taker has enough.
    ///
    /// # Errors
    /// What makes going on with this feed impossible.
    fn drain(&mut self, take: &mut dyn FnMut(News<'_>) -> ControlFlow<()>) -> Result<(), FeedError>;

    /// What was lost since the last call.
    ///
    /// # Errors
    /// Where that cannot be known any more, so that what this feed gives proves nothing.
    fn losses(&mut self) -> Result<Vec<Loss>, FeedError>;

    /// Whether it still would tell, if something happened.
    fn is_alive(&mut self) -> bool;

    /// Waits for so long, or until there is something worth draining.
    ///
    /// # Errors
    /// When the collector is stopping.
    fn wait(&mut self, sink: &Sink, time: Duration) -> Result<(), Stopped>;
}

/// What can take over when a feed ends.
pub(crate) type Standby = Box<dyn FnOnce() -> Result<Box<dyn Feed>, String> + Send>;

/// Events that were lost, or given up, since the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// What kind of gap that is.
    pub(crate) kind: &'static str,
    /// `None` where it cannot be known.
    pub(crate) count: Option<u64>,
    /// Which events, and why.
    pub(crate) reason: String,
}

impl Loss {
    /// The loss of so many; of none there is none.
    pub(crate) fn of(kind: &'static str, count: u64, reason: &str) -> Option<Self> {
        (count > 0).then(|| Self { kind, count: Some(count), reason: reason.to_owned() })
    }
}

/// Why a feed ended.
#[derive(Debug, thiserror::Error)]
#[error("the kernel's events cannot be read any more: {0}")]
pub(crate) struct FeedError(#[source] pub(crate) io::Error);
