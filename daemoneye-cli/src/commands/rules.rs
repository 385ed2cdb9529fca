//! `rules list`: the agent's rules and how they fare.

use crate::executor::{Query, QueryExecutor, fetch};
use crate::failure::Failure;
use crate::output::{Outcome, Screen, Style};
use daemoneye_lib::config::OutputFormat;
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The rules that the agent has, refused ones too
    List,
    /// Check rule files without an agent
    Validate {
        /// Files, or directories that are searched for *.toml
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
}

/// People get the columns that fit; programs get all.
const FOR_PEOPLE: &str = "rule_id, severity, state, matches, last_match, title, reason";

pub(crate) async fn list(
    executor: &impl QueryExecutor,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let columns = if format == OutputFormat::Table { FOR_PEOPLE } else { "*" };
    let query = Query::from(format!("SELECT {columns} FROM detection.rules ORDER BY rule_id").as_str());
    let completeness = fetch(executor, &query, Vec::new(), &mut *screen.sheet(format, Style::default())).await?;
    screen.conclude(format, &completeness)
}
