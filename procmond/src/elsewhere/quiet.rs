//! Nothing goes on between two scans.

use crate::poller::Poller;
use crate::source::Meanwhile;
use collector_core::{Sink, Stopped};
use std::time::Duration;

/// Nothing is told between two scans.
pub(crate) struct Quiet {
    /// Why.
    pub(crate) reason: String,
}

impl<C> Meanwhile<C> for Quiet {
    fn mode(&self) -> (&'static str, String) {
        ("poll", self.reason.clone())
    }

    fn hears(&self) -> bool {
        false
    }

    fn news(&mut self) -> bool {
        false
    }

    fn begin(&mut self, _: &mut Poller<C>) {}

    fn spend(&mut self, _: &mut Poller<C>, sink: &Sink, time: Duration) -> Result<(), Stopped> {
        sink.pause(time)
    }
}
