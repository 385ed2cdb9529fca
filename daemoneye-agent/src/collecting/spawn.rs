//! Which collectors the agent runs, and what each is given: `docs/collectors.md` is the contract.

use crate::collecting::collectors::{Collectors, PROCMOND};
use crate::run::RunError;
use daemoneye_lib::config::{Component, Config, Layer, Loaded, SpawnedCollector};
use daemoneye_lib::proto::ipc::Instructions;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

const NAME: &str = "DAEMONEYE_COLLECTOR_NAME";
const SPOOL: &str = "DAEMONEYE_COLLECTOR_SPOOL_MAX_BYTES";
const ORPHAN: &str = "DAEMONEYE_COLLECTOR_ORPHAN_TIMEOUT_S";
const KEYS: &str = "DAEMONEYE_COLLECTOR_BUS_KEYS";

/// A collector to be run.
pub(crate) struct Spawn {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) variables: Vec<(&'static str, OsString)>,
    pub(crate) data_dir: PathBuf,
}

/// The collectors of this configuration that are switched on; all of them become known.
pub(crate) fn collectors(
    loaded: &Loaded,
    config_file: Option<&Path>,
    known: &Collectors,
) -> Result<Vec<Spawn>, RunError> {
    let mut all = loaded.config.collectors.clone();
    let procmond = SpawnedCollector { enabled: true, ..SpawnedCollector::default() };
    all.entry(PROCMOND.to_owned()).or_insert(procmond);
    let mut spawns = Vec::new();
    for (name, collector) in all {
        for name in instances(&name, &collector) {
            configure(&name, &collector, known);
            if collector.enabled {
                spawns.push(spawn(name, collector.command.clone(), loaded, config_file)?);
            } else {
                known.disabled(&name);
            }
        }
    }
    Ok(spawns)
}

/// What a configuration that was read anew wants of collectors that are known, where it is not what it was.
pub(crate) fn configure_anew(config: &Config, known: &Collectors) -> Vec<(String, Instructions)> {
    let all = config.collectors.iter().flat_map(|(name, collector)| {
        instances(name, collector).filter_map(|name| configure(&name, collector, known).map(|wanted| (name, wanted)))
    });
    all.collect()
}

/// The names of a collector's instances: its own, then numbered ones.
fn instances(name: &str, collector: &SpawnedCollector) -> impl Iterator<Item = String> {
    let numbered = (2..=collector.instances).map(move |number| format!("{name}@{number}"));
    std::iter::once(name.to_owned()).chain(numbered)
}

/// Notes what the configuration wants of a collector; returns it when it is new.
fn configure(name: &str, collector: &SpawnedCollector, known: &Collectors) -> Option<Instructions> {
    let settings = serde_json::to_string(&collector.settings).unwrap_or_default();
    known.configure(name, settings, collector.memory_budget_bytes)
}

fn spawn(name: String, command: Vec<String>, loaded: &Loaded, config_file: Option<&Path>) -> Result<Spawn, RunError> {
    let config = &loaded.config;
    let mut words = command.into_iter();
    let (program, arguments) = match words.next() {
        None => (procmond()?, for_procmond(loaded, config_file)),
        Some(program) => {
            let own: Vec<OsString> = words.map(OsString::from).collect();
            (resolve(&program)?, [own, places(loaded), logging(loaded, |_| true)].concat())
        }
    };
    let managed = std::env::var("SYSTEMD_EXEC_PID").ok();
    let mut variables = vec![
        (NAME, name.clone().into()),
        (SPOOL, config.collector.spool_max_bytes.to_string().into()),
        (ORPHAN, orphan_timeout(config.collector.orphan_timeout_s, managed.as_deref()).to_string().into()),
    ];
    if let Some(keys) = config.app.bus_keys() {
        variables.push((KEYS, keys.into_os_string()));
    }
    let data_dir =
        if name == PROCMOND { config.app.directory_of(Component::Procmond) } else { config.app.data_dir.join(&name) };
    Ok(Spawn { name, program, arguments, variables, data_dir })
}

/// A service manager restarts the agent and stops its collectors itself: below one, they wait for ever. systemd names the process
/// that it runs; a shell within a session of systemd's inherits the variable, with another pid.
fn orphan_timeout(seconds: u64, managed: Option<&str>) -> u64 {
    let is_managed = managed.and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    if is_managed { 0 } else { seconds }
}

/// A name without a directory is a program of ours; nothing is searched for in `PATH`.
fn resolve(program: &str) -> io::Result<PathBuf> {
    if program.starts_with('/') { Ok(PathBuf::from(program)) } else { beside_us(program) }
}

/// A program of ours, which lies where this one does.
pub(crate) fn beside_us(program: &str) -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(format!("{program}{}", std::env::consts::EXE_SUFFIX)))
}

fn procmond() -> Result<PathBuf, RunError> {
    let path = beside_us(PROCMOND)?;
    if path.is_file() { Ok(path) } else { Err(RunError::NoCollector { path }) }
}

/// What procmond cannot find in the files that it reads too, and reads anew: where this agent is, and what only this agent
/// was told.
fn for_procmond(loaded: &Loaded, config_file: Option<&Path>) -> Vec<OsString> {
    let told = |key: &str| {
        loaded.settings.iter().any(|setting| setting.key == key && setting.origin.layer >= Layer::Environment)
    };
    let file = config_file.map(|file| ["--config".into(), file.into()]);
    [places(loaded), logging(loaded, told), file.into_iter().flatten().collect()].concat()
}

fn places(loaded: &Loaded) -> Vec<OsString> {
    let app = &loaded.config.app;
    vec!["--data-dir".into(), app.data_dir.clone().into(), "--runtime-dir".into(), app.runtime_dir.clone().into()]
}

fn logging(loaded: &Loaded, wanted: impl Fn(&str) -> bool) -> Vec<OsString> {
    let app = &loaded.config.app;
    let all = [
        ("app.log_level", "--log-level", app.log_level.as_str()),
        ("app.log_format", "--log-format", app.log_format.as_str()),
    ];
    let wanted = all.into_iter().filter(|(key, ..)| wanted(key));
    wanted.flat_map(|(_, flag, value)| [flag.into(), value.into()]).collect()
}
