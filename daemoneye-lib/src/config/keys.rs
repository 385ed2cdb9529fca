//! The table of everything that can be set.

use toml::Value;

/// One thing that can be set.
#[derive(Debug)]
pub struct Key {
    /// Its place in the file, sections separated by dots; `NAME` stands for the name of a sink or collector.
    pub path: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it is when nobody sets it.
    pub default: Preset,
    /// What it does, in one sentence.
    pub doc: &'static str,
}

/// What a value may be.
#[derive(Debug)]
pub enum Kind {
    /// An absolute path.
    Path,
    /// A whole number between two bounds, both allowed.
    Integer(i64, i64),
    /// A number between two bounds, both allowed.
    Real(f64, f64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Boolean,
    /// A program with its arguments.
    Command,
    /// Whatever the reader understands: a table.
    Settings,
    /// A list of at most [`MAX_NAMES`] names: letters, digits, `_`, `-` and `.`, at most 64 of them.
    Names,
}

/// What a key is when nobody sets it.
#[derive(Debug)]
pub enum Preset {
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
    /// A word.
    Text(&'static str),
    /// Yes or no.
    Boolean(bool),
    /// A list of names.
    Names(&'static [&'static str]),
    /// Depends on who runs the program: as root, as a user.
    Place(&'static str, &'static str),
    /// Not set.
    Unset,
}

/// The levels of logs, from few to many.
pub const LOG_LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];
/// The formats of logs.
pub const LOG_FORMATS: &[&str] = &["human", "json"];
/// The formats in which the command line prints data.
pub const OUTPUT_FORMATS: &[&str] = &["table", "json", "jsonl", "csv"];

/// The variables of a process's environment that are collected when nothing is said.
pub const ENVIRONMENT: &[&str] = &["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "SSH_CONNECTION", "SUDO_USER"];
/// So many names a list may have.
pub const MAX_NAMES: usize = 64;

const MIB: i64 = 1 << 20;

/// Every key there is.
pub const KEYS: &[Key] = &[
    Key {
        path: "app.data_dir",
        kind: Kind::Path,
        default: Preset::Place("/var/lib/daemoneye", "$XDG_STATE_HOME/daemoneye"),
        doc: "Where the programs keep what must outlive them; each has a directory of its own below it.",
    },
    Key {
        path: "app.runtime_dir",
        kind: Kind::Path,
        default: Preset::Place("/run/daemoneye", "$XDG_RUNTIME_DIR/daemoneye, else <data_dir>/run"),
        doc: "Where the agent's socket is; <data_dir>/run when only data_dir is set, or set by a higher layer.",
    },
    Key {
        path: "app.scan_interval_ms",
        kind: Kind::Integer(100, 3_600_000),
        default: Preset::Integer(1_000),
        doc: "The least time between the starts of two scans; it stretches to keep within max_scan_cpu.",
    },
    Key {
        path: "app.max_scan_cpu",
        kind: Kind::Real(0.1, 100.0),
        default: Preset::Real(3.0),
        doc: "How much of one core scanning may use, in per cent; watching families of processes may use as much again.",
    },
    Key {
        path: "app.log_level",
        kind: Kind::Choice(LOG_LEVELS),
        default: Preset::Text("info"),
        doc: "How much is logged.",
    },
    Key {
        path: "app.log_format",
        kind: Kind::Choice(LOG_FORMATS),
        default: Preset::Text("human"),
        doc: "How logs are written to stderr.",
    },
    Key {
        path: "app.bus_encryption",
        kind: Kind::Choice(&["off", "noise"]),
        default: Preset::Text("off"),
        doc: "Whether what goes over the bus is encrypted; all programs must agree, so it belongs in the file that they share.",
    },
    Key {
        path: "app.bus_keys",
        kind: Kind::Path,
        default: Preset::Unset,
        doc: "Where the bus's keys are when it is encrypted; <data_dir>/keys when not set.",
    },
    Key {
        path: "procmond.source",
        kind: Kind::Choice(&["auto", "ebpf", "connector", "poll"]),
        default: Preset::Text("auto"),
        doc: "Where processes are seen: by eBPF programs in the kernel, by its netlink connector, or by scans alone. `auto` takes the first of these that works; one that is named and cannot work is an error.",
    },
    Key {
        path: "procmond.ring_bytes",
        kind: Kind::Integer(4_096, 1 << 30),
        default: Preset::Integer(8 * MIB),
        doc: "The size of the buffer in which the kernel keeps events until procmond takes them, rounded up to a power of two; what finds no room is lost and counted.",
    },
    Key {
        path: "procmond.drain_interval_ms",
        kind: Kind::Integer(1, 10_000),
        default: Preset::Integer(20),
        doc: "How long events may wait in that buffer.",
    },
    Key {
        path: "procmond.reconcile_interval_ms",
        kind: Kind::Integer(1_000, 3_600_000),
        default: Preset::Integer(10_000),
        doc: "Where the kernel tells events, a scan looks so often for what they did not tell; without events `app.scan_interval_ms` counts.",
    },
    Key {
        path: "procmond.network_events",
        kind: Kind::Boolean,
        default: Preset::Boolean(true),
        doc: "Whether TCP connections are told as `network.connections`, by eBPF programs.",
    },
    Key {
        path: "procmond.security_events",
        kind: Kind::Boolean,
        default: Preset::Boolean(true),
        doc: "Whether what matters for security is told as `security.events`: processes that become root or trace others, modules and eBPF programs that are loaded, memory that is made executable. By eBPF programs; that a program makes its process root is seen wherever events of processes are.",
    },
    Key {
        path: "procmond.max_command_line_bytes",
        kind: Kind::Integer(4_096, MIB),
        default: Preset::Integer(262_144),
        doc: "Command lines are cut after so many bytes, and marked as cut.",
    },
    Key {
        path: "procmond.mask_secrets",
        kind: Kind::Boolean,
        default: Preset::Boolean(true),
        doc: "Whether passwords, tokens and the like in command lines are replaced by `***` before they leave procmond.",
    },
    Key {
        path: "procmond.mask_names",
        kind: Kind::Names,
        default: Preset::Names(&[]),
        doc: "More names of flags, variables and settings whose values are secrets.",
    },
    Key {
        path: "procmond.environment",
        kind: Kind::Names,
        default: Preset::Names(ENVIRONMENT),
        doc: "The variables of a process's environment that its record carries, by their exact names; secrets in them are masked.",
    },
    Key {
        path: "procmond.hash_executables",
        kind: Kind::Boolean,
        default: Preset::Boolean(true),
        doc: "Whether the executables of processes are hashed (SHA-256).",
    },
    Key {
        path: "procmond.hash_max_bytes_per_second",
        kind: Kind::Integer(MIB, 1 << 36),
        default: Preset::Integer(32 * MIB),
        doc: "How much hashing reads in a second at the most.",
    },
    Key {
        path: "procmond.hash_max_file_bytes",
        kind: Kind::Integer(1, 1 << 40),
        default: Preset::Integer(512 * MIB),
        doc: "An executable that is larger is not hashed.",
    },
    Key {
        path: "procmond.hash_queue",
        kind: Kind::Integer(1, 65_536),
        default: Preset::Integer(1_024),
        doc: "So many executables may wait for being hashed; those beyond are tried again later.",
    },
    Key {
        path: "procmond.fuzzy_hashes",
        kind: Kind::Boolean,
        default: Preset::Boolean(false),
        doc: "Whether executables that are hashed get a fuzzy hash (ssdeep) as well, by which similar ones are found.",
    },
    Key {
        path: "procmond.fuzzy_threshold",
        kind: Kind::Integer(0, 100),
        default: Preset::Integer(50),
        doc: "An executable whose similarity to the one before it at its path is under this is told as a change; 0 for never.",
    },
    Key {
        path: "procmond.snapshot_interval_ms",
        kind: Kind::Integer(0, 86_400_000),
        default: Preset::Integer(60_000),
        doc: "How often procmond tells what every process uses; 0 for never.",
    },
    Key {
        path: "agent.query_timeout_ms",
        kind: Kind::Integer(100, 3_600_000),
        default: Preset::Integer(30_000),
        doc: "A query that takes longer is cut short.",
    },
    Key {
        path: "agent.query_memory_bytes",
        kind: Kind::Integer(MIB, 1 << 36),
        default: Preset::Integer(64 * MIB),
        doc: "How much memory the operators of all running queries may reserve together.",
    },
    Key {
        path: "agent.query_max_rows",
        kind: Kind::Integer(1, 10_000_000),
        default: Preset::Integer(100_000),
        doc: "A result that has more rows is cut short and marked as degraded.",
    },
    Key {
        path: "agent.max_restarts_per_minute",
        kind: Kind::Integer(0, 60),
        default: Preset::Integer(5),
        doc: "How often in a minute a collector that ended is started again before its component is degraded.",
    },
    Key {
        path: "agent.retention_s",
        kind: Kind::Integer(1, 3_155_760_000),
        default: Preset::Integer(2_592_000),
        doc: "Events, ended processes, scans and closed gaps that are older than so many seconds are removed.",
    },
    Key {
        path: "agent.alert_retention_s",
        kind: Kind::Integer(1, 3_155_760_000),
        default: Preset::Integer(31_536_000),
        doc: "Alerts that were last seen more than so many seconds ago are removed; the newest 100,000 are kept at most.",
    },
    Key {
        path: "agent.max_store_bytes",
        kind: Kind::Integer(16 * MIB, 1 << 44),
        default: Preset::Integer(10 << 30),
        doc: "When the event store holds more bytes, its oldest events are removed.",
    },
    Key {
        path: "cli.format",
        kind: Kind::Choice(OUTPUT_FORMATS),
        default: Preset::Unset,
        doc: "How the command line prints data; `table` when not set.",
    },
    Key {
        path: "collector.spool_max_bytes",
        kind: Kind::Integer(MIB, 1 << 40),
        default: Preset::Integer(64 * MIB),
        doc: "How much a collector keeps on disk while the agent is away; beyond it the oldest events are dropped and counted.",
    },
    Key {
        path: "collector.orphan_timeout_s",
        kind: Kind::Integer(0, 604_800),
        default: Preset::Integer(900),
        doc: "A collector that found no agent for so many seconds ends; 0 for never.",
    },
    Key {
        path: "rules.dir",
        kind: Kind::Path,
        default: Preset::Place("/etc/daemoneye/rules", "$XDG_CONFIG_HOME/daemoneye/rules"),
        doc: "Where the rules are; every *.toml below it is one.",
    },
    Key {
        path: "collectors.NAME.command",
        kind: Kind::Command,
        default: Preset::Unset,
        doc: "The program of this collector with its arguments: an absolute path, or the name of one that lies beside daemoneye-agent. The collector `procmond` needs none.",
    },
    Key {
        path: "collectors.NAME.enabled",
        kind: Kind::Boolean,
        default: Preset::Boolean(true),
        doc: "Whether the agent runs this collector. Without `procmond` nobody watches the host's processes, and answers say so.",
    },
    Key {
        path: "collectors.NAME.instances",
        kind: Kind::Integer(1, 8),
        default: Preset::Integer(1),
        doc: "How many of it run at once: NAME, NAME@2, …, each with a data directory of its own. A task goes to the one that has the least to do. There is one procmond.",
    },
    Key {
        path: "collectors.NAME.memory_budget_bytes",
        kind: Kind::Integer(0, 1 << 40),
        default: Preset::Integer(0),
        doc: "What this collector's process may keep in memory before it yields; 0 for its own bounds.",
    },
    Key {
        path: "collectors.NAME.settings",
        kind: Kind::Settings,
        default: Preset::Unset,
        doc: "What this collector understands beyond that: it is sent to the collector, which takes or refuses it.",
    },
    Key {
        path: "sinks.NAME.type",
        kind: Kind::Choice(&["stdout", "file"]),
        default: Preset::Unset,
        doc: "Where this sink writes alerts. Without any sink there are two: `console`, for people on stdout, and `log`, JSON lines in <data_dir>/alerts.jsonl.",
    },
    Key {
        path: "sinks.NAME.format",
        kind: Kind::Choice(&["human", "jsonl"]),
        default: Preset::Unset,
        doc: "How this sink writes alerts; when not set, `human` on stdout and `jsonl` in a file.",
    },
    Key {
        path: "sinks.NAME.path",
        kind: Kind::Path,
        default: Preset::Unset,
        doc: "The file that a sink of type `file` appends to.",
    },
];

/// The keys that take effect when the configuration is read anew, those of sinks and what collectors are told included; all
/// others wait for a restart.
const AT_ONCE: &[&str] = &[
    "app.log_level",
    "app.scan_interval_ms",
    "app.max_scan_cpu",
    "procmond.environment",
    "procmond.snapshot_interval_ms",
    "agent.query_timeout_ms",
    "agent.query_max_rows",
    "agent.retention_s",
    "agent.alert_retention_s",
    "agent.max_store_bytes",
    "collectors.NAME.memory_budget_bytes",
    "collectors.NAME.settings",
    "sinks.NAME.type",
    "sinks.NAME.format",
    "sinks.NAME.path",
];

/// Whether a change of this dotted key takes effect in a running program.
pub fn takes_effect_at_once(key: &str) -> bool {
    pattern(key).is_some_and(|pattern| AT_ONCE.contains(&pattern.as_str()))
}

/// The sections whose second part is a name that the operator chooses.
pub(super) const NAMED_SECTIONS: [&str; 2] = ["collectors", "sinks"];

/// The entry of the table for a dotted key.
pub fn find(key: &str) -> Option<&'static Key> {
    let pattern = pattern(key)?;
    KEYS.iter().find(|known| known.path == pattern)
}

/// The dotted key with the name of a sink or collector replaced by `NAME`; none where that name is not allowed.
fn pattern(key: &str) -> Option<String> {
    match key.split('.').collect::<Vec<_>>()[..] {
        [section, name, leaf] if NAMED_SECTIONS.contains(&section) => {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
            (!name.is_empty() && name.chars().all(good)).then(|| format!("{section}.NAME.{leaf}"))
        }
        _ => Some(key.to_owned()),
    }
}

/// Whether tables may stand at this dotted place.
pub(super) fn is_section(path: &str) -> bool {
    match path.split_once('.') {
        Some((section, name)) if NAMED_SECTIONS.contains(&section) => !name.contains('.'),
        _ => KEYS.iter().any(|key| key.path.split('.').next() == Some(path)),
    }
}

/// The known key, or section, that was most probably meant.
pub(super) fn nearest(key: &str) -> String {
    let leaf = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let name = match key.split('.').collect::<Vec<_>>()[..] {
        [section, name, ..] if NAMED_SECTIONS.contains(&section) => name,
        _ => "NAME",
    };
    let score = |known: &str| {
        // The right name in the wrong section is nearer than any misspelling.
        if leaf(known) == leaf(key) { 2.0 } else { strsim::normalized_damerau_levenshtein(known, key) }
    };
    let sections = KEYS.iter().filter_map(|known| known.path.split('.').next()).filter(|_| !key.contains('.'));
    sections
        .map(str::to_owned)
        .chain(KEYS.iter().map(|known| known.path.replace("NAME", name)))
        .max_by(|a, b| score(a).total_cmp(&score(b)))
        .unwrap_or_default()
}

/// A program, and arguments of any text.
fn is_command(words: &[Value]) -> bool {
    let text = |word: &Value| word.as_str().is_some_and(|word| !word.contains('\0'));
    let program = words.first().and_then(Value::as_str).unwrap_or_default();
    !program.is_empty() && (program.starts_with('/') || !program.contains('/')) && words.iter().all(text)
}

fn are_names(names: &[Value]) -> bool {
    names.len() <= MAX_NAMES && names.iter().all(|name| name.as_str().is_some_and(is_name))
}

fn is_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=64).contains(&text.len()) && text.chars().all(good)
}

impl Kind {
    /// The value as this kind keeps it, or what would have been allowed.
    pub(super) fn check(&self, value: Value) -> Result<Value, String> {
        match (self, value) {
            (Self::Path, Value::String(path)) if path.starts_with('/') && !path.contains('\0') => {
                Ok(Value::String(path))
            }
            (Self::Integer(min, max), Value::Integer(number)) if (*min..=*max).contains(&number) => {
                Ok(Value::Integer(number))
            }
            #[expect(clippy::cast_precision_loss, reason = "what is out of range stays out of range when rounded")]
            (Self::Real(..), Value::Integer(number)) => self.check(Value::Float(number as f64)),
            (Self::Real(min, max), Value::Float(number)) if (*min..=*max).contains(&number) => Ok(Value::Float(number)),
            (Self::Choice(words), Value::String(word)) if words.contains(&word.as_str()) => Ok(Value::String(word)),
            (Self::Boolean, Value::Boolean(value)) => Ok(Value::Boolean(value)),
            (Self::Command, Value::String(program)) => self.check(Value::Array(vec![Value::String(program)])),
            (Self::Command, Value::Array(words)) if is_command(&words) => Ok(Value::Array(words)),
            (Self::Settings, Value::Table(settings)) => Ok(Value::Table(settings)),
            (Self::Names, Value::Array(names)) if are_names(&names) => Ok(Value::Array(names)),
            _ => Err(self.allowed()),
        }
    }

    /// A value from a flag or a variable, where everything is text.
    pub(super) fn parse(&self, text: &str) -> Result<Value, String> {
        let value = match self {
            Self::Path | Self::Choice(_) | Self::Command => Some(Value::String(text.to_owned())),
            Self::Integer(..) => text.trim().parse().ok().map(Value::Integer),
            Self::Real(..) => text.trim().parse().ok().map(Value::Float),
            Self::Boolean => text.trim().parse().ok().map(Value::Boolean),
            Self::Settings => serde_json::from_str(text).ok(),
            Self::Names => Some(Value::Array(text.split(',').map(|name| Value::from(name.trim())).collect())),
        };
        value.map_or_else(|| Err(self.allowed()), |value| self.check(value))
    }

    /// What may stand here, in words.
    pub fn allowed(&self) -> String {
        match self {
            Self::Path => "an absolute path".to_owned(),
            Self::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Self::Real(min, max) => format!("a number from {min} to {max}"),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Boolean => "true or false".to_owned(),
            Self::Command => {
                "a program (an absolute path, or a name without `/`), or an array of it and its arguments".to_owned()
            }
            Self::Settings => "a table (in a variable, a JSON object)".to_owned(),
            Self::Names => format!("a list of at most {MAX_NAMES} names (in a variable, with commas between them)"),
        }
    }
}
