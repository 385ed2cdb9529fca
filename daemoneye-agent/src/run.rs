//! The wiring: what runs, who talks to whom, and in which order it ends.

use crate::answering::completeness::{CutQueries, RuleGaps};
use crate::answering::data::{self, DataServer, Retention};
use crate::answering::health::Health;
use crate::answering::inquiries::{HealthServer, MetricsServer};
use crate::answering::planning::Planning;
use crate::answering::queries::{AT_ONCE, QueryServer, QueryService};
use crate::answering::status;
use crate::args::{Args, Status, Verb};
use crate::collecting::collectors::{Collectors, PROCMOND};
use crate::collecting::ingest::{Ingest, Registration, Statuses};
use crate::collecting::orders::OrderServer;
use crate::collecting::spawn::{self, beside_us};
use crate::collecting::supervise::Supervisor;
use crate::collecting::tasks::TaskServer;
use crate::collecting::triggers::{self, Triggers};
use crate::feed::Feed;
use crate::metrics::{Metrics, Sources};
use crate::os::{self, SignalKind, signal};
use crate::pipeline::{DELIVERY_RETRY, Pending, Persistence, Pipeline, PipelineError, Progress};
use crate::reload::{Reload, ReloadState};
use crate::ruling::keeper::{self, Keeper};
use crate::ruling::requests::{Switch, TrialServer};
use crate::ruling::schedule::Scheduler;
use crate::ruling::state::RuleState;
use crate::ruling::trial::Trials;
use daemoneye_eventbus::{BindError, Broker, BrokerConfig, Closed, Credit, Keys};
use daemoneye_lib::alerting::{SinkError, Sinks};
use daemoneye_lib::cli::Terminal;
use daemoneye_lib::cli::logging::{self, LogLevelSwitch};
use daemoneye_lib::config::{
    self, Component, Config, ConfigError, DirectoryError, Environment, Loaded, LogFormat, Rereader, create_private_dir,
};
use daemoneye_lib::detection::query::{Queries, QueryError};
use daemoneye_lib::lock::{DataDirLock, LockError};
use daemoneye_lib::models::time;
use daemoneye_lib::storage::{Extent, OpenError, Opened, Store, StoreError, Verified};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How often collectors tell their status, and how often in test mode.
const HEARTBEAT: Duration = Duration::from_secs(5);
const TEST_HEARTBEAT: Duration = Duration::from_millis(500);
/// Batches between ingest and pipeline; when it is full, the bus waits.
const QUEUE: usize = 16;
/// What all scheduled rules have for their work, and what a trial of a rule has: as much, and not the same.
const RULE_MEMORY: usize = 32 << 20;
/// Rules that are planned at once for trials: one, and one that goes on after its time.
const TRIAL_PLANNING: usize = 2;
/// What each collector may have on its way to ingest; the rest stays in its spool.
const COLLECTOR_CREDIT: Credit = Credit { messages: 16, bytes: 4 << 20 };
/// Threads that do not block; queries have their own.
const WORKERS: usize = 2;
/// Deep plans need deep stacks; only what is used costs memory.
const STACK: usize = 8 << 20;
/// From the first signal until everything has ended: what is not done then is done at the next start.
const GRACE: Duration = Duration::from_millis(2_800);

/// Why the agent did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{error}: {}", error.source)]
    Directory {
        #[from]
        error: DirectoryError,
    },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rules(#[from] keeper::LoadError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Bus(#[from] Closed),
    #[error("the query engine cannot be set up: {0}")]
    Engine(#[from] QueryError),
    #[error("the metrics cannot be set up: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the collector {} is missing", path.display())]
    NoCollector { path: PathBuf },
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    #[error("{what} ended unexpectedly: {why}")]
    Ended { what: &'static str, why: String },
    #[error("not everything ended within {} s", GRACE.as_secs_f64())]
    Grace,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl RunError {
    /// What the operator can do.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Directory { error } => Some(error.hint()),
            Self::Rules(keeper::LoadError::Directory { error }) => Some(error.hint()),
            Self::Rules(keeper::LoadError::Rules { .. }) => {
                Some("make the directory readable, or name another one with --rules-dir".to_owned())
            }
            Self::NoCollector { .. } => {
                Some("install procmond beside daemoneye-agent (in a checkout: cargo build --workspace)".to_owned())
            }
            Self::Lock(LockError::Io { path, source })
            | Self::Open(OpenError::Io { path, source })
            | Self::Bind(BindError::Io { path, source }) => Some(DirectoryError::hint_for(path, source)),
            Self::Sink(_) => Some("see [sinks] in the configuration".to_owned()),
            _ => None,
        }
    }
}

/// Runs the agent until a signal ends it.
pub(crate) fn run(args: Args) -> Result<(), RunError> {
    let Verb::Run { rules_dir, status } = args.command;
    let overrides = args.common.overrides().with("rules.dir", "--rules-dir", rules_dir.as_ref());
    let (env, terminal) = (Environment::from_process(), Terminal::at_start());
    let loaded = config::load(Component::Agent, &overrides, &env)?;
    let log_level = logging::init(loaded.config.app.log_level, loaded.config.app.log_format);
    let rereader = Rereader::new(Component::Agent, overrides, env, &loaded);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_stack_size(STACK)
        .enable_all()
        .build()?;
    let done = runtime.block_on(monitor(loaded, Anew { rereader, log_level, terminal }, args.common.config, status));
    // Queries that still compute are left to the end of the process.
    runtime.shutdown_background();
    done
}

/// What it takes to read the configuration anew, and to know when that is meant.
struct Anew {
    rereader: Rereader,
    log_level: LogLevelSwitch,
    terminal: Terminal,
}

async fn monitor(loaded: Loaded, anew: Anew, config_file: Option<PathBuf>, status: Status) -> Result<(), RunError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // The terminal is gone; or, where it is not, the configuration is to be read anew.
    let mut hangup = signal(SignalKind::hangup())?;
    let collectors = Collectors::new(if loaded.test_mode { TEST_HEARTBEAT } else { HEARTBEAT });
    let spawns = spawn::collectors(&loaded, config_file.as_deref(), &collectors)?;
    let Loaded { config, test_mode, .. } = loaded;
    let directory = config.app.directory_of(Component::Agent);
    create_private_dir(&config.app.data_dir)?;
    create_private_dir(&config.app.runtime_dir)?;
    let _lock = DataDirLock::acquire(&directory)?;
    let store = open_store(&directory)?;
    let engine = keeper::load(&config.rules.dir).await?;
    let rule_state = Arc::new(RuleState::open(&directory.join("rules"))?);
    engine.record().set_disabled(rule_state.disabled());
    for row in collectors.rows() {
        collectors.expect(&row.collector, store.snapshot()?.observed_until(&row.collector)?);
    }
    let progress = Progress::default();
    let metrics = Metrics::new()?;

    let broker = Broker::bind(BrokerConfig {
        encryption: config.app.bus_keys().map(Keys::in_dir),
        ..BrokerConfig::new(config.app.socket(), directory.join("sessions"))
    })?;
    let health = Health {
        started: time::now_ns(),
        test_mode,
        collectors: collectors.clone(),
        detection: engine.record(),
        progress: progress.clone(),
        gate: broker.gate(),
        store: Arc::clone(&store),
        rules_dir: config.rules.dir.display().to_string(),
        reload: ReloadState::new(),
        rule_state: Arc::clone(&rule_state),
    };
    let (set_limits, limits) = watch::channel(config.agent.clone());
    let (retention_limits, trial_limits) = (limits.clone(), limits.clone());
    let cut_queries = CutQueries::default();
    let queries = QueryService {
        engine: Arc::new(Queries::new(config.agent.query_memory_bytes)?),
        planning: Planning::new(AT_ONCE),
        store: Arc::clone(&store),
        collectors: collectors.clone(),
        detection: engine.record(),
        cut_queries: cut_queries.clone(),
        limits,
        metrics: metrics.clone(),
    };
    let exports = data::exports(&queries)?;
    let show_status = match status {
        Status::Auto => io::stderr().is_terminal(),
        Status::Always => true,
        Status::Never => false,
    };
    let rule_gaps = RuleGaps::default();
    let (found_to, scheduled) = mpsc::channel(1);
    let (triggers_to, due_triggers) = mpsc::channel(triggers::QUEUE);
    let reload_rules = keeper::Reload::default();
    let keeper = Keeper {
        directory: config.rules.dir.clone(),
        engine: engine.clone(),
        store: Arc::clone(&store),
        gaps: rule_gaps.clone(),
        state: Arc::clone(&rule_state),
        asked: reload_rules.clone(),
    };
    let scheduler = Scheduler {
        engine: engine.clone(),
        queries: Arc::new(Queries::new(RULE_MEMORY)?),
        store: Arc::clone(&store),
        collectors: collectors.clone(),
        state: Arc::clone(&rule_state),
        cut_queries: cut_queries.clone(),
        pipeline: found_to,
    };
    let trials = Trials {
        engine: engine.clone(),
        queries: Arc::new(Queries::new(RULE_MEMORY)?),
        store: Arc::clone(&store),
        collectors: collectors.clone(),
        cut_queries,
        limits: trial_limits,
        planning: Planning::new(TRIAL_PLANNING),
    };
    let switched = engine.clone();
    let (outcomes_to, outcomes) = std::sync::mpsc::channel();
    let (set_sinks, other_sinks) = mpsc::channel(1);
    let pipeline = Pipeline {
        storage: Persistence { store: Arc::clone(&store), progress: progress.clone() },
        metrics: metrics.clone(),
        sinks: Sinks::start(&config.sinks, &outcomes_to)?,
        other_sinks,
        engine,
        outcomes: Mutex::new(outcomes),
        collectors: collectors.clone(),
        acknowledgements: broker.local("pipeline"),
        feed: Feed(broker.local("alerts")),
        rule_gaps,
        scheduled,
        triggers: triggers_to,
        evaluated: store.snapshot()?.evaluated()?,
        doubts: std::collections::HashMap::new(),
        delivery_retry: if test_mode { DELIVERY_RETRY / 10 } else { DELIVERY_RETRY },
        under_way: std::collections::HashMap::new(),
        pending: Pending::default(),
    };
    let mut reload = Reload {
        rereader: anew.rereader,
        state: health.reload.clone(),
        rules: reload_rules.clone(),
        log_level: anew.log_level,
        limits: set_limits,
        sinks: set_sinks,
        outcomes: outcomes_to,
        gate: broker.gate(),
        collector: PROCMOND,
        metrics: metrics.clone(),
        collectors: collectors.clone(),
        bus: broker.local("agent"),
    };
    announce(&config, test_mode)?;

    let mut tasks: JoinSet<Result<(&'static str, String), RunError>> = JoinSet::new();
    let (stop_broker, broker_stops) = oneshot::channel::<()>();
    let data_requests = broker.local("agent");
    let bus = [(); 6].map(|()| broker.local("agent"));
    let task_bus = broker.local("tasks");
    let trigger_bus = broker.local("tasks");
    let gate = broker.gate();
    tasks.spawn(async move {
        let ended = broker.run(async { drop(broker_stops.await) }).await;
        Ok(("the bus", ended.map_or_else(|error| error.to_string(), |()| "it was stopped".to_owned())))
    });
    let [events, registrations, statuses, requests, supervision, orders] = bus;
    let (to_pipeline, batches) = mpsc::channel(QUEUE);
    let sources = Sources {
        started: health.started,
        collectors: collectors.clone(),
        detection: health.detection.clone(),
        gate: gate.clone(),
        store: store.path().to_owned(),
        queue: to_pipeline.downgrade(),
    };
    // A thread of its own: it blocks at each commit, and going from one that must not to one that may costs more than an event.
    let here = tokio::runtime::Handle::current();
    let mut pipeline = tokio::task::spawn_blocking(move || here.block_on(pipeline.run(batches)));
    let ingest = Ingest {
        events: events.subscribe_with("events.#", COLLECTOR_CREDIT).await?,
        pipeline: to_pipeline,
        collectors: collectors.clone(),
        metrics: metrics.clone(),
    };
    let ingest = tasks.spawn(async move { Ok(("ingest", ingest.run().await)) });
    let statuses = Statuses {
        messages: statuses.subscribe("control.health.#").await?,
        store: Arc::clone(&store),
        collectors: collectors.clone(),
        metrics: metrics.clone(),
        test_mode,
    };
    tasks.spawn(async move { Ok(("the collectors' status", statuses.run().await)) });
    let retention = Retention { store: Arc::clone(&store), limits: retention_limits, test_mode };
    let retention = tasks.spawn(async move { Ok(("retention", retention.run().await)) });
    let answers = DataServer { requests: data_requests.serve("requests.data").await?, store: Arc::clone(&store) };
    let care = tasks.spawn(async move { Ok(("the store's requests", answers.run().await)) });
    let answers = QueryServer { requests: data_requests.serve("requests.export").await?, queries: Arc::new(exports) };
    tasks.spawn(async move { Ok(("the exports", answers.run().await)) });
    let trigger_store = Arc::clone(&store);
    let registration = Registration {
        requests: registrations.serve("control.collector.register").await?,
        store,
        collectors: collectors.clone(),
        metrics: metrics.clone(),
        test_mode,
    };
    tasks.spawn(async move { Ok(("registration", registration.run().await)) });
    let answers = QueryServer { requests: requests.serve("requests.query").await?, queries: Arc::new(queries) };
    tasks.spawn(async move { Ok(("the queries", answers.run().await)) });
    let answers = HealthServer { requests: requests.serve("requests.health").await?, health: health.clone() };
    tasks.spawn(async move { Ok(("health", answers.run().await)) });
    let answers = MetricsServer { requests: requests.serve("requests.metrics").await?, metrics, sources };
    tasks.spawn(async move { Ok(("metrics", answers.run().await)) });
    let server = OrderServer {
        requests: orders.serve("requests.collectors").await?,
        collectors: collectors.clone(),
        bus: orders,
    };
    let orders = tasks.spawn(async move { Ok(("the operators' orders", server.run().await)) });
    let (tasks_in, tasks_out) = (task_bus.serve("requests.task").await?, task_bus);
    let handing_on = TaskServer { requests: tasks_in, bus: tasks_out, collectors: collectors.clone() };
    let handing_on = tasks.spawn(async move { Ok(("the tasks", handing_on.run().await)) });
    let carrying_out =
        Triggers { due: due_triggers, store: trigger_store, bus: trigger_bus, collectors: collectors.clone() };
    let carrying_out = tasks.spawn(async move { Ok(("the triggers", carrying_out.run().await)) });
    let switch = Switch {
        requests: requests.serve("requests.rules.enable").await?,
        engine: switched,
        state: rule_state,
        reload: reload_rules,
    };
    tasks.spawn(async move { Ok(("rules", switch.run().await)) });
    let trials = TrialServer { requests: requests.serve("requests.rules.test").await?, trials: Arc::new(trials) };
    tasks.spawn(async move { Ok(("trials of rules", trials.run().await)) });
    let keeper = tasks.spawn(async move { Ok(("watching the rules", keeper.run().await)) });
    let scheduler = tasks.spawn(async move { Ok(("scheduled rules", scheduler.run().await)) });
    let attachments = collectors.clone();
    let mut connected = gate.connected();
    tasks.spawn(async move {
        while connected.changed().await.is_ok() {
            let names: Vec<String> = connected.borrow_and_update().iter().map(|peer| peer.name.clone()).collect();
            attachments.connected(&names);
        }
        Ok(("the bus", "it is gone".to_owned()))
    });
    let (stop_supervisor, supervisor_stops) = watch::channel(false);
    let mut supervisors = JoinSet::new();
    for collector in spawns {
        let supervisor = Supervisor {
            collector,
            max_restarts_per_minute: config.agent.max_restarts_per_minute,
            gate: gate.clone(),
            bus: supervision.clone(),
            collectors: collectors.clone(),
        };
        supervisors.spawn(supervisor.run(supervisor_stops.clone()));
    }
    // Whoever watches the connections waits for the last gate to be gone.
    drop((supervision, gate));
    let line = async {
        if show_status {
            status::show(health, progress).await;
        }
        std::future::pending::<()>().await;
    };

    // Owns what it reaches, so that nothing of it outlives the first signal.
    let hung_up = async move {
        while hangup.recv().await.is_some() && !anew.terminal.is_gone() {
            reload.reload().await;
        }
    };

    let outcome = tokio::select! {
        _ = interrupt.recv() => Ok("SIGINT"),
        _ = terminate.recv() => Ok("SIGTERM"),
        () = hung_up => Ok("SIGHUP: the terminal is gone"),
        () = line => Ok("the status line"),
        Some(ended) = supervisors.join_next() => Err(RunError::Ended { what: "supervision", why: format!("{ended:?}") }),
        ended = &mut pipeline => Err(match ended {
            Ok(Err(error)) => error.into(),
            other => RunError::Ended { what: "the pipeline", why: format!("{other:?}") },
        }),
        Some(ended) = tasks.join_next() => Err(match ended {
            Ok(Ok((what, why))) => RunError::Ended { what, why },
            Ok(Err(error)) => error,
            Err(panic) => RunError::Ended { what: "a task", why: panic.to_string() },
        }),
    };
    if show_status {
        status::end();
    }
    if let Ok(signal) = &outcome {
        tracing::info!(signal, "ending");
    }

    // In the direction of the data: the source, what it has sent, what is in the queue, the bus.
    let drained = timeout(GRACE, async {
        let _ = stop_supervisor.send(true);
        while supervisors.join_next().await.is_some() {}
        ingest.abort();
        keeper.abort();
        scheduler.abort();
        orders.abort();
        handing_on.abort();
        carrying_out.abort();
        if !pipeline.is_finished() {
            match pipeline.await {
                Ok(ended) => ended?,
                Err(panic) => return Err(RunError::Ended { what: "the pipeline", why: panic.to_string() }),
            }
        }
        // What they do to the store, they do in transactions: it may end in the middle.
        retention.abort();
        care.abort();
        let _ = stop_broker.send(());
        while tasks.join_next().await.is_some() {}
        Ok(())
    })
    .await;
    match (outcome, drained) {
        (Err(error), _) | (Ok(_), Ok(Err(error))) => Err(error),
        (Ok(_), Err(_)) => Err(RunError::Grace),
        (Ok(_), Ok(Ok(()))) => Ok(()),
    }
}

fn open_store(directory: &Path) -> Result<Arc<Store>, RunError> {
    let (store, opened) = Store::open(&directory.join("events.redb"))?;
    if opened == Opened::Created {
        tracing::info!(path = %store.path().display(), "a new event store was made");
    }
    let Verified { partitions, columns, head_rows, problems, .. } = store.verify(Extent::Newest)?;
    tracing::info!(partitions, columns, head_rows, "the store's directory and its newest rows were checked");
    for problem in problems {
        tracing::error!(%problem, "the event store is damaged: what is sound is used");
    }
    Ok(Arc::new(store))
}

/// Says where everything is, before anything can go wrong.
fn announce(config: &Config, test_mode: bool) -> io::Result<()> {
    if config.app.log_format == LogFormat::Json {
        // Whoever reads JSON from stderr reads nothing else from it.
        let (data, socket, rules) = (config.app.data_dir.display(), config.app.socket(), config.rules.dir.display());
        tracing::info!(version = env!("CARGO_PKG_VERSION"), %data, socket = %socket.display(), %rules, test_mode, "monitors this host");
        return Ok(());
    }
    let mut stderr = io::stderr().lock();
    let data = config.app.data_dir.display();
    writeln!(stderr, "daemoneye-agent {} monitors this host.", env!("CARGO_PKG_VERSION"))?;
    writeln!(stderr, "  data     {data}")?;
    writeln!(stderr, "  socket   {}", config.app.socket().display())?;
    writeln!(stderr, "  rules    {}", config.rules.dir.display())?;
    let cli = beside_us("daemoneye-cli")?;
    let runtime = config.app.runtime_dir.display();
    writeln!(stderr, "  ask it   {} --data-dir {data} --runtime-dir {runtime} health", cli.display())?;
    if !os::is_root() {
        writeln!(
            stderr,
            "  note     not root: command lines and executables of other users may stay unknown, and answers say so"
        )?;
    }
    if test_mode {
        writeln!(stderr, "  note     TEST MODE: not for production")?;
    }
    writeln!(stderr, "  end      Ctrl-C")
}
