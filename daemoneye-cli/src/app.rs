//! The command line as a whole: from arguments to an exit code.

use crate::bus::Agent;
use crate::commands::export::Format;
use crate::commands::{
    alerts, alerts_watch, collectors, config, data, explain, health, metrics, processes, query, rules, tables, tasks,
};
use crate::failure::{Failure, Kind};
use crate::output::{Outcome, Screen};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use daemoneye_lib::cli::{CommonArgs, colours_wanted, logging};
use daemoneye_lib::config::keys::OUTPUT_FORMATS;
use daemoneye_lib::config::{self as configuration, Component, Environment, Loaded, OutputFormat};
use std::io::{BufWriter, IsTerminal};

/// The width of tables where no terminal tells it.
const DEFAULT_WIDTH: usize = 120;

/// DaemonEye: what runs on this host, what was suspicious, and what could not be seen.
#[derive(Debug, Parser)]
#[command(name = "daemoneye-cli", version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: CommonArgs,
    /// How data is printed
    #[arg(long, global = true, value_name = "FORMAT", value_parser = format_parser(), help_heading = "Common options")]
    format: Option<Format>,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but the answer is degraded, 4 no such alert or \
    rule, 5 refused, 69 the agent cannot be reached, 70 a defect of DaemonEye.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask the agent a question in SQL
    Query(query::Arguments),
    /// What a question in SQL would read, and how, without asking it
    Explain(query::Arguments),
    /// The tables that can be asked about, or one with its columns
    Tables(tables::Arguments),
    /// The processes that run now
    Processes(processes::Arguments),
    /// What was suspicious
    #[command(subcommand)]
    Alerts(alerts::Command),
    /// What counts as suspicious
    #[command(subcommand)]
    Rules(rules::Command),
    #[command(flatten)]
    Tasks(tasks::Command),
    /// How the agent and its collectors are: exit code 0 when well, 1 when starting or failed, 3 when degraded
    Health,
    /// What the agent counts and measures, as Prometheus reads it
    Metrics,
    /// Who collects, and how they are
    #[command(subcommand)]
    Collectors(collectors::Command),
    /// The configuration in force
    #[command(subcommand)]
    Config(config::Command),
    /// What the event store holds
    #[command(subcommand)]
    Data(data::Command),
}

fn format_parser() -> impl TypedValueParser<Value = Format> {
    let words = OUTPUT_FORMATS.iter().copied().chain([Format::PARQUET]);
    PossibleValuesParser::new(words).map(|word| match word.as_str() {
        "json" => Format::Shown(OutputFormat::Json),
        "jsonl" => Format::Shown(OutputFormat::Jsonl),
        "csv" => Format::Shown(OutputFormat::Csv),
        Format::PARQUET => Format::Parquet,
        _ => Format::Shown(OutputFormat::Table),
    })
}

/// Runs the command on the real screen.
pub(crate) fn run(arguments: Arguments) -> u8 {
    let (stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    let terminal = stdout.is_terminal();
    let colours = colours_wanted(&stdout);
    let mut out = BufWriter::new(stdout.lock());
    let mut screen = Screen { out: &mut out, err: &mut stderr, width: width(), terminal, colours };
    let done = execute(arguments, &Environment::from_process(), &mut screen);
    let done = done.and_then(|outcome| screen.out.flush().map(|()| outcome).map_err(Failure::from));
    match done {
        Ok(outcome) => outcome as u8,
        Err(failure) => {
            // What has been printed so far stays visible, before the reason why there is no more.
            let _ = screen.out.flush();
            failure.print(screen.err);
            failure.kind as u8
        }
    }
}

/// Columns of the terminal; without one `COLUMNS`, which shells seldom export.
fn width() -> usize {
    let terminal = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let variable = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.or_else(variable).unwrap_or(DEFAULT_WIDTH).max(20)
}

fn execute(arguments: Arguments, env: &Environment, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    let overrides = arguments.common.overrides();
    let shown = match arguments.format {
        Some(Format::Shown(format)) => Some(format),
        Some(Format::Parquet) if !matches!(arguments.command, Command::Data(data::Command::Export(_))) => {
            return Err(data::only_files(Format::Parquet));
        }
        Some(Format::Parquet) | None => None,
    };
    // Commands on files and on the configuration itself ask no agent.
    if let Command::Config(command) = &arguments.command {
        return config::run(command, &overrides, shown, env, screen);
    }
    let Loaded { config, .. } = configuration::load(Component::Cli, &overrides, env)?;
    logging::init(config.app.log_level, config.app.log_format);
    let format = shown.or(config.cli.format).unwrap_or(OutputFormat::Table);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::caused(Kind::Failed, &error))?;
    runtime.block_on(async {
        if let Command::Rules(command) = &arguments.command
            && command.is_offline()
        {
            return rules::run_offline(command, format, screen).await;
        }
        if let Command::Tables(arguments) = &arguments.command {
            return tables::run(arguments, format, screen);
        }
        let query = match &arguments.command {
            // Before the connection: a question that cannot be asked needs no agent.
            Command::Query(arguments) | Command::Explain(arguments) => Some(arguments.read(&mut std::io::stdin())?),
            _ => None,
        };
        let agent = Agent::connect(&config, screen.width).await?;
        match (arguments.command, query) {
            (Command::Query(arguments), Some(query)) => arguments.run(&agent, query, format, screen).await,
            (Command::Explain(arguments), Some(query)) => explain::run(&arguments, &agent, query, format, screen).await,
            (Command::Processes(arguments), _) => processes::run(&arguments, &agent, format, screen).await,
            (Command::Alerts(alerts::Command::Watch(arguments)), _) => {
                alerts_watch::run(&arguments, &agent, format, screen).await
            }
            (Command::Alerts(command), _) => alerts::run(&command, &agent, format, screen).await,
            (Command::Rules(command), _) => rules::run(&command, &agent, format, screen).await,
            (Command::Data(command), _) => data::run(&command, &agent, arguments.format, format, screen).await,
            (Command::Collectors(command), _) => collectors::run(&command, &agent, format, screen).await,
            (Command::Tasks(command), _) => tasks::run(&command, &agent, format, screen).await,
            (Command::Health, _) => health::run(&agent, format, screen).await,
            (Command::Metrics, _) => metrics::run(&agent, shown, screen).await,
            (Command::Config(_) | Command::Query(_) | Command::Explain(_) | Command::Tables(_), _) => {
                Err(Failure::new(Kind::Defect, "this command asks no agent"))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::{Command, CommandFactory};

    const MANUAL: &str = include_str!("../../docs/cli.md");

    fn check(command: &Command, path: &str) {
        for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(MANUAL.contains(&format!("--{flag}")), "docs/cli.md says nothing about --{flag} of `{path}`");
        }
        let leaf = command.get_subcommands().next().is_none();
        assert!(!leaf || MANUAL.contains(&format!("| `{path}")), "docs/cli.md says nothing about `{path}`");
        for inner in command.get_subcommands() {
            check(inner, format!("{path} {}", inner.get_name()).trim());
        }
    }

    #[test]
    fn the_manual_tells_every_command_and_flag() {
        Arguments::command().debug_assert();
        check(&Arguments::command(), "");
    }
}
