//! What procmond can be told on its command line, on every system.

use clap::{Parser, Subcommand, ValueEnum};
use daemoneye_lib::cli::CommonArgs;

/// DaemonEye's process collector: watches the processes of this host and tells the agent.
///
/// Usually the agent starts it. It needs the agent's token, as a line on standard input, or the session key that it was
/// given for one.
#[derive(Debug, Parser)]
#[command(name = "procmond", version)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print what one scan sees, and end
    Scan {
        /// How processes are printed
        #[arg(long, value_enum, default_value = "jsonl")]
        format: ScanFormat,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ScanFormat {
    /// A JSON object on each line
    #[value(alias = "json")]
    Jsonl,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn flags_are_consistent() {
        Arguments::command().debug_assert();
        let scan = Arguments::try_parse_from(["procmond", "scan", "--format", "json", "--data-dir", "/d"]).unwrap();
        assert!(matches!(scan.command, Some(Command::Scan { .. })));
    }
}
