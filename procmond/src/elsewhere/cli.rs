//! The program on systems other than Linux: the same flags, the same poller, with `portable` to read the processes.

use crate::failure::{self, Failure};
use crate::flags::{Arguments, Command, ScanFormat};
use crate::limitations::View;
use crate::memory::Keeper;
use crate::pace::{Pace, Wanted};
use crate::poller::{self, Poller};
use crate::portable::{self, Portable};
use crate::print;
use crate::quiet::Quiet;
use crate::setup;
use crate::snapshot::Due;
use crate::source::WatchSource;
use clap::Parser as _;
use collector_core::{DataDirLock, Stop};
use daemoneye_lib::cli::logging;
use daemoneye_lib::config::{self, Component, Config, Environment, Loaded};
use std::io::{self, BufWriter};
use std::process::ExitCode;
use std::time::Duration;

/// Runs the program.
pub fn main() -> ExitCode {
    failure::exit_code(run(&Arguments::parse()))
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
    Portable::new(config.procmond.max_command_line_bytes, setup::masker(&config.procmond))
}

/// Everything that collecting is made of, in the order in which it depends on each other.
fn collect(loaded: &Loaded) -> Result<(), Failure> {
    let config = &loaded.config;
    let data_dir = config.app.directory_of(Component::Procmond);
    let lock = DataDirLock::acquire(&data_dir)?;
    let token = collector_core::token_from_stdin();

    let known = data_dir.join("known.bin");
    let memory = setup::recall(&known);
    let boot = poller::settle(portable::boot(), memory.as_ref());
    let (_same, wanted) = tokio::sync::watch::channel(Wanted::from(config));
    let source = WatchSource {
        poller: Poller::new(portable(config), boot, memory),
        meanwhile: Box::new(Quiet { reason: "only Linux tells events of processes".to_owned() }),
        features: Vec::new(),
        pace: Pace::new(Duration::from_millis(config.app.scan_interval_ms), config.app.max_scan_cpu),
        wanted,
        keeper: Keeper::new(known),
        snapshots: Due::default(),
        view: View::of_this_process(),
        tasks: None,
    };
    let orphan_timeout =
        Some(config.collector.orphan_timeout_s).filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let collector = setup::collector(loaded, data_dir, orphan_timeout, token, portable::boot_id())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Start)?;
    let ended = runtime.block_on(async {
        let stop = Stop::new().map_err(Failure::Start)?;
        Ok::<_, Failure>(collector_core::run(collector, lock, Box::new(source), stop.asked()).await?)
    })?;
    tracing::info!(?ended, "ended");
    Ok(())
}
