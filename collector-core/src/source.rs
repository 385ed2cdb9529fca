//! The contract between a collector's subject and the run loop.

use crate::caps::SourceCaps;
use crate::sink::{EmitError, FlushError, Sink, Stopped};
use crate::tasks::TaskHandler;
use daemoneye_lib::proto::ipc::{CollectionCapabilities, Feature};
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// A subject that a collector watches.
pub trait EventSource: Send + 'static {
    /// What this source is, asked once before it runs.
    fn describe(&self) -> SourceDescription;

    /// What does the tasks that the description lists, asked once before the source runs; without it none are done.
    fn tasks(&mut self) -> Option<Arc<dyn TaskHandler>> {
        None
    }

    /// Watches, on a thread of its own, and tells the sink until [`Sink::stopped`]; it may block.
    ///
    /// A source that returns or panics before it was told to stop ends the collector.
    ///
    /// # Errors
    /// What makes going on impossible. A [`Stopped`] counts as a clean end.
    fn run(self: Box<Self>, sink: Sink) -> Result<(), SourceError>;
}

/// What a source is, as the operator and the agent see it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceDescription {
    /// How it observes: `poll`, ….
    pub mode: String,
    /// Why in this mode and no better one.
    pub mode_reason: String,
    /// What it can do.
    pub caps: SourceCaps,
    /// The schema that the agent is told of; the first domain is the one its events are published under.
    pub capabilities: CollectionCapabilities,
    /// What it cannot see, in the operator's words.
    pub limitations: Vec<String>,
    /// Its parts that work, or do not, by themselves; one that is not available makes answers from its tables degraded.
    pub features: Vec<Feature>,
}

/// State that a source reports as it goes; the latest report counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceStatus {
    /// The interval between two scans that is in force, in milliseconds; 0 where nothing is scanned.
    pub scan_interval_ms: u64,
    /// The newest error that the source survived.
    pub last_error: Option<String>,
    /// How it observes now, and why; `None` where that is as it was described. The report that first says so counts as the
    /// moment of the change, here and of the features.
    pub mode: Option<(String, String)>,
    /// What its parts can do now: all of them, or none at all where that is as it was described.
    pub features: Vec<Feature>,
}

/// Why a source could not go on: any error.
#[derive(Debug)]
pub struct SourceError(Box<dyn Error + Send + Sync>);

impl SourceError {
    /// An error that is only a message.
    pub fn message(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }

    /// Whether the error says only that the source was told to stop.
    pub(crate) fn is_stop(&self) -> bool {
        self.0.is::<Stopped>()
            || matches!(self.0.downcast_ref(), Some(EmitError::Stopped))
            || matches!(self.0.downcast_ref(), Some(FlushError::Stopped))
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for SourceError {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
