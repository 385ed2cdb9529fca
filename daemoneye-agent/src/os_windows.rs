//! What the agent needs of Windows: what stands for signals, and its place among other processes.

use std::io;
use std::path::Path;
use tokio::process::Command;
use tokio::signal::windows::{CtrlC, CtrlClose, CtrlShutdown, ctrl_c, ctrl_close, ctrl_shutdown};

/// `CREATE_NEW_PROCESS_GROUP`.
const NEW_GROUP: u32 = 0x200;

/// What asks for an end, by the name that it has on Unix.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SignalKind {
    Interrupt,
    Terminate,
    Hangup,
}

impl SignalKind {
    /// Ctrl-C.
    pub(crate) fn interrupt() -> Self {
        Self::Interrupt
    }

    /// The system shuts down.
    pub(crate) fn terminate() -> Self {
        Self::Terminate
    }

    /// The console closes.
    pub(crate) fn hangup() -> Self {
        Self::Hangup
    }
}

/// Waits for one of them.
#[derive(Debug)]
pub(crate) enum Signal {
    Interrupt(CtrlC),
    Terminate(CtrlShutdown),
    Hangup(CtrlClose),
}

impl Signal {
    pub(crate) async fn recv(&mut self) -> Option<()> {
        match self {
            Self::Interrupt(signal) => signal.recv().await,
            Self::Terminate(signal) => signal.recv().await,
            Self::Hangup(signal) => signal.recv().await,
        }
    }
}

/// Begins to wait.
pub(crate) fn signal(kind: SignalKind) -> io::Result<Signal> {
    Ok(match kind {
        SignalKind::Interrupt => Signal::Interrupt(ctrl_c()?),
        SignalKind::Terminate => Signal::Terminate(ctrl_shutdown()?),
        SignalKind::Hangup => Signal::Hangup(ctrl_close()?),
    })
}

/// Whether what other users run can be read is not known here; the collector says what it could not read.
pub(crate) fn is_root() -> bool {
    true
}

/// A process of an earlier agent cannot be ended by its number alone.
pub(crate) fn kill(_pid: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// No collector does that here.
pub(crate) fn ask_to_reread(_pid: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A directory cannot be opened to be written to the disk: the system does that by itself.
pub(crate) fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// A group of its own, so that Ctrl-C in the console reaches the agent alone, which ends its collectors in order.
pub(crate) fn own_group(command: &mut Command) {
    command.creation_flags(NEW_GROUP);
}
