//! Layers of assignments into one value for each key, with its origin.

use super::environment::Environment;
use super::error::ConfigError;
use super::keys::{self, KEYS, NAMED_SECTIONS, Preset};
use super::model::Config;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use toml::{Table, Value};

const PROCMOND: &str = "procmond";
/// Their directories, or their topics, are something else already.
const RESERVED: [&str; 6] = ["agent", "cli", "ledger", "register", "rules", "run"];
/// As on the bus.
const MAX_NAME: usize = 64;

/// Where a value may come from, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Layer {
    /// Built in.
    Default,
    /// `/etc/daemoneye/config.toml`.
    SystemFile,
    /// `~/.config/daemoneye/config.toml`.
    UserFile,
    /// `--config FILE`, in place of the two files.
    ConfigFile,
    /// An environment variable.
    Environment,
    /// A flag.
    Flag,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The layer.
    pub layer: Layer,
    /// File and position, variable, flag, or what it was derived from.
    pub place: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

/// One key in force.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The dotted key.
    pub key: String,
    /// Its value as TOML; none when it is not set.
    pub value: Option<Value>,
    /// Where the value came from.
    pub origin: Origin,
}

/// What the flags of a command line set.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub(super) config: Option<PathBuf>,
    flags: Vec<(&'static str, &'static str, OsString)>,
}

impl Overrides {
    /// Nothing but a file that replaces the two files, when there is one.
    pub fn new(config: Option<PathBuf>) -> Self {
        Self { config, flags: Vec::new() }
    }

    /// Sets a key of [`keys::KEYS`] from a flag, when the flag was given.
    #[must_use]
    pub fn with<V: Into<OsString>>(mut self, key: &'static str, flag: &'static str, value: Option<V>) -> Self {
        self.flags.extend(value.map(|value| (key, flag, value.into())));
        self
    }

    pub(super) fn assignments(&self, env: &Environment) -> Result<Vec<Assignment>, ConfigError> {
        let assign = |(key, flag, text): &(&str, &str, OsString)| {
            let known = keys::find(key).ok_or_else(|| ConfigError::Defect(format!("{flag} sets no known key")))?;
            let text = match known.kind {
                keys::Kind::Path if !text.is_empty() => env.current_dir.join(text).into_os_string(),
                _ => text.clone(),
            };
            assignment(key, &text, flag, Layer::Flag)
        };
        self.flags.iter().map(assign).collect()
    }
}

/// A value for a key, from one place.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// An assignment from text, as flags and variables have it.
pub(super) fn assignment(key: &str, text: &OsString, place: &str, layer: Layer) -> Result<Assignment, ConfigError> {
    let known = keys::find(key).ok_or_else(|| ConfigError::Defect(format!("{place} sets no known key")))?;
    let parsed = text.to_str().ok_or_else(|| "UTF-8 text".to_owned()).and_then(|text| known.kind.parse(text));
    let value = parsed.map_err(|allowed| ConfigError::Invalid {
        key: key.to_owned(),
        value: format!("{:?}", text.to_string_lossy()),
        place: place.to_owned(),
        allowed,
    })?;
    Ok(Assignment { key: key.to_owned(), value, origin: Origin { layer, place: place.to_owned() } })
}

/// What is in force, by key.
#[derive(Debug, Default)]
pub(super) struct Settings(BTreeMap<String, (Value, Origin)>);

impl Settings {
    /// Puts a layer over those that are there.
    pub(super) fn apply(&mut self, layer: impl IntoIterator<Item = Assignment>) {
        self.0.extend(layer.into_iter().map(|set| (set.key, (set.value, set.origin))));
    }

    /// Gives a value to each key that has none.
    pub(super) fn fill_defaults(&mut self, env: &Environment) -> Result<(), ConfigError> {
        self.fill_directories(env)?;
        for key in KEYS {
            match key.default {
                Preset::Integer(_) if is_named(key.path) => {}
                Preset::Integer(number) => self.fill(key.path, Value::Integer(number)),
                Preset::Real(number) => self.fill(key.path, Value::Float(number)),
                Preset::Text(text) => self.fill(key.path, Value::from(text)),
                Preset::Boolean(value) if !is_named(key.path) => self.fill(key.path, Value::Boolean(value)),
                Preset::Boolean(_) => {}
                Preset::Names(names) => self.fill(key.path, Value::from(names.to_vec())),
                Preset::Place(..) | Preset::Unset => {}
            }
        }
        self.fill_collectors();
        self.fill_sinks();
        Ok(())
    }

    /// Test mode waits for nothing: what is set anywhere else stays.
    pub(super) fn fill_test_mode(&mut self) {
        let origin = Origin { layer: Layer::Default, place: "test mode".to_owned() };
        for (key, value) in [("app.scan_interval_ms", Value::Integer(200)), ("app.max_scan_cpu", Value::Float(50.0))] {
            self.0.entry(key.to_owned()).or_insert((value, origin.clone()));
        }
    }

    fn fill(&mut self, key: &str, value: Value) {
        let origin = Origin { layer: Layer::Default, place: "built-in default".to_owned() };
        self.0.entry(key.to_owned()).or_insert((value, origin));
    }

    fn fill_directories(&mut self, env: &Environment) -> Result<(), ConfigError> {
        if !self.0.contains_key("app.data_dir") {
            let place = env.default_data_dir().ok_or(ConfigError::NoHome { key: "app.data_dir" })?;
            self.fill("app.data_dir", path_value(place));
        }
        let data = self.layer("app.data_dir");
        let runtime = self.layer("app.runtime_dir").unwrap_or(Layer::Default);
        match env.default_runtime_dir() {
            Some(place) if data == Some(Layer::Default) => self.fill("app.runtime_dir", path_value(place)),
            _ if data > Some(runtime) || !self.0.contains_key("app.runtime_dir") => {
                self.derive("app.runtime_dir", "app.data_dir", "run");
            }
            _ => {}
        }
        self.fill("rules.dir", path_value(env.default_rules_dir()));
        Ok(())
    }

    fn layer(&self, key: &str) -> Option<Layer> {
        self.0.get(key).map(|(_, origin)| origin.layer)
    }

    /// Sets a path below that of another key.
    fn derive(&mut self, key: &str, from: &str, below: &str) {
        if let Some((Value::String(base), origin)) = self.0.get(from) {
            let origin = Origin { layer: origin.layer, place: format!("derived from {from}") };
            let path = PathBuf::from(base).join(below);
            self.0.insert(key.to_owned(), (path_value(path), origin));
        }
    }

    fn fill_sinks(&mut self) {
        if self.sink_names().is_empty() {
            self.fill("sinks.console.type", Value::from("stdout"));
            self.fill("sinks.log.type", Value::from("file"));
            self.derive("sinks.log.path", "app.data_dir", "alerts.jsonl");
        }
        for name in self.sink_names() {
            let to_file =
                matches!(self.0.get(&format!("sinks.{name}.type")), Some((Value::String(kind), _)) if kind == "file");
            self.fill(&format!("sinks.{name}.format"), Value::from(if to_file { "jsonl" } else { "human" }));
        }
    }

    fn fill_collectors(&mut self) {
        for name in self.names_in("collectors") {
            self.fill(&format!("collectors.{name}.enabled"), Value::Boolean(true));
            self.fill(&format!("collectors.{name}.instances"), Value::Integer(1));
            self.fill(&format!("collectors.{name}.memory_budget_bytes"), Value::Integer(0));
        }
    }

    fn sink_names(&self) -> BTreeSet<String> {
        self.names_in("sinks")
    }

    fn names_in(&self, section: &str) -> BTreeSet<String> {
        let name = |key: &String| key.strip_prefix(section)?.strip_prefix('.')?.split('.').next().map(str::to_owned);
        self.0.keys().filter_map(name).collect()
    }

    /// The typed configuration.
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        self.check_sinks()?;
        self.check_collectors()?;
        let mut root = Table::new();
        for section in KEYS.iter().filter_map(|key| key.path.split('.').next()) {
            root.entry(section).or_insert_with(|| Value::Table(Table::new()));
        }
        for (key, (value, _)) in &self.0 {
            let mut parts: Vec<_> = key.split('.').collect();
            let Some(leaf) = parts.pop() else { continue };
            let mut table = &mut root;
            for part in parts {
                let section = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
                table = section.as_table_mut().ok_or_else(|| ConfigError::Defect(format!("{key} is below a value")))?;
            }
            table.insert(leaf.to_owned(), value.clone());
        }
        Config::deserialize(root).map_err(|error| ConfigError::Defect(error.message().to_owned()))
    }

    fn check_sinks(&self) -> Result<(), ConfigError> {
        for name in self.sink_names() {
            let key = |leaf: &str| format!("sinks.{name}.{leaf}");
            let kind = match self.0.get(&key("type")) {
                Some((Value::String(kind), _)) => kind.as_str(),
                _ => "",
            };
            let problem =
                |leaf, problem: &str| ConfigError::Inconsistent { key: key(leaf), problem: problem.to_owned() };
            match (kind, self.0.get(&key("path"))) {
                ("", _) => return Err(problem("type", "is missing: \"stdout\" or \"file\"")),
                ("file", None) => return Err(problem("path", "is missing: a sink of type \"file\" needs it")),
                ("stdout", Some((_, origin))) => {
                    return Err(problem("path", &format!("({origin}) belongs to sinks of type \"file\" only")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_collectors(&self) -> Result<(), ConfigError> {
        for name in self.names_in("collectors") {
            let instances = format!("collectors.{name}.instances");
            if name == PROCMOND && self.0.get(&instances).is_some_and(|(value, _)| *value != Value::Integer(1)) {
                let problem = "must be 1: there is one procmond".to_owned();
                return Err(ConfigError::Inconsistent { key: instances, problem });
            }
            let key = format!("collectors.{name}.command");
            let command = self.0.get(&key);
            let problem = if RESERVED.contains(&name.as_str()) || name.len() > MAX_NAME {
                format!(
                    "has a name that a collector cannot have: at most {MAX_NAME} characters, and none of {}",
                    RESERVED.join(", ")
                )
            } else if name == PROCMOND && command.is_some() {
                "must not be there: procmond is the one beside daemoneye-agent".to_owned()
            } else if name != PROCMOND && command.is_none() {
                "is missing: which program is it?".to_owned()
            } else {
                continue;
            };
            return Err(ConfigError::Inconsistent { key, problem });
        }
        Ok(())
    }

    /// Every key in the order of the table, those with chosen names last.
    pub(super) fn list(&self) -> Vec<Setting> {
        let named = self.0.keys().map(String::as_str).filter(|key| is_named(key));
        let fixed = KEYS.iter().map(|key| key.path).filter(|path| !is_named(path));
        let setting = |key: &str| {
            let unset = || Origin { layer: Layer::Default, place: "not set".to_owned() };
            let (value, origin) =
                self.0.get(key).cloned().map_or_else(|| (None, unset()), |(value, origin)| (Some(value), origin));
            Setting { key: key.to_owned(), value, origin }
        };
        fixed.chain(named).map(setting).collect()
    }
}

/// Whether the second part of the key is a name that the operator chose.
fn is_named(key: &str) -> bool {
    key.split('.').next().is_some_and(|section| NAMED_SECTIONS.contains(&section))
}

/// Paths are UTF-8 wherever they come from, so nothing is lost here.
fn path_value(path: PathBuf) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}
