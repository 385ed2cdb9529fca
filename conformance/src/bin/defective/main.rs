//! A collector without any library, which is right, or wrong in one way: what the suite is tried on.
//!
//! `daemoneye-defective [--defect NAME]`. It tells a scan every 20 ms.

mod collector;
mod spool;
mod tasks;

use collector::{Collector, Start};
use std::io;
use std::process::ExitCode;

/// The ways of being wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Defect {
    /// Calls itself something else
    WrongName,
    /// Registers with an epoch of eight bytes
    ShortEpoch,
    /// Publishes before it is registered
    Hasty,
    /// Registers a column twice
    DoubleColumn,
    /// Registers a table without its domain
    StrayTable,
    /// Lacks a part and does not say why
    Speechless,
    /// Publishes items of a domain that it has not registered
    Trespasser,
    /// Publishes under another collector's name
    ForeignTopic,
    /// Leaves sequence numbers out
    Holes,
    /// Publishes items that are none
    Undecodable,
    /// Does not wait for credit
    Flood,
    /// Numbers anew what it tells again
    Renumbers,
    /// Comes back without what was not acknowledged
    Forgets,
    /// Tells again what was committed
    IgnoresCommits,
    /// Has its spool in memory
    Forgetful,
    /// Never tells its status
    Silent,
    /// Goes on while it is paused
    Restless,
    /// Takes whatever settings come
    Credulous,
    /// Serves tasks that it has not registered
    Pushy,
    /// Answers with hashes of something else
    WrongHash,
    /// Enumerates what it was not asked for
    Unfiltered,
    /// Has an answer about processes that there are not
    Obliging,
    /// Ends when it reads garbage
    Fragile,
    /// Does not end when it is asked to
    Deaf,
    /// Ends without telling the last of what it saw
    KeepsBack,
    /// Ends by SIGTERM like a program that knows nothing of it
    Abrupt,
}

#[derive(clap::Parser)]
struct Arguments {
    #[arg(long)]
    defect: Option<Defect>,
    #[arg(long)]
    data_dir: std::path::PathBuf,
    #[arg(long)]
    runtime_dir: std::path::PathBuf,
    #[arg(long)]
    log_level: Option<String>,
    #[arg(long)]
    log_format: Option<String>,
}

fn main() -> ExitCode {
    let arguments = <Arguments as clap::Parser>::parse();
    match collect(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use io::Write as _;
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn collect(arguments: &Arguments) -> io::Result<()> {
    let name = std::env::var("DAEMONEYE_COLLECTOR_NAME").map_err(io::Error::other)?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let start = Start {
        defect: arguments.defect,
        socket: arguments.runtime_dir.join("agent.sock"),
        dir: arguments.data_dir.join(&name),
        name,
        token: bytes_of(line.trim()),
    };
    Collector::open(start)?.run()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|digit| digit.to_digit(16)?.try_into().ok()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] * 16 + pair[1]).collect()
}
