//! The layered configuration of all programs.
//!
//! Highest first: flags, environment variables, the user's file, the system's file, built-in defaults. [`keys`] is the
//! one table of what can be set: defaults, validation, the names of environment variables, the nearest key of a typing
//! error, `config show` and the shipped example all come from it. Everything here takes an [`Environment`] as a value;
//! only [`Environment::from_process`] looks at the process.
//!
//! Refused: unknown keys, wrong types, values out of range, relative paths in files and variables, and, for a process
//! that holds capabilities, a user's file that somebody else could have written.
//!
//! The runtime directory follows the data directory: where `app.data_dir` was set by a higher layer than
//! `app.runtime_dir`, the latter is `<data_dir>/run`, so that agents on different directories do not meet.

mod check;
mod directories;
mod disk;
mod environment;
mod error;
mod file;
pub mod keys;
mod model;
#[cfg(test)]
mod reference;
mod reload;
mod settings;
#[cfg(test)]
mod tests;
mod variables;

pub use check::{Finding, Host, Verdict, check};
pub use directories::{
    DirectoryError, Usable, check_directory, check_private_dir, create_private_dir, for_owner_alone, open_no_follow,
};
pub use disk::{free_bytes, is_in_memory};
pub use environment::{Component, Environment};
pub use error::ConfigError;
pub use model::{
    Agent, App, BusEncryption, Cli, Collector, Config, LogFormat, LogLevel, OutputFormat, ProcessSource, Procmond,
    Rules, Sink, SinkFormat, SpawnedCollector,
};
pub use reload::{Reread, Rereader};
pub use settings::{Layer, Origin, Overrides, Setting};
pub use variables::CollectorVariables;

use settings::Settings;

/// The configuration in force, and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Every key in the order of [`keys::KEYS`], sinks last.
    pub settings: Vec<Setting>,
    /// `DAEMONEYE_AGENT_TEST_MODE=1`: short intervals and reproducible ids; the agent says at its start and in `health` that it
    /// is one for tests.
    pub test_mode: bool,
    /// The variables beside the keys that any collector accepts.
    pub collector_variables: CollectorVariables,
}

/// Puts the layers together for one program.
///
/// # Errors
/// The first thing that is wrong, with the key, where it stands, and what is allowed.
pub fn load(component: Component, flags: &Overrides, env: &Environment) -> Result<Loaded, ConfigError> {
    let mut settings = Settings::default();
    settings.apply(file::layers(flags, env)?);
    let variables = variables::read(component, env)?;
    settings.apply(variables.assignments);
    settings.apply(flags.assignments(env)?);
    if variables.test_mode {
        settings.fill_test_mode();
    }
    settings.fill_defaults(env)?;
    Ok(Loaded {
        config: settings.config()?,
        settings: settings.list(),
        test_mode: variables.test_mode,
        collector_variables: variables.collector,
    })
}
