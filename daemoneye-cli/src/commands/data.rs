//! `data`: how much the store holds, what may go, whether it is sound, and rows as a file.

use super::export;
use crate::bus::Agent;
use crate::executor::show;
use crate::failure::{Failure, Kind};
use crate::output::{Outcome, Screen};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{DataPrune, DataStats, DataVerify, data_request::Request};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// How much the store holds, table by table
    Stats,
    /// Remove what is old, or more than it may be
    Prune(PruneArguments),
    /// Check every column of every block: exit code 3 when something is damaged
    Verify,
    /// Write rows to a file: the format is `parquet`, `csv` or `jsonl`
    Export(export::Arguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct PruneArguments {
    /// Remove events, ended processes, scans and closed gaps of before so long ago, as in `12h`, `7d`
    #[arg(long, value_name = "AGE", value_parser = age, required_unless_present = "max_bytes")]
    older_than: Option<i64>,
    /// Remove the oldest partitions until the store holds at most so many bytes
    #[arg(long, value_name = "N")]
    max_bytes: Option<u64>,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(
    command: &Command,
    agent: &Agent,
    format: Option<export::Format>,
    shown: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let request = match command {
        Command::Export(arguments) => return export::run(arguments, agent, format, screen).await,
        Command::Stats => Request::Stats(DataStats {}),
        Command::Verify => Request::Verify(DataVerify {}),
        Command::Prune(PruneArguments { older_than, max_bytes, dry_run }) => Request::Prune(DataPrune {
            keep_since: older_than.map(|age| time::now_ns().saturating_sub(age)),
            max_bytes: *max_bytes,
            dry_run: *dry_run,
        }),
    };
    let page = agent.data(request).await?;
    let completeness = show(page, &mut *screen.sheet(shown, crate::output::Style::default()))?;
    if format.is_none() && matches!(command, Command::Prune(arguments) if arguments.dry_run) {
        writeln!(screen.err, "nothing was removed: this is what would be")?;
    }
    screen.conclude(shown, &completeness)
}

/// Nanoseconds.
fn age(text: &str) -> Result<i64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match text.get(digits.len()..).unwrap_or_default() {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("it needs a unit: s, m, h or d".to_owned()),
    };
    let number: i64 = digits.parse().map_err(|_| "it needs a whole number before the unit".to_owned())?;
    let age = number.checked_mul(seconds).and_then(|seconds| seconds.checked_mul(1_000_000_000));
    age.filter(|age| *age >= 0).ok_or_else(|| "it must be at most some hundred years".to_owned())
}

/// What is not asked in vain: `parquet` is a format of files.
pub(crate) fn only_files(format: export::Format) -> Failure {
    Failure::new(Kind::Usage, format!("`{format}` is a format of `data export` only"))
        .hint("use table, json, jsonl or csv")
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn an_age_has_a_unit() {
        assert_eq!(age("0s"), Ok(0));
        assert_eq!(age("90m"), age("5400s"));
        assert_eq!(age("7d"), Ok(7 * 86_400 * 1_000_000_000));
        for wrong in ["7", "d", "-1d", "7w", "", "1000000d"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
