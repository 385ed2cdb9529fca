//! `daemoneye-conformance --name NAME -- PROGRAM ARGUMENTS…`

use clap::Parser;
use daemoneye_conformance::{CHECKS, Subject};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

/// Whether a program is a collector as DaemonEye's agent expects it
#[derive(Parser)]
#[command(name = "daemoneye-conformance", version)]
struct Arguments {
    /// The name that it collects under
    #[arg(long, default_value = "subject")]
    name: String,
    /// Only this check; may be given more than once
    #[arg(long, value_name = "CHECK", value_parser = clap::builder::PossibleValuesParser::new(CHECKS.iter().map(|check| check.name)))]
    check: Vec<String>,
    /// How long to wait for anything that must come, in seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    patience: u64,
    /// The settings that it is given, a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    settings: String,
    /// The program and its own arguments
    #[arg(required = true, last = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        // Also where standard output is gone: nobody can have read the verdicts.
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// Returns whether everything is as it should be.
fn run(arguments: Arguments) -> io::Result<bool> {
    let mut subject = Subject::new(&arguments.name, arguments.command);
    subject.settings = arguments.settings;
    subject.patience = Duration::from_secs(arguments.patience);
    let (mut out, mut failed, mut ran) = (io::stdout().lock(), 0, 0);
    for check in CHECKS {
        if !arguments.check.is_empty() && !arguments.check.iter().any(|name| name == check.name) {
            continue;
        }
        ran += 1;
        match check.judge(&subject) {
            Ok(()) => writeln!(out, "pass  {:<14}{}", check.name, check.about)?,
            Err(fault) => {
                failed += 1;
                writeln!(out, "FAIL  {:<14}{}\n      {fault}", check.name, check.about)?;
            }
        }
        out.flush()?;
    }
    writeln!(out, "{} of {ran} checks passed", ran - failed)?;
    Ok(failed == 0)
}
