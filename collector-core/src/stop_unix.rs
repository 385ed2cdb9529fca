//! The signals that ask for an orderly end.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What asks for an end.
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// From here on what asks is noted.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Resolves when an end is asked for.
    pub async fn asked(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::debug!("asked to stop by SIGTERM"),
            _ = self.interrupt.recv() => tracing::debug!("asked to stop by SIGINT"),
        }
    }
}
