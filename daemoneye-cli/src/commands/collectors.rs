//! `collectors`: who collects, and whether they shall go on.

use crate::bus::Agent;
use crate::executor::{Query, fetch};
use crate::failure::Failure;
use crate::output::{Outcome, Screen, Style};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::proto::ipc::CollectorOrder;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The collectors that the agent knows
    List,
    /// Have a collector stop looking until it is resumed or the agent ends; answers say what was not seen
    Pause {
        /// Its name
        name: String,
    },
    /// Have a paused collector go on
    Resume {
        /// Its name
        name: String,
    },
}

/// People get the columns that fit; programs get all.
const FOR_PEOPLE: &str = "collector, state, mode, pid, restarts, spool_items, observed_until, last_error";

pub(crate) async fn run(
    command: &Command,
    agent: &Agent,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let (name, paused) = match command {
        Command::List => return list(agent, format, screen).await,
        Command::Pause { name } => (name, true),
        Command::Resume { name } => (name, false),
    };
    let reply = agent.order(&CollectorOrder { collector: name.clone(), paused }).await?;
    let (name, done) = (for_terminal(name), if paused { "paused" } else { "resumed" });
    if reply.told {
        writeln!(screen.out, "{name} is {done}")?;
    } else {
        writeln!(screen.out, "{name} is not attached: it will be {done} when it is")?;
    }
    Ok(Outcome::Done)
}

async fn list(agent: &Agent, format: OutputFormat, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    let columns = if format == OutputFormat::Table { FOR_PEOPLE } else { "*" };
    let query = Query::from(format!("SELECT {columns} FROM system.collectors ORDER BY collector").as_str());
    let completeness = fetch(agent, &query, Vec::new(), &mut *screen.sheet(format, Style::default())).await?;
    screen.conclude(format, &completeness)
}
