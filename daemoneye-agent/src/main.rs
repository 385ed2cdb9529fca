//! `daemoneye-agent`: the unprivileged centre of DaemonEye.
//!
//! The one process that opens the event store. It takes what collectors publish on its bus, stores it, evaluates rules,
//! alerts, supervises procmond and answers the operator. [`run`] is its wiring, and reads as its architecture.

mod admission;
mod allocator;
mod args;
mod collectors;
mod completeness;
mod data;
mod explain;
mod feed;
mod health;
mod ingest;
mod inquiries;
mod metrics;
mod orders;
mod pipeline;
mod planning;
mod reload;
mod requests;
mod rule_requests;
mod rule_state;
mod rule_trial;
mod rules;
mod run;
mod schedule;
mod space;
mod spawn;
mod status;
mod supervise;
mod tables;
mod tasks;
mod triggers;

#[cfg(unix)]
#[path = "os_unix.rs"]
mod os;
#[cfg(windows)]
#[path = "os_windows.rs"]
mod os;

use clap::Parser as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::Args::parse();
    if let Some(error) = allocator::settle() {
        // It works without, only larger.
        let _ = writeln!(io::stderr(), "note: the memory allocator keeps its defaults: {error}");
    }
    match run::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut stderr = io::stderr().lock();
            // Where stderr is gone, the exit code still tells.
            let _ = writeln!(stderr, "error: {error}");
            if let Some(hint) = error.hint() {
                let _ = writeln!(stderr, "hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
