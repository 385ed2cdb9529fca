//! The configuration as the programs read it.

use super::Component;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All values in force.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Shared by all programs.
    pub app: App,
    /// The process collector.
    pub procmond: Procmond,
    /// The agent.
    pub agent: Agent,
    /// The command line.
    pub cli: Cli,
    /// Every collector.
    pub collector: Collector,
    /// Where rules come from.
    pub rules: Rules,
    /// Collectors, by name.
    pub collectors: BTreeMap<String, SpawnedCollector>,
    /// Where alerts go, by name.
    pub sinks: BTreeMap<String, Sink>,
}

/// `[app]`: shared by all programs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Where the programs keep what must outlive them.
    pub data_dir: PathBuf,
    /// Where the agent's socket is.
    pub runtime_dir: PathBuf,
    /// The least time between the starts of two scans.
    pub scan_interval_ms: u64,
    /// How much of one core scanning may use, in per cent.
    pub max_scan_cpu: f64,
    /// How much is logged.
    pub log_level: LogLevel,
    /// How logs are written.
    pub log_format: LogFormat,
    /// Whether what goes over the bus is encrypted.
    pub bus_encryption: BusEncryption,
    /// Where the bus's keys are.
    pub bus_keys: Option<PathBuf>,
}

/// How the bus is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BusEncryption {
    /// Not at all: the socket's permissions protect it.
    Off,
    /// By a Noise handshake with pinned keys.
    Noise,
}

impl App {
    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir.join("agent.sock")
    }

    /// The directory of the bus's keys, where the bus is encrypted.
    pub fn bus_keys(&self) -> Option<PathBuf> {
        match self.bus_encryption {
            BusEncryption::Off => None,
            BusEncryption::Noise => Some(self.bus_keys.clone().unwrap_or_else(|| self.data_dir.join("keys"))),
        }
    }

    /// The directory that a program has below the data directory.
    pub fn directory_of(&self, component: Component) -> PathBuf {
        self.data_dir.join(component.name())
    }
}

/// `[procmond]`: the process collector.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Procmond {
    /// Where processes are seen.
    pub source: ProcessSource,
    /// The size of the kernel's buffer of events.
    pub ring_bytes: u32,
    /// How long events may wait there.
    pub drain_interval_ms: u64,
    /// How often a scan looks for what events did not tell.
    pub reconcile_interval_ms: u64,
    /// Whether connections are told.
    pub network_events: bool,
    /// Whether what matters for security is told.
    pub security_events: bool,
    /// Command lines are cut after so many bytes.
    pub max_command_line_bytes: usize,
    /// Whether secrets in command lines are masked.
    pub mask_secrets: bool,
    /// More names whose values are secrets.
    pub mask_names: Vec<String>,
    /// The variables that records carry.
    pub environment: Vec<String>,
    /// Whether executables are hashed.
    pub hash_executables: bool,
    /// How much hashing reads in a second.
    pub hash_max_bytes_per_second: u64,
    /// What is larger is not hashed.
    pub hash_max_file_bytes: u64,
    /// So many executables may wait.
    pub hash_queue: usize,
    /// Whether executables get a fuzzy hash as well.
    pub fuzzy_hashes: bool,
    /// What is less like the executable before it at its path is told.
    pub fuzzy_threshold: u8,
    /// How often snapshots are told; 0 for never.
    pub snapshot_interval_ms: u64,
}

/// Where processes are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessSource {
    /// The best that works.
    Auto,
    /// eBPF programs in the kernel.
    Ebpf,
    /// The kernel's netlink connector.
    Connector,
    /// Scans alone.
    Poll,
}

/// `[agent]`: the agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// A query that takes longer is cut short.
    pub query_timeout_ms: u64,
    /// What all running queries may reserve together.
    pub query_memory_bytes: usize,
    /// A result that has more rows is cut short.
    pub query_max_rows: u64,
    /// How often in a minute a collector is started again.
    pub max_restarts_per_minute: u32,
    /// How old events, ended processes, scans and closed gaps may get.
    pub retention_s: u64,
    /// How long ago alerts may have been last seen.
    pub alert_retention_s: u64,
    /// How many bytes the event store may hold.
    pub max_store_bytes: u64,
}

/// `[cli]`: the command line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cli {
    /// How data is printed.
    pub format: Option<OutputFormat>,
}

/// `[collector]`: every collector.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collector {
    /// How much is kept on disk while the agent is away.
    pub spool_max_bytes: u64,
    /// After how many seconds without an agent a collector ends; 0 for never.
    pub orphan_timeout_s: u64,
}

/// `[rules]`: where rules come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Every `*.toml` below it is a rule.
    pub dir: PathBuf,
}

/// `[collectors.NAME]`: one collector that the agent runs.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpawnedCollector {
    /// Its program and the program's arguments; empty for procmond.
    #[serde(default)]
    pub command: Vec<String>,
    /// Whether the agent runs it.
    pub enabled: bool,
    /// How many of it run at once.
    pub instances: u32,
    /// What its process may keep in memory; 0 for its own bounds.
    pub memory_budget_bytes: u64,
    /// What it understands beyond that.
    #[serde(default)]
    pub settings: toml::Table,
}

/// `[sinks.NAME]`: one place where alerts go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Sink {
    /// The agent's standard output.
    Stdout {
        /// How alerts are written.
        format: SinkFormat,
    },
    /// A file that is appended to.
    File {
        /// How alerts are written.
        format: SinkFormat,
        /// The file.
        path: PathBuf,
    },
}

/// How a sink writes alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkFormat {
    /// A line for people.
    Human,
    /// A JSON object on each line.
    Jsonl,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What stops the work.
    Error,
    /// And what will.
    Warn,
    /// And what changed.
    Info,
    /// And each step.
    Debug,
    /// And everything.
    Trace,
}

impl LogLevel {
    /// The word that stands for it in flags and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How logs are written to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    Human,
    /// A JSON object on each line.
    Json,
}

impl LogFormat {
    /// The word that stands for it in flags and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}

/// How the command line prints data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// For people.
    Table,
    /// One document.
    Json,
    /// A JSON object on each line.
    Jsonl,
    /// RFC 4180.
    Csv,
}
