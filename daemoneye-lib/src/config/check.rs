//! What `config check` finds beyond what loading refuses: places that cannot be used, and values that are allowed and yet
//! hardly meant.
//!
//! Nothing is touched. Each program is judged by what it would do with the configuration, as the user who checks.

mod collectors;
mod keeping;

use super::directories::{DirectoryError, Usable, check_directory, check_private_dir};
use super::environment::Component;
use super::{Config, Loaded, LogLevel, Sink, disk};
use crate::os;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What was found about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The dotted key, or the variable.
    pub key: String,
    /// Its value.
    pub value: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What the operator can do.
    pub hint: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// The program runs, and probably not as it was meant.
    Warning,
    /// The program does not run with it.
    Unusable,
}

/// What is known of the host.
#[derive(Debug, Clone)]
pub struct Host {
    /// What can still be written below a path.
    pub free_bytes: fn(&Path) -> Option<u64>,
    /// Whether a path is gone after a restart.
    pub is_in_memory: fn(&Path) -> bool,
    /// The memory of the machine.
    pub memory_bytes: Option<u64>,
    /// The directory of this program, in which the agent and its collectors are looked for too.
    pub programs: Option<PathBuf>,
}

impl Host {
    /// This one.
    pub fn this() -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = total.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        Self {
            free_bytes: disk::free_bytes,
            is_in_memory: disk::is_in_memory,
            memory_bytes: kib.and_then(|kib| kib.checked_mul(1024)),
            programs: std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned())),
        }
    }
}

/// Judges what a program would do with its configuration.
pub fn check(component: Component, loaded: &Loaded, host: &Host) -> Vec<Finding> {
    let mut check = Check { config: &loaded.config, host, found: Vec::new() };
    check.socket();
    check.bus_keys(component);
    match component {
        Component::Cli => check.reached(),
        Component::Procmond => {
            check.own_directories(component);
            check.reached();
            check.collecting(loaded);
            check.secrets();
            check.hashing(loaded);
        }
        Component::Agent => {
            check.own_directories(component);
            check.private("app.runtime_dir", &loaded.config.app.runtime_dir);
            check.rules();
            check.collectors();
            check.sinks();
            check.queries();
            check.retention();
            if loaded.test_mode {
                let detail = "the agent is one for tests: short intervals, and collectors that replay recorded events";
                check.warn(
                    "DAEMONEYE_AGENT_TEST_MODE",
                    "1",
                    detail.to_owned(),
                    "unset it on a host that is to be watched",
                );
            }
        }
    }
    check.found
}

struct Check<'a> {
    config: &'a Config,
    host: &'a Host,
    found: Vec<Finding>,
}

impl Check<'_> {
    fn add(&mut self, key: &str, value: String, verdict: Verdict, detail: String, hint: Option<String>) {
        self.found.push(Finding { key: key.to_owned(), value, verdict, detail, hint });
    }

    fn warn(&mut self, key: &str, value: impl ToString, detail: String, hint: &str) {
        self.add(key, value.to_string(), Verdict::Warning, detail, Some(hint.to_owned()));
    }

    fn place(&mut self, key: &str, path: &Path, judged: Result<Usable, DirectoryError>) {
        let value = path.display().to_string();
        match judged {
            Ok(Usable::Exists) => self.add(key, value, Verdict::Ok, "can be used".to_owned(), None),
            Ok(Usable::CanBeCreated) => self.add(key, value, Verdict::Ok, "will be created".to_owned(), None),
            Err(error) => {
                self.add(key, value, Verdict::Unusable, error.source.to_string(), Some(error.hint()));
            }
        }
    }

    fn private(&mut self, key: &str, path: &Path) {
        self.place(key, path, check_private_dir(path));
    }

    /// The agent's runtime directory, as the other programs see it.
    fn reached(&mut self) {
        let path = &self.config.app.runtime_dir;
        let judged = check_directory(path, false);
        if matches!(judged, Ok(Usable::CanBeCreated)) {
            let value = path.display().to_string();
            let detail = "not there yet: the agent makes it when it starts".to_owned();
            self.add("app.runtime_dir", value, Verdict::Ok, detail, None);
        } else {
            self.place("app.runtime_dir", path, judged);
        }
    }

    /// The system bounds the path of a socket.
    fn socket(&mut self) {
        let socket = self.config.app.socket();
        if !os::fits_a_socket(&socket) {
            let detail = format!("the path {} is too long for a socket", socket.display());
            let hint = Some("choose a shorter --runtime-dir, for all programs".to_owned());
            let value = self.config.app.runtime_dir.display().to_string();
            self.add("app.runtime_dir", value, Verdict::Unusable, detail, hint);
        }
    }

    fn own_directories(&mut self, component: Component) {
        let app = &self.config.app;
        let own = app.directory_of(component);
        self.private("app.data_dir", &own);
        let data = app.data_dir.display().to_string();
        if (self.host.is_in_memory)(&own) {
            let detail = "it lies on a file system in memory: everything in it is gone after a restart of the host";
            self.warn("app.data_dir", &data, detail.to_owned(), "choose a directory on a disk");
        }
        if component == Component::Agent
            && let Some(free) = (self.host.free_bytes)(&own)
            && free < LITTLE
        {
            let detail = format!("{free} bytes are free there: the event store will soon be refused by the disk");
            self.warn("app.data_dir", &data, detail, "make room, or choose a directory on another disk");
        }
        if matches!(app.log_level, LogLevel::Debug | LogLevel::Trace) {
            let detail = "each batch, request and scan is logged: a log that grows by megabytes an hour";
            self.warn("app.log_level", app.log_level.as_str(), detail.to_owned(), "use it while looking for something");
        }
    }

    /// What concerns collecting.
    fn collecting(&mut self, loaded: &Loaded) {
        let config = self.config;
        let interval = config.app.scan_interval_ms;
        if interval < 250 {
            let detail = format!("{} scans a second, as far as max_scan_cpu allows", 1_000 / interval.max(1));
            self.warn("app.scan_interval_ms", interval, detail, "1000 is usual; shorter ones see few processes more");
        }
        if interval > 10_000 {
            let detail = format!("a process that lives shorter than {} s may never be seen", interval / 1_000);
            self.warn("app.scan_interval_ms", interval, detail, "1000 is usual");
        }
        if config.app.max_scan_cpu > 25.0 {
            let detail = format!("scanning may use {} % of a core all the time", config.app.max_scan_cpu);
            self.warn("app.max_scan_cpu", config.app.max_scan_cpu, detail, "3 is usual");
        }
        let snapshots = config.procmond.snapshot_interval_ms;
        if (1..10_000).contains(&snapshots) {
            let detail = format!("each process of the host becomes {} rows a day", 86_400_000 / snapshots);
            self.warn("procmond.snapshot_interval_ms", snapshots, detail, "60000 is usual, 0 for none");
        }
        let (spool, own) = (config.collector.spool_max_bytes, config.app.directory_of(Component::Procmond));
        if let Some(free) = (self.host.free_bytes)(&own)
            && spool > free
        {
            let detail = format!("{free} bytes are free below {}: the disk is full before the spool is", own.display());
            self.warn("collector.spool_max_bytes", spool, detail, "lower it, or make room");
        }
        let orphan = config.collector.orphan_timeout_s;
        if (1..10).contains(&orphan) {
            let detail = "a restart of the agent can take longer, and ends the collector then".to_owned();
            self.warn("collector.orphan_timeout_s", orphan, detail, "900 is usual, 0 for never");
        }
        let buffer = loaded.collector_variables.event_buffer_size;
        if let Some(items) = buffer.filter(|items| !(16..=65_536).contains(items)) {
            let detail = if items < 16 {
                "the source waits for the spool at almost every item"
            } else {
                "so many items can be lost when the collector is killed: they are in memory alone"
            };
            let name = format!("{}COLLECTOR_EVENT_BUFFER_SIZE", Component::Procmond.prefix());
            self.warn(&name, items, detail.to_owned(), "1024 is usual");
        }
    }

    fn rules(&mut self) {
        let dir = &self.config.rules.dir;
        let judged = check_directory(dir, false);
        let is_missing = matches!(judged, Ok(Usable::CanBeCreated));
        self.place("rules.dir", dir, judged);
        match rule_files(dir) {
            _ if is_missing => {
                let detail = "it does not exist: the agent makes it; nothing is suspicious without rules".to_owned();
                self.warn("rules.dir", dir.display(), detail, "copy the shipped rules there");
            }
            Ok(0) => {
                let detail = "there is no *.toml in it: nothing is suspicious to an agent without rules".to_owned();
                self.warn("rules.dir", dir.display(), detail, "copy the shipped rules there");
            }
            Ok(_) => {}
            Err(RuleFiles::Unreadable) => {}
            Err(RuleFiles::Open(path, mode)) => {
                let what = path.display();
                let detail = format!(
                    "others than its owner can write to {what} (mode {mode:04o}), and so decide what is an alert"
                );
                self.warn("rules.dir", dir.display(), detail, &format!("chmod go-w {what}"));
            }
        }
    }

    fn sinks(&mut self) {
        let mut files: BTreeMap<&Path, &str> = BTreeMap::new();
        for (name, sink) in &self.config.sinks {
            let Sink::File { path, .. } = sink else { continue };
            let key = format!("sinks.{name}.path");
            match sink_file(path, &self.config.app.data_dir) {
                Ok(()) => self.add(&key, path.display().to_string(), Verdict::Ok, "can be written".to_owned(), None),
                Err(source) => {
                    let hint = DirectoryError::hint_for(path, &source);
                    self.add(&key, path.display().to_string(), Verdict::Unusable, source.to_string(), Some(hint));
                }
            }
            if let Some(other) = files.insert(path, name) {
                let detail = format!("the sink `{other}` writes to the same file");
                self.warn(&key, path.display(), detail, "give each sink a file of its own");
            }
        }
    }

    fn queries(&mut self) {
        let agent = &self.config.agent;
        let memory = agent.query_memory_bytes as u64;
        if memory < 8 << 20 {
            let detail =
                "a query that sorts or joins more than a few thousand rows will be refused its memory".to_owned();
            self.warn("agent.query_memory_bytes", memory, detail, "67108864 is usual");
        }
        if let Some(all) = self.host.memory_bytes
            && memory > all / 2
        {
            let detail = format!("queries may take more than half of the {all} bytes that this host has");
            self.warn("agent.query_memory_bytes", memory, detail, "67108864 is usual");
        }
        if agent.query_timeout_ms < 1_000 {
            let detail = "a query over a day of events can take longer, and is cut short".to_owned();
            self.warn("agent.query_timeout_ms", agent.query_timeout_ms, detail, "30000 is usual");
        }
        if agent.max_restarts_per_minute == 0 {
            let detail =
                "a collector that ends is not started again for a minute: nothing is seen meanwhile".to_owned();
            self.warn("agent.max_restarts_per_minute", 0, detail, "5 is usual");
        }
    }
}

/// With less room than this, the store's disk is nearly full.
const LITTLE: u64 = 256 << 20;
/// Entries of the rules directory that are looked at.
const MAX_ENTRIES: usize = 10_000;

enum RuleFiles {
    /// Told by the judgement of the directory.
    Unreadable,
    /// Somebody else can write to this one.
    Open(PathBuf, u32),
}

/// Counts the rule files, unless others can write to one, or to a directory of them.
fn rule_files(dir: &Path) -> Result<usize, RuleFiles> {
    let (mut rules, mut looked, mut left) = (0, 0, vec![dir.to_owned()]);
    while let Some(path) = left.pop() {
        let metadata = path.metadata().map_err(|_| RuleFiles::Unreadable)?;
        let is_rule = path.extension().is_some_and(|extension| extension == "toml");
        if let Some((_, mode)) = os::owner_and_mode(&metadata)
            && (is_rule || metadata.is_dir())
            && mode & 0o022 != 0
        {
            return Err(RuleFiles::Open(path, mode & 0o7777));
        }
        rules += usize::from(is_rule && metadata.is_file());
        looked += 1;
        if metadata.is_dir() && looked < MAX_ENTRIES {
            let entries = path.read_dir().map_err(|_| RuleFiles::Unreadable)?.flatten();
            // A link is not followed: it could lead round in circles.
            let entries = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
            left.extend(entries.take(MAX_ENTRIES).map(|entry| entry.path()));
        }
    }
    Ok(rules)
}

/// Whether the file can be appended to, or made.
fn sink_file(path: &Path, data_dir: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => Err(io::Error::other("it is a symbolic link, which is not followed")),
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => os::may_write(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            match check_directory(directory, true).map_err(|error| error.source)? {
                Usable::Exists => Ok(()),
                // The data directory is made by the agent before it starts the sinks; no other is made.
                Usable::CanBeCreated if directory == data_dir => Ok(()),
                Usable::CanBeCreated => {
                    Err(io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", directory.display())))
                }
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
