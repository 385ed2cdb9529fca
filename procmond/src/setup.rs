//! What is set up alike on every system, from the configuration and from what an earlier run left.

use crate::failure::Failure;
use crate::mask::Masker;
use crate::memory::{self, Memory};
use collector_core::{BusKeys, CollectorConfig};
use daemoneye_lib::config::{Component, Loaded, Procmond};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn masker(config: &Procmond) -> Masker {
    if config.mask_secrets { Masker::new(&config.mask_names) } else { Masker::off() }
}

/// What procmond knew at its last end; nothing where that cannot be had.
pub(crate) fn recall(known: &Path) -> Option<Memory> {
    memory::load(known).unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn Error, "running processes will be told again");
        None
    })
}

/// What the run loop is told; `token` is the line that the agent gave.
pub(crate) fn collector(
    loaded: &Loaded,
    data_dir: PathBuf,
    orphan_timeout: Option<Duration>,
    token: Option<String>,
    boot_id: String,
) -> Result<CollectorConfig, Failure> {
    let Loaded { config, collector_variables, .. } = loaded;
    let token = token.map(|line| line.parse().map_err(|error| Failure::Token(format!("{error}")))).transpose()?;
    Ok(CollectorConfig {
        name: Component::Procmond.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_dir,
        socket: config.app.socket(),
        bus_keys: config.app.bus_keys().map(BusKeys::in_dir),
        spool_max_bytes: config.collector.spool_max_bytes,
        orphan_timeout,
        token,
        boot_id,
        variables: collector_variables.clone(),
    })
}
