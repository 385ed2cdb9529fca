//! The flags that every program takes.

use crate::config::Overrides;
use crate::config::keys::{LOG_FORMATS, LOG_LEVELS};
use clap::builder::PossibleValuesParser;
use std::path::PathBuf;

/// The flags that every program takes, before and after a subcommand.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// Read this file in place of the user's and the system's configuration
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the programs keep what must outlive them; the runtime directory becomes DIR/run, unless it is given too
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where the agent's socket is
    #[arg(long, global = true, value_name = "DIR")]
    pub runtime_dir: Option<PathBuf>,
    /// How much is logged to stderr
    #[arg(long, global = true, value_name = "LEVEL", value_parser = PossibleValuesParser::new(LOG_LEVELS.iter().copied()))]
    pub log_level: Option<String>,
    /// How logs are written
    #[arg(long, global = true, value_name = "FORMAT", value_parser = PossibleValuesParser::new(LOG_FORMATS.iter().copied()))]
    pub log_format: Option<String>,
}

impl CommonArgs {
    /// What these flags set; a program adds its own with [`Overrides::with`].
    pub fn overrides(&self) -> Overrides {
        Overrides::new(self.config.clone())
            .with("app.data_dir", "--data-dir", self.data_dir.as_ref())
            .with("app.runtime_dir", "--runtime-dir", self.runtime_dir.as_ref())
            .with("app.log_level", "--log-level", self.log_level.as_ref())
            .with("app.log_format", "--log-format", self.log_format.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        common: CommonArgs,
        #[command(subcommand)]
        _command: Command,
    }

    #[derive(clap::Subcommand)]
    enum Command {
        Run,
    }

    #[test]
    fn flags_stand_before_or_after_the_subcommand() {
        for arguments in [["p", "--data-dir", "/d", "run"], ["p", "run", "--data-dir", "/d"]] {
            let program = Program::try_parse_from(arguments).unwrap();
            assert_eq!(program.common.data_dir, Some(PathBuf::from("/d")));
        }
        assert!(Program::try_parse_from(["p", "run", "--log-level", "loud"]).is_err());
    }
}
