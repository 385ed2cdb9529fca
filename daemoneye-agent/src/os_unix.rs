//! What the agent needs of a Unix system: signals, and its place among other processes.

pub(crate) use tokio::signal::unix::{SignalKind, signal};

use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io;
use std::path::Path;
use tokio::process::Command;

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Ends a process at once.
pub(crate) fn kill(pid: u32) -> io::Result<()> {
    send(pid, Signal::KILL)
}

/// Asks a collector to read its configuration anew.
pub(crate) fn ask_to_reread(pid: u32) -> io::Result<()> {
    send(pid, Signal::HUP)
}

fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill_process(pid, signal)?)
}

/// Makes what was renamed in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A group of its own, so that Ctrl-C in the terminal reaches the agent alone, which ends its collectors in order.
pub(crate) fn own_group(command: &mut Command) {
    command.process_group(0);
}
