//! What asks for an orderly end: the console, its window, and the system when it shuts down.

use std::io;
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

/// What asks for an end.
pub struct Stop {
    interrupt: CtrlC,
    interruption: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl Stop {
    /// From here on what asks is noted.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn new() -> io::Result<Self> {
        let (interrupt, interruption) = (ctrl_c()?, ctrl_break()?);
        Ok(Self { interrupt, interruption, close: ctrl_close()?, shutdown: ctrl_shutdown()? })
    }

    /// Resolves when an end is asked for.
    pub async fn asked(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => tracing::debug!("asked to stop by Ctrl-C"),
            _ = self.interruption.recv() => tracing::debug!("asked to stop by Ctrl-Break"),
            _ = self.close.recv() => tracing::debug!("asked to stop: the console closes"),
            _ = self.shutdown.recv() => tracing::debug!("asked to stop: the system shuts down"),
        }
    }
}
