//! The commands of a newcomer and a developer: `cargo xtask up`, `cargo xtask demo`, `cargo xtask measure`,
//! `cargo xtask bench-store`, `cargo xtask bench-rules`, `cargo xtask bench-exec`, `cargo xtask spawn`, `cargo xtask soak`, `cargo xtask boundaries`.
//!
//! They build on what the programs print and on nothing inside them; the one exception is the process key, which the demo
//! computes from `/proc` itself.

mod bench;
mod boundaries;
mod demo;
mod interrupt;
mod measure;
mod programs;
mod spawn;
mod up;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Build, try and check DaemonEye")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the programs and monitor this host in the foreground with the shipped rules
    Up {
        /// Use the programs as they were built last
        #[arg(long)]
        no_build: bool,
        /// Arguments for `daemoneye-agent run`
        #[arg(last = true)]
        agent_arguments: Vec<OsString>,
    },
    /// Monitor this host for some seconds in a temporary place, start a suspicious program, and check that all notice
    Demo {
        /// Monitor for at least so long
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Rules to use instead of the shipped ones
        #[arg(long)]
        rules_dir: Option<PathBuf>,
        /// Use the programs as they were built last
        #[arg(long)]
        no_build: bool,
    },
    /// Measure what the programs cost on this host, and print the figures as Markdown tables
    Measure {
        /// Idle processes to enumerate
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
        processes: u32,
        /// Alerts whose way is timed
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        alerts: u32,
        /// The profile of cargo in which the programs are built
        #[arg(long, default_value = "release")]
        profile: String,
        /// Use the programs as they were built last
        #[arg(long)]
        no_build: bool,
    },
    /// Compare the event store with SQLite on the same events, and print the figures as a Markdown table
    BenchStore {
        /// Events that are stored
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
        /// The profile of cargo in which it is built
        #[arg(long, default_value = "release")]
        profile: String,
    },
    /// Compare what standing rules cost with other ways of evaluating the same rules, and print a Markdown table
    BenchRules {
        /// So many rules each time
        #[arg(long, value_delimiter = ',', default_value = "10,100,1000,3000")]
        rules: Vec<u32>,
        /// Events that are shown to them
        #[arg(long, default_value_t = 50_000)]
        events: u32,
        /// The profile of cargo in which it is built
        #[arg(long, default_value = "release")]
        profile: String,
    },
    /// Compare what watching programs that are started costs with other watchers and with none, and print Markdown tables
    ///
    /// Needs root. auditd and bpftrace are measured where they are installed and nobody else uses them.
    BenchExec {
        /// Starts in a second, or `full` for as many as this host starts
        #[arg(long, value_delimiter = ',', default_value = "10,100,333,1000,full")]
        rates: Vec<measure::Rate>,
        /// Each load lasts so long
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
        /// Everything is measured so often
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        /// Alerts whose way is timed; 0 for none
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(..=10_000))]
        alerts: u32,
        /// Source files of the project that is compiled; 0 for no compilation
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(..=10_000))]
        files: u32,
        /// It is compiled so often in each round
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        compilations: u32,
        /// The profile of cargo in which the programs are built
        #[arg(long, default_value = "release")]
        profile: String,
        /// Take the programs of this directory instead
        #[arg(long, conflicts_with = "profile")]
        programs: Option<PathBuf>,
        /// Use the programs as they were built last
        #[arg(long)]
        no_build: bool,
    },
    /// Start a program again and again, each time with an argument of its own, and print what came of it as JSON
    Spawn {
        /// Starts in a second; without it as many as this host starts
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rate: Option<u32>,
        /// For so long
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
        /// What the argument of each start begins with
        #[arg(long, default_value = "spawn")]
        run: String,
        /// The program
        #[arg(default_value = "/bin/true")]
        program: PathBuf,
    },
    /// Feed an agent at a steady rate, print its memory each minute, and fail when it grows or anything is lost
    Soak {
        /// Events in a second
        #[arg(long, default_value_t = 2_000)]
        rate: u64,
        /// For so long
        #[arg(long, default_value_t = 10)]
        minutes: usize,
        /// The profile of cargo in which the programs are built
        #[arg(long, default_value = "release")]
        profile: String,
        /// Use the programs as they were built last
        #[arg(long)]
        no_build: bool,
    },
    /// Fork millions of processes while procmond listens to the kernel, print what it costs, and fail when memory grows
    Storm {
        /// How many
        #[arg(long, default_value_t = 2_000_000)]
        forks: u64,
        /// The profile of cargo in which the programs are built
        #[arg(long, default_value = "release")]
        profile: String,
        /// Use the programs as they were built last
        #[arg(long)]
        no_build: bool,
    },
    /// Check that each crate depends only on what it may depend on
    Boundaries,
    /// The suspicious program of the demo, under another name: does nothing for some seconds
    #[command(name = demo::SLEEP_VERB, hide = true)]
    Sleep { seconds: u64 },
}

fn main() -> ExitCode {
    let mut out = io::stdout();
    let done = match Arguments::parse().command {
        Command::Up { no_build, agent_arguments } => up::run(!no_build, &agent_arguments),
        Command::Demo { seconds, rules_dir, no_build } => {
            demo::run(!no_build, Duration::from_secs(seconds), rules_dir, &mut out)
        }
        Command::Measure { processes, alerts, profile, no_build } => {
            measure::run(&measure::Options { processes, alerts, profile, build: !no_build }, &mut out)
        }
        Command::BenchStore { events, profile } => {
            bench::run("store", &profile, &["compare".to_owned(), format!("--events={events}")])
        }
        Command::BenchRules { rules, events, profile } => bench::rules(&rules, events, &profile),
        Command::BenchExec { rates, seconds, rounds, alerts, files, compilations, profile, programs, no_build } => {
            let build = !no_build;
            let exec = measure::Exec { rates, seconds, rounds, alerts, files, compilations, profile, programs, build };
            measure::exec(&exec, &mut out)
        }
        Command::Spawn { rate, seconds, run, program } => {
            spawn::run(&spawn::Load { run, rate: rate.and_then(NonZeroU32::new), seconds, program }, &mut out)
        }
        Command::Soak { rate, minutes, profile, no_build } => {
            measure::soak(&measure::Soak { rate, minutes, profile, build: !no_build }, &mut out)
        }
        Command::Storm { forks, profile, no_build } => {
            measure::storm(&measure::Storm { forks, profile, build: !no_build }, &mut out)
        }
        Command::Boundaries => boundaries::run(&mut out),
        Command::Sleep { seconds } => {
            std::thread::sleep(Duration::from_secs(seconds));
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell when stderr is gone.
            let _ = writeln!(io::stderr(), "error: {failure}");
            ExitCode::FAILURE
        }
    }
}
