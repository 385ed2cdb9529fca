//! `cargo xtask measure`: what the programs cost on this host, as Markdown tables.
//!
//! It measures from outside: what the kernel says of the running programs, what they answer to queries, and what they
//! log. The one thing that it computes itself is the peer: `sysinfo`, enumerating the same processes in the same run. So
//! it must be built as the programs are, and starts itself anew from their profile where it is not.
//!
//! Everything that it starts ends with it: idle processes are a process group, monitors are sites of their own.

mod builds;
mod crowd;
mod enumeration;
mod exec;
mod listened;
mod peer;
mod soak;
mod stages;
mod storm;
mod table;
mod usage;

use crate::interrupt::Interrupt;
use crate::programs;
use crowd::Crowd;
pub(crate) use exec::{Exec, Rate, run as exec};
pub(crate) use soak::{Soak, run as soak};
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;
pub(crate) use storm::{Storm, run as storm};
use table::Table;
use testkit::Failure;

const PATIENCE: Duration = Duration::from_secs(120);

/// What is measured, and with which programs.
pub(crate) struct Options {
    /// Idle processes to enumerate.
    pub(crate) processes: u32,
    /// Alerts whose way is timed.
    pub(crate) alerts: u32,
    /// The profile of cargo in which the programs are built.
    pub(crate) profile: String,
    /// Whether to build them first.
    pub(crate) build: bool,
}

pub(crate) fn run(options: &Options, out: &mut impl Write) -> Result<(), Failure> {
    if options.build {
        programs::build(Some(&options.profile))?;
    }
    if !programs::is_built_in(&options.profile)? {
        let arguments = [options.processes.to_string(), options.alerts.to_string()];
        let [processes, alerts] = arguments.each_ref().map(String::as_str);
        return Err(from_profile(&options.profile, &["measure", "--processes", processes, "--alerts", alerts])?);
    }
    let interrupt = Interrupt::watch()?;
    note("sizes of the programs");
    show(out, "Sizes of the programs", &[builds::sizes()?])?;
    note(&format!("one event's way, {} times", options.alerts));
    show(out, "Where the time goes for one event", &[stages::measure(options.alerts, &interrupt)?])?;
    note(&format!("{} idle processes", options.processes));
    let crowd = Crowd::gather(options.processes, &interrupt)?;
    let tables = enumeration::measure(crowd, &interrupt)?;
    show(out, &format!("{} processes more", options.processes), &tables)
}

/// Becomes this program as it was built in the profile; returns only the reason why it cannot.
fn from_profile(profile: &str, arguments: &[&str]) -> Result<Failure, Failure> {
    let program = programs::in_profile(profile, "xtask")?;
    let mut command = Command::new(&program);
    command.args(arguments).args(["--no-build", "--profile", profile]);
    let error = command.exec();
    Ok(Failure::new(format!("cannot start {}: {error}\nhint: leave out --no-build", program.display())))
}

fn show(out: &mut impl Write, title: &str, tables: &[Table]) -> Result<(), Failure> {
    let text: String = tables.iter().map(|table| format!("\n{table}")).collect();
    writeln!(out, "## {title}\n{text}").map_err(|error| Failure::new(format!("cannot write: {error}")))
}

/// Asks until the answer is there.
fn wait<T>(what: &str, interrupt: &Interrupt, ask: impl FnMut() -> Result<Option<T>, Failure>) -> Result<T, Failure> {
    interrupt.wait(PATIENCE, ask).map_err(|failure| Failure::new(format!("waited in vain for {what}: {failure}")))
}

/// Tells on stderr what goes on; nobody may be reading.
fn note(what: &str) {
    let _ = writeln!(io::stderr(), "measuring: {what}");
}
