//! `collect now`, `hash`, `verify`, `watch-tree`: what procmond does when it is asked to.

mod collect;
mod executable;
mod watch;

use crate::bus::Agent;
use crate::commands::query::duration;
use crate::failure::{Failure, Kind};
use crate::output::{Outcome, Screen};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::models::columns::{Column, Value};
use daemoneye_lib::models::text::escape_bytes;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{
    Cell, ColumnKind, Completeness, DetectionTask, HashCheck, ProcessFilter, ResultColumn, cell,
};
use std::ffi::OsString;
use std::time::Duration;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// What runs at this moment, asked of procmond itself
    #[command(subcommand)]
    Collect(Collect),
    /// The SHA-256 of a file, or of the program that a process runs
    Hash(Asked),
    /// Whether an executable is what it should be: exit code 1 when it is not
    Verify {
        #[command(flatten)]
        asked: Asked,
        /// The hash that it should have
        #[arg(long, value_name = "SHA256")]
        expect: Option<String>,
    },
    /// A process and its descendants, as they begin, change and end
    WatchTree {
        /// The process at the root
        pid: u32,
        /// The collector that does it; procmond when nothing is said
        #[arg(long, value_name = "NAME")]
        collector: Option<String>,
        /// How long to watch, as in `30s`, `10m`; at most, and when nothing is said, an hour
        #[arg(long, value_name = "TIME", value_parser = duration)]
        timeout: Option<Duration>,
    },
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Collect {
    /// Scan the processes now, and print what was found
    Now {
        /// `pid=PID`, `name=NAME` or `executable=PATTERN` (`*` any characters, `?` one); may be given more than once
        #[arg(long, value_name = "KEY=VALUE", value_parser = collect::filter)]
        filter: Vec<collect::Filter>,
        /// Have what every process uses written into `processes.snapshots`, and print the number of that scan
        #[arg(long, conflicts_with = "filter")]
        snapshot: bool,
        /// The collector that does it, all of its instances; procmond when nothing is said
        #[arg(long, value_name = "NAME")]
        collector: Option<String>,
        /// How long it may take, as in `500ms`, `10s`
        #[arg(long, value_name = "TIME", value_parser = duration)]
        timeout: Option<Duration>,
    },
}

/// What a task on an executable is about.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    /// A path, or a pid; a file whose name is a number is `./NUMBER`
    #[arg(value_name = "PATH|PID")]
    target: OsString,
    /// The collector that does it, one of its instances; procmond when nothing is said
    #[arg(long, value_name = "NAME")]
    collector: Option<String>,
    /// How long it may take, as in `10s`, `2m`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

impl Asked {
    fn task(&self, expected: Option<&str>) -> Result<DetectionTask, Failure> {
        let pid = self.target.to_str().and_then(|text| text.parse().ok());
        let executable_path = match pid {
            Some(_) => String::new(),
            None => {
                let path = std::path::absolute(&self.target)
                    .map_err(|error| Failure::new(Kind::Usage, format!("{:?} is no path: {error}", self.target)))?;
                escape_bytes(path.as_os_str().as_encoded_bytes())
            }
        };
        Ok(DetectionTask {
            process_filter: Some(ProcessFilter { pids: pid.into_iter().collect(), ..ProcessFilter::default() }),
            hash_check: Some(HashCheck {
                expected_hash: expected.unwrap_or_default().to_owned(),
                executable_path,
                ..HashCheck::default()
            }),
            timeout_ms: milliseconds(self.timeout),
            ..DetectionTask::default()
        })
    }
}

pub(crate) async fn run(
    command: &Command,
    agent: &Agent,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    match command {
        Command::Collect(Collect::Now { snapshot: true, collector, timeout, .. }) => {
            collect::snapshot(collector.as_deref(), *timeout, agent, format, screen).await
        }
        Command::Collect(Collect::Now { filter, collector, timeout, .. }) => {
            collect::run(filter, collector.as_deref(), *timeout, agent, format, screen).await
        }
        Command::Hash(asked) => executable::hash(asked, agent, format, screen).await,
        Command::Verify { asked, expect } => executable::verify(asked, expect.as_deref(), agent, format, screen).await,
        Command::WatchTree { pid, collector, timeout } => {
            watch::run(*pid, collector.as_deref(), *timeout, agent, format, screen).await
        }
    }
}

fn milliseconds(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// A record's cell, as a query would give it.
pub(super) fn cell_of<R>(column: &Column<R>, record: &R) -> Cell {
    let value = match (column.kind, (column.get)(record)) {
        (_, Value::Null) => None,
        (ColumnKind::Time, Value::Integer(ns)) => Some(cell::Value::Text(time::sql_text(ns))),
        (_, Value::Integer(number)) => Some(cell::Value::Integer(number)),
        (_, Value::Real(number)) => Some(cell::Value::Real(number)),
        (_, Value::Text(text)) => Some(cell::Value::Text(text.into_owned())),
    };
    Cell { value }
}

pub(super) fn heading(name: &str, kind: ColumnKind) -> ResultColumn {
    ResultColumn { name: name.to_owned(), kind: kind.into() }
}

/// What the agent says of completeness in the last part; without that the answer is cut off.
fn whole(completeness: Option<Completeness>) -> Result<Completeness, Failure> {
    completeness.ok_or_else(|| Failure::new(Kind::Failed, "the agent's answer ended before it was complete"))
}
