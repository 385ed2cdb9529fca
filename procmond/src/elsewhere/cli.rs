//! The program on systems other than Linux: the same flags, the same poller, with `portable` to read the processes.

use crate::flags::{Arguments, Command, ScanFormat};
use crate::limitations::View;
use crate::mask::Masker;
use crate::memory::{self, Keeper};
use crate::pace::{Pace, Wanted};
use crate::poller::{self, Poller};
use crate::portable::{self, Portable};
use crate::print;
use crate::snapshot::Due;
use crate::source::PollSource;
use clap::Parser as _;
use collector_core::{BusKeys, CollectorConfig, CollectorError, DataDirLock, LockError, Stop};
use daemoneye_lib::cli::logging;
use daemoneye_lib::config::{self, Component, Config, ConfigError, Environment, Loaded, Procmond};
use std::error::Error;
use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;
use std::time::Duration;

/// Why procmond ended with a failure.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("the line on standard input is no token: {0}")]
    Token(String),
    #[error("cannot start: {0}")]
    Start(io::Error),
    #[error(transparent)]
    Collector(#[from] CollectorError),
    #[error(transparent)]
    Print(#[from] print::PrintError),
}

/// Runs the program.
pub fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where standard error is closed there is nobody to tell.
            let mut stderr = io::stderr();
            let _ = write!(stderr, "error: {failure}");
            if let Some(cause) = failure.source() {
                let _ = write!(stderr, ": {cause}");
            }
            let _ = writeln!(stderr);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let overrides = arguments.common.overrides();
    let loaded = config::load(Component::Procmond, &overrides, &Environment::from_process())?;
    let config = &loaded.config;
    let _fixed = logging::init(config.app.log_level, config.app.log_format);
    match arguments.command {
        Some(Command::Scan { format: ScanFormat::Jsonl }) => scan(config),
        None => collect(&loaded),
    }
}

fn scan(config: &Config) -> Result<(), Failure> {
    let mut collector = portable(config);
    let counts = print::scan(&mut collector, BufWriter::new(io::stdout().lock()))?;
    tracing::debug!(?counts, "scanned");
    Ok(())
}

fn portable(config: &Config) -> Portable {
    let Procmond { max_command_line_bytes, mask_secrets, mask_names, .. } = &config.procmond;
    let masker = if *mask_secrets { Masker::new(mask_names) } else { Masker::off() };
    Portable::new(*max_command_line_bytes, masker)
}

/// Everything that collecting is made of, in the order in which it depends on each other.
fn collect(loaded: &Loaded) -> Result<(), Failure> {
    let Loaded { config, collector_variables, .. } = loaded;
    let data_dir = config.app.directory_of(Component::Procmond);
    let lock = DataDirLock::acquire(&data_dir)?;
    let token = collector_core::token_from_stdin();

    let known = data_dir.join("known.bin");
    let memory = memory::load(&known).unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn Error, "running processes will be told again");
        None
    });
    let boot = poller::settle(portable::boot(), memory.as_ref());
    let (_same, wanted) = tokio::sync::watch::channel(Wanted::from(config));
    let source = PollSource {
        poller: Poller::new(portable(config), boot, memory),
        pace: Pace::new(Duration::from_millis(config.app.scan_interval_ms), config.app.max_scan_cpu),
        wanted,
        keeper: Keeper::new(known),
        snapshots: Due::default(),
        view: View::of_this_process(),
        tasks: None,
    };
    let orphan_timeout = config.collector.orphan_timeout_s;
    let collector = CollectorConfig {
        name: Component::Procmond.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_dir,
        socket: config.app.socket(),
        spool_max_bytes: config.collector.spool_max_bytes,
        orphan_timeout: (orphan_timeout > 0).then(|| Duration::from_secs(orphan_timeout)),
        token: match token {
            Some(line) => Some(line.parse().map_err(|error| Failure::Token(format!("{error}")))?),
            None => None,
        },
        boot_id: portable::boot_id(),
        variables: collector_variables.clone(),
        bus_keys: config.app.bus_keys().map(BusKeys::in_dir),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Start)?;
    let ended = runtime.block_on(async {
        let stop = Stop::new().map_err(Failure::Start)?;
        Ok::<_, Failure>(collector_core::run(collector, lock, Box::new(source), stop.asked()).await?)
    })?;
    tracing::info!(?ended, "ended");
    Ok(())
}
