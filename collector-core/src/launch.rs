//! How a collector is started by the agent: the flags, the variables and the token that it is given.
//!
//! [`main`] is a whole collector's `main`. The contract, for any language, is `docs/collectors.md`.

use crate::run::{CollectorConfig, CollectorError, Ended, run};
use crate::source::{EventSource, SourceError};
use crate::stop::Stop;
use crate::token::token_from_stdin;
use daemoneye_eventbus::{Keys, Token};
use daemoneye_lib::cli::logging;
use daemoneye_lib::config::{CollectorVariables, ConfigError, LogFormat, LogLevel};
use daemoneye_lib::lock::{DataDirLock, LockError};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The name that the agent knows the collector by.
const NAME: &str = "DAEMONEYE_COLLECTOR_NAME";
const SPOOL: &str = "DAEMONEYE_COLLECTOR_SPOOL_MAX_BYTES";
const ORPHAN: &str = "DAEMONEYE_COLLECTOR_ORPHAN_TIMEOUT_S";
const KEYS: &str = "DAEMONEYE_COLLECTOR_BUS_KEYS";
const DEFAULT_SPOOL: u64 = 64 << 20;
const DEFAULT_ORPHAN: u64 = 900;

/// Why a collector cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The contract is not kept.
    #[error("{what} {problem}; daemoneye-agent gives it to the collectors that it starts")]
    Contract {
        /// A flag or variable.
        what: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A variable of its own cannot be what it is.
    #[error(transparent)]
    Variable(#[from] ConfigError),
    /// What came on standard input is no token.
    #[error("the line on standard input is no token: {0}")]
    Token(String),
    /// Another one runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The source cannot be made.
    #[error("{0}")]
    Source(SourceError),
    /// The system refuses something.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// It ended with a failure.
    #[error(transparent)]
    Collector(#[from] CollectorError),
}

/// What a collector was given at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Its name.
    pub name: String,
    /// The data directory of all programs; its own is below it.
    pub data_dir: PathBuf,
    /// Where the agent's socket is.
    pub runtime_dir: PathBuf,
    /// How much it logs.
    pub log_level: LogLevel,
    /// How it logs.
    pub log_format: LogFormat,
    /// The bound on its spool.
    pub spool_max_bytes: u64,
    /// How long it goes on without an agent.
    pub orphan_timeout: Option<Duration>,
    /// Where the keys of the bus are, when it is encrypted.
    pub bus_keys: Option<Keys>,
    /// What the operator sets by variables, whatever the collector; whether the agent is in test mode.
    pub variables: CollectorVariables,
    /// Its own arguments, from `[collectors.NAME] command`.
    pub arguments: Vec<OsString>,
}

impl Launch {
    /// From the arguments and variables of this process.
    ///
    /// # Errors
    /// Which part of the contract is missing.
    pub fn from_process() -> Result<Self, LaunchError> {
        Self::read(std::env::args_os().skip(1), |name| std::env::var_os(name))
    }

    fn read(
        arguments: impl Iterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, LaunchError> {
        let (mut data_dir, mut runtime_dir) = (None, None);
        let (mut level, mut format) = (None, None);
        let (mut own, mut arguments) = (Vec::new(), arguments);
        while let Some(argument) = arguments.next() {
            let place = match argument.to_str() {
                Some("--data-dir") => &mut data_dir,
                Some("--runtime-dir") => &mut runtime_dir,
                Some("--log-level") => &mut level,
                Some("--log-format") => &mut format,
                _ => {
                    own.push(argument);
                    continue;
                }
            };
            let flag = argument.to_string_lossy().into_owned();
            *place = Some(arguments.next().ok_or(LaunchError::Contract { what: flag, problem: "has no value" })?);
        }
        let number = |name: &str, default: u64| match variable(name) {
            None => Ok(default),
            Some(text) => {
                let wrong = LaunchError::Contract { what: name.to_owned(), problem: "is no whole number" };
                text.to_str().and_then(|text| text.parse().ok()).ok_or(wrong)
            }
        };
        let missing = |what: &str| LaunchError::Contract { what: what.to_owned(), problem: "is missing" };
        let name = variable(NAME).and_then(|name| name.into_string().ok()).ok_or_else(|| missing(NAME))?;
        if !daemoneye_eventbus::topic::is_segment(&name) {
            return Err(LaunchError::Contract { what: NAME.to_owned(), problem: "is not made of a-z, 0-9, _ and -" });
        }
        let orphan = number(ORPHAN, DEFAULT_ORPHAN)?;
        let variables = CollectorVariables::of_collector(&name, &variable)?;
        // The agent's level is that of all programs, not one that was meant for this one.
        let debug = (variables.debug_logging == Some(true)).then_some(LogLevel::Debug);
        Ok(Self {
            name,
            data_dir: data_dir.ok_or_else(|| missing("--data-dir"))?.into(),
            runtime_dir: runtime_dir.ok_or_else(|| missing("--runtime-dir"))?.into(),
            log_level: debug.or_else(|| level.as_deref().and_then(level_of)).unwrap_or(LogLevel::Info),
            log_format: format.filter(|format| format == "json").map_or(LogFormat::Human, |_| LogFormat::Json),
            spool_max_bytes: number(SPOOL, DEFAULT_SPOOL)?,
            orphan_timeout: (orphan > 0).then(|| Duration::from_secs(orphan)),
            bus_keys: variable(KEYS).map(Keys::in_dir),
            variables,
            arguments: own,
        })
    }

    /// Runs the source until the agent, a signal or a failure ends it.
    ///
    /// # Errors
    /// What the process should end with.
    pub fn run(self, version: &str, source: Box<dyn EventSource>) -> Result<Ended, LaunchError> {
        let data_dir = self.data_dir.join(&self.name);
        let lock = DataDirLock::acquire(&data_dir)?;
        let token = match token_from_stdin() {
            Some(line) => Some(line.parse::<Token>().map_err(|error| LaunchError::Token(error.to_string()))?),
            None => None,
        };
        let config = CollectorConfig {
            name: self.name,
            version: version.to_owned(),
            data_dir,
            socket: self.runtime_dir.join("agent.sock"),
            spool_max_bytes: self.spool_max_bytes,
            orphan_timeout: self.orphan_timeout,
            token,
            // Where the system does not tell it, the spool cannot be proven intact after a restart of the host.
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
            variables: self.variables,
            bus_keys: self.bus_keys,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let stop = Stop::new()?.asked();
            Ok(run(config, lock, source, stop).await?)
        })
    }
}

/// The `main` of a collector: reads what the agent gave it, makes the source, runs it, and says on stderr why it failed.
pub fn main(version: &str, source: impl FnOnce(&Launch) -> Result<Box<dyn EventSource>, SourceError>) -> ExitCode {
    let done = Launch::from_process().and_then(|launch| {
        logging::init(launch.log_level, launch.log_format);
        let source = source(&launch).map_err(LaunchError::Source)?;
        launch.run(version, source)
    });
    match done {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn level_of(word: &OsStr) -> Option<LogLevel> {
    [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace]
        .into_iter()
        .find(|level| word == level.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Launch, String> {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        Launch::read(arguments.iter().map(OsString::from), variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_agents_flags_are_taken_out_and_the_collectors_own_are_left() {
        let flags =
            ["--file", "x", "--data-dir", "/d", "--runtime-dir", "/r", "--log-level", "debug", "--log-format", "json"];
        let launch = read(&flags, &[(NAME, "sniffer"), (ORPHAN, "0")]).unwrap();
        assert_eq!((launch.name.as_str(), launch.arguments), ("sniffer", vec!["--file".into(), "x".into()]));
        assert_eq!((launch.log_level, launch.log_format), (LogLevel::Debug, LogFormat::Json));
        assert_eq!((launch.orphan_timeout, launch.spool_max_bytes), (None, DEFAULT_SPOOL));
    }

    #[test]
    fn test_mode_and_the_variables_of_any_collector_are_taken() {
        let places = ["--data-dir", "/d", "--runtime-dir", "/r"];
        let set = |name: &'static str, value: &'static str| {
            read(&places, &[(NAME, "net-watch"), ("DAEMONEYE_AGENT_TEST_MODE", "1"), (name, value)])
        };
        let launch = set("NET_WATCH_COLLECTOR_EVENT_BUFFER_SIZE", "7").unwrap();
        assert_eq!((launch.variables.test_mode, launch.variables.event_buffer_size), (true, Some(7)));
        let loud = set("NET_WATCH_COLLECTOR_DEBUG_LOGGING", "1").unwrap();
        assert_eq!(loud.log_level, LogLevel::Debug);
        assert_eq!(set("OTHER_COLLECTOR_EVENT_BUFFER_SIZE", "x").unwrap().variables.event_buffer_size, None);
        let wrong = set("NET_WATCH_COLLECTOR_EVENT_BUFFER_SIZE", "x").unwrap_err();
        assert!(wrong.contains("NET_WATCH_COLLECTOR_EVENT_BUFFER_SIZE"), "{wrong}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |arguments, variables| read(arguments, variables).unwrap_err();
        assert!(error(&["--data-dir", "/d"], &[(NAME, "x")]).starts_with("--runtime-dir is missing"));
        assert!(error(&["--data-dir", "/d", "--runtime-dir", "/r"], &[]).starts_with(NAME));
        assert!(error(&["--data-dir"], &[]).starts_with("--data-dir has no value"));
        assert!(error(&["--data-dir", "/d", "--runtime-dir", "/r"], &[(NAME, "../x")]).contains("a-z"));
        let number = error(&["--data-dir", "/d", "--runtime-dir", "/r"], &[(NAME, "x"), (SPOOL, "much")]);
        assert!(number.starts_with(SPOOL), "{number}");
    }
}
