//! `daemoneye-agent`: the unprivileged centre of DaemonEye.
//!
//! The one process that opens the event store. It takes what collectors publish on its bus, stores it, evaluates rules,
//! alerts, supervises procmond and answers the operator. [`run`] is its wiring, and reads as its architecture.

mod allocator;
mod answering;
mod args;
mod collecting;
mod feed;
mod metrics;
mod pipeline;
mod reload;
mod ruling;
mod run;
mod space;

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
