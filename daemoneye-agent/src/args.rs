//! The agent's command line.

use clap::{Parser, Subcommand, ValueEnum};
use daemoneye_lib::cli::CommonArgs;
use std::path::PathBuf;

/// DaemonEye's agent: takes what collectors see, stores it, evaluates rules and alerts.
#[derive(Parser)]
#[command(name = "daemoneye-agent", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(subcommand)]
    pub(crate) command: Verb,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Monitor this host in the foreground until SIGINT or SIGTERM
    Run {
        /// Every *.toml below it is a rule
        #[arg(long, value_name = "DIR")]
        rules_dir: Option<PathBuf>,
        /// Show a live status line on stderr
        #[arg(long, value_enum, default_value_t = Status::Auto, value_name = "WHEN")]
        status: Status,
    },
}

/// When the live status line is shown.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Status {
    /// When stderr is a terminal
    Auto,
    Always,
    Never,
}
