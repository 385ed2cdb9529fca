//! DaemonEye's command line for operators.
//!
//! Everything it shows of the host comes from the agent, over the bus: it opens neither the store nor the network. Only
//! pure functions on files (`config`, `rules validate`) need no agent. Results go to stdout, everything else to stderr.
//!
//! [`app`] is the wiring; a subcommand is a file in [`commands`]; [`executor`] is the edge to the agent; [`output`] puts
//! rows on the screen; [`failure`] is what goes wrong, with its exit code.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test panics"))]

mod app;
mod bus;
mod caret;
mod commands;
mod executor;
mod failure;
mod output;
mod parameters;
#[cfg(test)]
mod scripted;
mod tree;

use clap::Parser;
use failure::{Failure, Kind};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = app::Arguments::parse();
    let code = std::panic::catch_unwind(|| app::run(arguments)).unwrap_or_else(|_| {
        let defect = Failure::new(Kind::Defect, "this is a defect of DaemonEye");
        defect.hint("please report it with the lines above").print(&mut std::io::stderr());
        Kind::Defect as u8
    });
    ExitCode::from(code)
}
