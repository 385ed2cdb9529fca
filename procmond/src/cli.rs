//! Wiring, and what the operator reads when something is wrong.

use crate::flags::{Arguments, Command, ScanFormat};
use crate::hashing::{FileDigester, Hashes};
use crate::limitations::View;
use crate::mask::Masker;
use crate::memory::{self, Keeper};
use crate::pace::{Pace, Wanted};
use crate::poller::{self, Poller};
use crate::print;
use crate::procfs::boot::{Boot, BootError};
use crate::reader::{HostProc, OpenError};
use crate::reload::Reload;
use crate::scan::{Scanner, VariableNames};
use crate::snapshot::{Desk, Due};
use crate::source::PollSource;
use crate::tasks::{Share, Tasks};
use clap::Parser as _;
use collector_core::{BusKeys, CollectorConfig, CollectorError, DataDirLock, Ended, LockError, Stop};
use daemoneye_lib::cli::{Terminal, logging};
use daemoneye_lib::config::{self, Component, Config, ConfigError, Environment, Loaded, Procmond, Rereader};
use std::error::Error;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

const NAME: &str = Component::Procmond.name();
const PROC: &str = "/proc";

/// Why procmond ended with a failure.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error(transparent)]
    Proc(#[from] OpenError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("the line on standard input is no token: {0}")]
    Token(String),
    #[error("cannot start")]
    Start(#[source] io::Error),
    #[error(transparent)]
    Collector(#[from] CollectorError),
    #[error(transparent)]
    Print(#[from] print::PrintError),
}

impl Failure {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Token(_) => Some("let the agent start procmond, or give it no input (</dev/null)".to_owned()),
            _ => None,
        }
    }

    /// Whoever reads our output has seen enough.
    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Print(print::PrintError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "{}", report(&failure));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let overrides = arguments.common.overrides();
    let (env, terminal) = (Environment::from_process(), Terminal::at_start());
    let loaded = config::load(Component::Procmond, &overrides, &env)?;
    let config = &loaded.config;
    let log_level = logging::init(config.app.log_level, config.app.log_format);
    match arguments.command {
        Some(Command::Scan { format: ScanFormat::Jsonl }) => scan(config),
        None => {
            let rereader = Rereader::new(Component::Procmond, overrides, env, &loaded);
            let (wanted, _) = watch::channel(Wanted::from(config));
            let (variables, _) = variables(config);
            collect(&loaded, Reload { rereader, log_level, wanted, variables }, terminal)
        }
    }
}

fn scan(config: &Config) -> Result<(), Failure> {
    let mut scanner = scanner(config, Boot::current()?, variables(config).1)?;
    let counts = print::scan(&mut scanner, BufWriter::new(io::stdout().lock()))?;
    tracing::debug!(?counts, "scanned");
    Ok(())
}

fn variables(config: &Config) -> (watch::Sender<Arc<[String]>>, VariableNames) {
    watch::channel(config.procmond.environment.as_slice().into())
}

fn tasks(config: &Config, boot: &Boot, hashes: Hashes, snapshots: Desk, reload: &Reload) -> Tasks {
    let (own, own_boot, own_hashes) = (config.clone(), boot.clone(), hashes.clone());
    let (variables, share) = (reload.variables.subscribe(), Share::new(reload.wanted.subscribe()));
    let new_scanner = move || {
        let scanner = scanner(&own, own_boot.clone(), variables.clone())?;
        Ok(scanner.hashing(own_hashes.clone()))
    };
    Tasks { new_scanner: Box::new(new_scanner), boot: boot.clone(), hashes, snapshots, share }
}

fn scanner(config: &Config, boot: Boot, variables: VariableNames) -> Result<Scanner<HostProc>, OpenError> {
    let Procmond { max_command_line_bytes, mask_secrets, mask_names, .. } = &config.procmond;
    let masker = if *mask_secrets { Masker::new(mask_names) } else { Masker::off() };
    let scanner = Scanner::new(HostProc::open(Path::new(PROC))?, boot, *max_command_line_bytes);
    Ok(scanner.masking(masker).collecting(variables))
}

fn hashes(config: &Procmond) -> Result<Hashes, Failure> {
    let digester = Arc::new(FileDigester::new(config.hash_max_bytes_per_second, config.hash_max_file_bytes));
    if config.hash_executables {
        Hashes::start(config.hash_queue, digester).map_err(Failure::Start)
    } else {
        Ok(Hashes::on_demand(digester))
    }
}

/// Everything that collecting is made of, in the order in which it depends on each other.
fn collect(loaded: &Loaded, reload: Reload, terminal: Terminal) -> Result<(), Failure> {
    let Loaded { config, collector_variables, .. } = loaded;
    let data_dir = config.app.directory_of(Component::Procmond);
    let lock = DataDirLock::acquire(&data_dir)?;
    let token = collector_core::token_from_stdin();

    let known = data_dir.join("known.bin");
    let memory = memory::load(&known).unwrap_or_else(|error| {
        tracing::warn!(error = &error as &dyn Error, "running processes will be told again");
        None
    });
    let boot = poller::settle(Boot::current()?, memory.as_ref());
    let (hashes, snapshots) = (hashes(&config.procmond)?, Desk::default());
    let scanner = scanner(config, boot.clone(), reload.variables.subscribe())?;
    let source = PollSource {
        poller: Poller::new(scanner.hashing(hashes.clone()), boot.clone(), memory),
        pace: Pace::new(Duration::from_millis(config.app.scan_interval_ms), config.app.max_scan_cpu),
        wanted: reload.wanted.subscribe(),
        keeper: Keeper::new(known),
        snapshots: Due::new(snapshots.clone()),
        view: View::of_this_process(),
        tasks: Some(Arc::new(tasks(config, &boot, hashes, snapshots, &reload))),
    };
    let collector = CollectorConfig {
        name: NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        data_dir,
        socket: config.app.socket(),
        bus_keys: config.app.bus_keys().map(BusKeys::in_dir),
        spool_max_bytes: config.collector.spool_max_bytes,
        orphan_timeout: orphan_timeout(config.collector.orphan_timeout_s),
        token: match token {
            Some(line) => Some(line.parse().map_err(|error| Failure::Token(format!("{error}")))?),
            None => None,
        },
        boot_id: boot.id,
        variables: collector_variables.clone(),
    };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Start)?;
    let ended = runtime.block_on(async {
        let stop = Stop::new().map_err(Failure::Start)?;
        let hangup = signal(SignalKind::hangup()).map_err(Failure::Start)?;
        let end = asked_to_end(stop, hangup, reload, terminal);
        Ok::<_, Failure>(collector_core::run(collector, lock, Box::new(source), end).await?)
    })?;
    match ended {
        Ended::Orphaned => tracing::info!("no agent came back: ended"),
        _ => tracing::info!("ended"),
    }
    Ok(())
}

/// A service manager restarts the agent and stops its collectors itself: below one, a collector waits for ever.
fn orphan_timeout(seconds: u64) -> Option<Duration> {
    // systemd names the process that it runs; a shell within a session of systemd's inherits the variable, with another pid.
    let managed = std::env::var("SYSTEMD_EXEC_PID").ok().and_then(|pid| pid.parse().ok());
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
    (seconds > 0 && (managed.is_none() || managed != parent)).then(|| Duration::from_secs(seconds))
}

/// Resolves when an end is asked for. SIGHUP asks for one only when the terminal is gone; otherwise it asks to read the
/// configuration anew.
async fn asked_to_end(stop: Stop, mut hangup: Signal, mut reload: Reload, terminal: Terminal) {
    let mut stop = pin!(stop.asked());
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = hangup.recv() => {
                if terminal.is_gone() {
                    return tracing::debug!("asked to stop by SIGHUP: the terminal is gone");
                }
                reload.reload();
            }
        }
    }
}

/// `error: …` with every cause that does not stand in the message already, then `hint: …`.
fn report(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        let error_text = error.to_string();
        if !text.contains(&error_text) {
            text = format!("{text}: {error_text}");
        }
        cause = error.source();
    }
    match failure.hint() {
        Some(hint) => format!("error: {text}\nhint: {hint}"),
        None => format!("error: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let failure = Failure::Start(io::Error::other("no memory"));
        assert_eq!(report(&failure), "error: cannot start: no memory");
    }
}
