//! Environment variables: keys, and the few that are not keys.

use super::environment::{Component, Environment};
use super::error::ConfigError;
use super::keys;
use super::settings::{Assignment, Layer, assignment};
use std::ffi::OsString;
use std::str::FromStr;

/// The variables that any collector accepts: `<COMPONENT>_COLLECTOR_…`. They are not keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectorVariables {
    /// `MAX_EVENT_SOURCES`: the most sources that the collector runs; today every collector has one.
    pub max_event_sources: Option<usize>,
    /// `EVENT_BUFFER_SIZE`: how many items may wait between source and spool.
    pub event_buffer_size: Option<usize>,
    /// `ENABLE_TELEMETRY`: whether what the collector counts and uses travels with its state; it does when not set.
    pub enable_telemetry: Option<bool>,
    /// `DEBUG_LOGGING`: sets `app.log_level` to `debug`, unless a variable or a flag sets it.
    pub debug_logging: Option<bool>,
    /// Not a variable of the collector's own: whether it belongs to an agent in test mode, whose environment it has.
    pub test_mode: bool,
}

impl CollectorVariables {
    /// Those of a collector of this name, whose variables are not those of a [`Component`]: `net-watch` has
    /// `NET_WATCH_COLLECTOR_…`, and so have its instances. An empty one counts as not set.
    ///
    /// # Errors
    /// When a value is none that the variable can have.
    pub fn of_collector(name: &str, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let component = name.split('@').next().unwrap_or_default().to_ascii_uppercase().replace('-', "_");
        let set = |name: &str| variable(name).filter(|text| !text.is_empty());
        let mut found = Self::default();
        if let Some(text) = set(TEST_MODE) {
            found.test_mode = switch(TEST_MODE, &text)?;
        }
        for own in ["MAX_EVENT_SOURCES", "EVENT_BUFFER_SIZE", "ENABLE_TELEMETRY", "DEBUG_LOGGING"] {
            let variable = format!("{component}_COLLECTOR_{own}");
            if let Some(text) = set(&variable) {
                found.take(&format!("COLLECTOR_{own}"), &variable, &text)?;
            }
        }
        Ok(found)
    }

    /// Takes a variable by its name behind the component's; tells whether it is one of these.
    fn take(&mut self, name: &str, variable: &str, text: &OsString) -> Result<bool, ConfigError> {
        match name {
            "COLLECTOR_MAX_EVENT_SOURCES" => self.max_event_sources = Some(count(variable, text)?),
            "COLLECTOR_EVENT_BUFFER_SIZE" => self.event_buffer_size = Some(count(variable, text)?),
            "COLLECTOR_ENABLE_TELEMETRY" => self.enable_telemetry = Some(switch(variable, text)?),
            "COLLECTOR_DEBUG_LOGGING" => self.debug_logging = Some(switch(variable, text)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Read by the agent, and by the collectors that it starts.
const TEST_MODE: &str = "DAEMONEYE_AGENT_TEST_MODE";

pub(super) struct Variables {
    pub(super) assignments: Vec<Assignment>,
    pub(super) test_mode: bool,
    pub(super) collector: CollectorVariables,
}

/// All variables of this component. An empty one counts as not set.
pub(super) fn read(component: Component, env: &Environment) -> Result<Variables, ConfigError> {
    let mut found = Variables { assignments: Vec::new(), test_mode: false, collector: CollectorVariables::default() };
    let mut explicit = Vec::new();
    if let Some(text) = env.variables.get(TEST_MODE).filter(|text| component != Component::Cli && !text.is_empty()) {
        found.test_mode = switch(TEST_MODE, text)?;
        found.collector.test_mode = found.test_mode;
    }
    for (variable, text) in &env.variables {
        let Some(name) = variable.strip_prefix(component.prefix()) else { continue };
        if text.is_empty() {
            continue;
        }
        if found.collector.take(name, variable, text)? {
            if name == "COLLECTOR_DEBUG_LOGGING" && found.collector.debug_logging == Some(true) {
                let debug = OsString::from("debug");
                found.assignments.push(assignment("app.log_level", &debug, variable, Layer::Environment)?);
            }
        } else if variable != TEST_MODE {
            explicit.push(key(component, variable, name, text)?);
        }
    }
    found.assignments.extend(explicit);
    Ok(found)
}

/// `APP__SCAN_INTERVAL_MS` sets `app.scan_interval_ms`.
fn key(component: Component, variable: &str, name: &str, text: &OsString) -> Result<Assignment, ConfigError> {
    let key = name.to_lowercase().replace("__", ".");
    if keys::find(&key).is_none() {
        let nearest = keys::nearest(&key).to_uppercase().replace('.', "__");
        return Err(ConfigError::UnknownKey {
            key: variable.to_owned(),
            place: "environment".to_owned(),
            nearest: format!("{}{nearest}", component.prefix()),
        });
    }
    assignment(&key, text, variable, Layer::Environment)
}

fn switch(variable: &str, text: &OsString) -> Result<bool, ConfigError> {
    match text.to_str().map(str::to_ascii_lowercase).as_deref() {
        Some("1" | "true") => Ok(true),
        Some("0" | "false") => Ok(false),
        _ => Err(invalid(variable, text, "1, 0, true or false")),
    }
}

fn count<T: FromStr + PartialOrd + From<u8>>(variable: &str, text: &OsString) -> Result<T, ConfigError> {
    let number = text.to_str().and_then(|text| text.trim().parse::<T>().ok());
    number.filter(|number| *number >= T::from(1)).ok_or_else(|| invalid(variable, text, "a whole number from 1"))
}

fn invalid(variable: &str, text: &OsString, allowed: &str) -> ConfigError {
    ConfigError::Invalid {
        key: variable.to_owned(),
        value: format!("{:?}", text.to_string_lossy()),
        place: "environment".to_owned(),
        allowed: allowed.to_owned(),
    }
}
