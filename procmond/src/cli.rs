//! The program on Linux: its wiring.

use crate::failure::{self, Failure};
use crate::flags::{Arguments, Command, ScanFormat};
use crate::hashing::{FileDigester, Hashes};
use crate::kernel::{self, Acts, Chosen, KernelTypes, Listening};
use crate::limitations::View;
use crate::memory::Keeper;
use crate::pace::{Pace, Wanted};
use crate::poller::{self, Poller};
use crate::print;
use crate::procfs::boot::Boot;
use crate::reader::{HostProc, OpenError};
use crate::reload::Reload;
use crate::scan::{ImageHashes, Predecessors, Scanner, VariableNames};
use crate::setup;
use crate::snapshot::{Desk, Due};
use crate::source::WatchSource;
use crate::tasks::{Share, Tasks};
use crate::tell::Teller;
use clap::Parser as _;
use collector_core::{DataDirLock, Ended, Stop};
use daemoneye_lib::cli::{Terminal, logging};
use daemoneye_lib::config::{self, Component, Config, Environment, Loaded, ProcessSource, Procmond, Rereader};
use std::io::{self, BufWriter};
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

const PROC: &str = "/proc";

/// Runs the program.
pub fn main() -> ExitCode {
    failure::exit_code(run(&Arguments::parse()))
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
    let mut scanner =
        scanner(config, Boot::current().map_err(Failure::host)?, variables(config).1).map_err(Failure::host)?;
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
    let proc = HostProc::open(Path::new(PROC))?.narrowed(View::of_this_process().is_narrowed());
    let scanner = Scanner::new(proc, boot, config.procmond.max_command_line_bytes);
    Ok(scanner.masking(setup::masker(&config.procmond)).collecting(variables))
}

/// What the kernel tells: where processes are seen, and the acts beside them.
fn listen(config: &Procmond, boot: &Boot) -> Result<(Chosen, Acts), Failure> {
    let pid_namespace = kernel::pid_namespace().map_err(Failure::Start)?;
    // They are let go of when all is loaded.
    let types = KernelTypes::default();
    let chosen = choose(config, boot, pid_namespace, &types)?;
    Ok((chosen, acts(config, pid_namespace, &types)))
}

/// Where processes are seen.
fn choose(config: &Procmond, boot: &Boot, pid_namespace: u32, types: &KernelTypes) -> Result<Chosen, Failure> {
    let options = kernel::Options {
        ring_bytes: config.ring_bytes.next_power_of_two(),
        max_arguments: u32::try_from(config.max_command_line_bytes).unwrap_or(u32::MAX),
        environment: !config.environment.is_empty(),
        pid_namespace,
        page_size: boot.page_size,
    };
    let chosen = kernel::choose(config.source, &options, types).map_err(Failure::host)?;
    tracing::info!(mode = chosen.heard.mode, reason = chosen.heard.reason, "processes are seen");
    Ok(chosen)
}

/// What tells of connections and of what matters for security. Who asks for no eBPF gets none.
fn acts(config: &Procmond, pid_namespace: u32, types: &KernelTypes) -> Acts {
    let wanted = kernel::Wanted { network: config.network_events, security: config.security_events, pid_namespace };
    match config.source {
        ProcessSource::Auto | ProcessSource::Ebpf => Acts::load(wanted, types),
        ProcessSource::Connector | ProcessSource::Poll => {
            Acts::without(wanted, "procmond.source asks for no eBPF programs")
        }
    }
}

fn hashes(config: &Procmond) -> Result<Hashes, Failure> {
    let digester = FileDigester::new(config.hash_max_bytes_per_second, config.hash_max_file_bytes);
    let digester = Arc::new(digester.fuzzy(config.fuzzy_hashes));
    if config.hash_executables {
        Hashes::start(config.hash_queue, digester).map_err(Failure::Start)
    } else {
        Ok(Hashes::on_demand(digester))
    }
}

/// Everything that collecting is made of, in the order in which it depends on each other.
fn collect(loaded: &Loaded, reload: Reload, terminal: Terminal) -> Result<(), Failure> {
    let config = &loaded.config;
    let data_dir = config.app.directory_of(Component::Procmond);
    let lock = DataDirLock::acquire(&data_dir)?;
    let token = collector_core::token_from_stdin();

    let known = data_dir.join("known.bin");
    let memory = setup::recall(&known);
    let boot = poller::settle(Boot::current().map_err(Failure::host)?, memory.as_ref());
    let (hashes, snapshots) = (hashes(&config.procmond)?, Desk::default());
    let scanner = scanner(config, boot.clone(), reload.variables.subscribe()).map_err(Failure::host)?;
    let predecessors = Predecessors::shared(config.procmond.fuzzy_threshold);
    let teller = Teller::new(
        setup::masker(&config.procmond),
        reload.variables.subscribe(),
        ImageHashes { hashes: hashes.clone(), predecessors: Arc::clone(&predecessors) },
        config.procmond.max_command_line_bytes,
    )
    .in_mounts(kernel::mount_namespace().ok());
    let (Chosen { heard, roster, mut features }, acts) = listen(&config.procmond, &boot)?;
    let scanner = scanner.hashing(hashes.clone()).comparing(predecessors).calling(roster);
    features.extend_from_slice(acts.features());
    let teller = teller.telling_security(config.procmond.security_events);
    let every = Duration::from_millis(config.procmond.drain_interval_ms);
    let source = WatchSource {
        poller: Poller::new(scanner, boot.clone(), memory),
        meanwhile: Box::new(Listening::new(heard, acts, teller, every)),
        features,
        pace: Pace::new(Duration::from_millis(config.app.scan_interval_ms), config.app.max_scan_cpu),
        wanted: reload.wanted.subscribe(),
        keeper: Keeper::new(known),
        snapshots: Due::new(snapshots.clone()),
        view: View::of_this_process(),
        tasks: Some(Arc::new(tasks(config, &boot, hashes, snapshots, &reload))),
    };
    let orphan_timeout = orphan_timeout(config.collector.orphan_timeout_s);
    let collector = setup::collector(loaded, data_dir, orphan_timeout, token, boot.id)?;

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
