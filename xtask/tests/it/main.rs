//! The commands as a newcomer runs them, with the programs already built; and the documents, where they can be checked.
#![allow(clippy::unwrap_used, reason = "a failed test panics")]

mod demo;
mod docs;
mod spawn;
mod up;

use std::process::Command;

/// This program with these arguments, without the environment's settings of ours.
fn xtask(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments);
    command
}
