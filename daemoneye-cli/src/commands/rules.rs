//! `rules`: the agent's rules and how they fare, switching them, and the commands on rule files.

use super::{rule_history, rule_import, rule_new, rule_test, validate};
use crate::bus::Agent;
use crate::executor::{Query, QueryExecutor, fetch};
use crate::failure::{Failure, Kind};
use crate::output::{Kept, Outcome, Screen, Style, plain};
use crate::parameters;
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::proto::ipc::{Cell, EnableRule, EnableRuleReply, cell};
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The rules that the agent has, with their state and cost, refused ones too
    List,
    /// One rule in full: its query, its exceptions, what it did and what it cost
    Show {
        /// Its id
        id: String,
    },
    /// Let a rule run again that was disabled
    Enable {
        /// Its id
        id: String,
    },
    /// Keep a rule from running, also after a restart of the agent
    Disable {
        /// Its id
        id: String,
    },
    /// Check rule files without an agent
    Validate {
        /// Files, or directories that are searched for *.toml
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
    /// Try rules: on the recorded events beside them or in a file, without an agent; or on what the agent has stored
    Test(rule_test::Arguments),
    /// Make rule files of rules that were written for others, without an agent
    #[command(subcommand)]
    Import(rule_import::Command),
    /// Write a new rule with an empty golden case, without an agent
    New(rule_new::Arguments),
}

impl Command {
    /// Whether the command works on files and asks no agent.
    pub(crate) fn is_offline(&self) -> bool {
        match self {
            Self::Validate { .. } | Self::Import(_) | Self::New(_) => true,
            Self::Test(arguments) => arguments.history.is_none(),
            Self::List | Self::Show { .. } | Self::Enable { .. } | Self::Disable { .. } => false,
        }
    }
}

/// Runs a command on files.
pub(crate) async fn run_offline(
    command: &Command,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    match command {
        Command::Validate { paths } => validate::run(paths, format, screen).await,
        Command::Import(command) => rule_import::run(command, format, screen).await,
        Command::New(arguments) => rule_new::run(arguments, format, screen).await,
        Command::Test(arguments) => rule_test::run(arguments, format, screen).await,
        _ => Err(Failure::new(Kind::Defect, "this command needs an agent")),
    }
}

/// Runs a command that asks the agent.
pub(crate) async fn run(
    command: &Command,
    agent: &Agent,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    match command {
        Command::List => list(agent, format, screen).await,
        Command::Show { id } => show(id, agent, format, screen).await,
        Command::Enable { id } => switch(id, true, agent, screen).await,
        Command::Disable { id } => switch(id, false, agent, screen).await,
        Command::Test(arguments) => rule_history::run(arguments, agent, format, screen).await,
        Command::Validate { .. } | Command::Import(_) | Command::New(_) => run_offline(command, format, screen).await,
    }
}

/// People get the columns that fit; programs get all.
const FOR_PEOPLE: &str = "rule_id, severity, state, matches, last_match, \
                          CASE WHEN evaluations > 0 THEN cost_ns / evaluations / 1000 END AS us_each, title, reason";

async fn list(
    executor: &impl QueryExecutor,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let columns = if format == OutputFormat::Table { FOR_PEOPLE } else { "*" };
    let query = Query::from(format!("SELECT {columns} FROM detection.rules ORDER BY rule_id").as_str());
    let completeness = fetch(executor, &query, Vec::new(), &mut *screen.sheet(format, Style::default())).await?;
    screen.conclude(format, &completeness)
}

async fn show(
    id: &str,
    executor: &impl QueryExecutor,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let query = Query::from("SELECT * FROM detection.rules WHERE rule_id = ? LIMIT 1");
    let mut found = Kept::default();
    let completeness = fetch(executor, &query, vec![parameters::text(id)], &mut found).await?;
    if found.rows.is_empty() {
        let failure = Failure::new(Kind::NotFound, format!("no such rule: {id}"));
        return Err(failure.hint("`daemoneye-cli rules list` names them all"));
    }
    let style = Style { show: Some(readable), blocks: true, ..Style::default() };
    screen.print(format, style, &found, &completeness)
}

/// A query on its own lines, and durations in seconds as what they are.
fn readable(column: &str, cell: &Cell) -> Option<String> {
    match (column, cell.value.as_ref()?) {
        ("description" | "sql", cell::Value::Text(text)) => Some(text.split_whitespace().collect::<Vec<_>>().join(" ")),
        ("dedup_window_s" | "window_s" | "every_s", _) => Some(format!("{} s", plain(cell)?)),
        ("cost_ns", cell::Value::Integer(ns)) => Some(format!("{} µs", ns / 1_000)),
        _ => None,
    }
}

async fn switch(id: &str, enabled: bool, agent: &Agent, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    let request = EnableRule { rule_id: id.to_owned(), enabled };
    let reply: EnableRuleReply = agent.ask("requests.rules.enable", &request, None).await?;
    let state = if enabled { "enabled" } else { "disabled" };
    let already = if reply.changed { "" } else { " already" };
    writeln!(screen.err, "the rule {id} is{already} {state}")?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Script, integer, shown, text};
    use daemoneye_lib::proto::ipc::ColumnKind;

    #[test]
    fn a_rule_is_asked_for_by_parameter_and_one_that_is_not_there_is_exit_4() {
        let columns = [("rule_id", ColumnKind::Text), ("sql", ColumnKind::Text), ("window_s", ColumnKind::Integer)];
        let none = Script::new(&columns);
        let (_, err, code) = shown(80, async |screen| show("it's", &none, OutputFormat::Table, screen).await);
        assert_eq!((err.lines().next(), code), (Some("error: no such rule: it's"), 4));
        assert!(!none.asked.borrow()[0].0.contains("it's"));
        let one = Script::new(&columns).row([text("r"), text("SELECT pid\n  FROM x"), integer(600)]);
        let (out, _, code) = shown(80, async |screen| show("r", &one, OutputFormat::Table, screen).await);
        assert!(out.contains("SELECT pid FROM x") && out.contains("600 s"), "{out}");
        assert_eq!(code, 0);
    }
}
