//! Reading the configuration anew while a program runs.
//!
//! What cannot be read leaves everything as it is. What can be read is put in force as far as the keys allow it
//! ([`keys::takes_effect_at_once`]); the others keep the values that the program was started with, and are named until it
//! is started again or they are set back.

use super::environment::{Component, Environment};
use super::error::ConfigError;
use super::keys;
use super::model::Config;
use super::settings::{Overrides, Setting};
use super::{Loaded, load};

/// Reads the configuration of a running program anew, from the layers that it was started with.
#[derive(Debug, Clone)]
pub struct Rereader {
    component: Component,
    flags: Overrides,
    env: Environment,
    running: Config,
    /// What the program was started with, and since then what took effect.
    settings: Vec<Setting>,
}

/// What reading anew came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Reread {
    /// The configuration that is in force with it.
    pub config: Config,
    /// The keys that change with it.
    pub changed: Vec<String>,
    /// The keys that were set otherwise and wait for a restart.
    pub pending: Vec<String>,
}

impl Rereader {
    /// For a program that was started with this.
    pub fn new(component: Component, flags: Overrides, env: Environment, loaded: &Loaded) -> Self {
        Self { component, flags, env, running: loaded.config.clone(), settings: loaded.settings.clone() }
    }

    /// Reads all layers; nothing is changed before [`Rereader::adopt`].
    ///
    /// # Errors
    /// Those of [`load`].
    pub fn read(&self) -> Result<(Reread, Loaded), ConfigError> {
        let loaded = load(self.component, &self.flags, &self.env)?;
        let Config { app, procmond, agent, sinks, collectors, .. } = &loaded.config;
        let mut config = self.running.clone();
        config.app.log_level = app.log_level;
        config.app.scan_interval_ms = app.scan_interval_ms;
        config.app.max_scan_cpu = app.max_scan_cpu;
        config.procmond.environment.clone_from(&procmond.environment);
        config.procmond.snapshot_interval_ms = procmond.snapshot_interval_ms;
        config.agent.query_timeout_ms = agent.query_timeout_ms;
        config.agent.query_max_rows = agent.query_max_rows;
        config.sinks.clone_from(sinks);
        for (name, running) in &mut config.collectors {
            if let Some(wanted) = collectors.get(name) {
                running.settings.clone_from(&wanted.settings);
                running.memory_budget_bytes = wanted.memory_budget_bytes;
            }
        }
        let (changed, pending) =
            different(&self.settings, &loaded.settings).into_iter().partition(|key| keys::takes_effect_at_once(key));
        Ok((Reread { config, changed, pending }, loaded))
    }

    /// Takes note that what was read is in force.
    pub fn adopt(&mut self, reread: &Reread, loaded: &Loaded) {
        self.running.clone_from(&reread.config);
        let at_once = |setting: &&Setting| keys::takes_effect_at_once(&setting.key);
        self.settings.retain(|setting| !at_once(&setting));
        self.settings.extend(loaded.settings.iter().filter(at_once).cloned());
    }

    /// The configuration in force.
    pub fn running(&self) -> &Config {
        &self.running
    }
}

/// The keys whose values differ, in the order of the second list; those that it lacks come last.
fn different(before: &[Setting], after: &[Setting]) -> Vec<String> {
    let of = |settings: &[Setting], key: &str| {
        settings.iter().find(|setting| setting.key == key).and_then(|setting| setting.value.clone())
    };
    let keys = after.iter().chain(before.iter().filter(|old| !after.iter().any(|new| new.key == old.key)));
    keys.map(|setting| &setting.key).filter(|key| of(before, key) != of(after, key)).cloned().collect()
}
