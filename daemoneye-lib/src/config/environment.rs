//! What the process around us looks like, as a value.

use crate::os;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Which program loads its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The process collector.
    Procmond,
    /// The agent.
    Agent,
    /// The command line.
    Cli,
}

impl Component {
    /// Its section, and its directory below the data directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Procmond => "procmond",
            Self::Agent => "agent",
            Self::Cli => "cli",
        }
    }

    /// What the names of its environment variables begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Procmond => "PROCMOND_",
            Self::Agent => "DAEMONEYE_AGENT_",
            Self::Cli => "DAEMONEYE_CLI_",
        }
    }
}

/// Everything of the process that decides about its configuration.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Environment variables.
    pub variables: BTreeMap<String, OsString>,
    /// The effective uid; nobody's (`u32::MAX`) on a system without uids.
    pub uid: u32,
    /// Whether the process holds capabilities (on Linux, root does).
    pub privileged: bool,
    /// What relative paths in flags are relative to.
    pub current_dir: PathBuf,
    /// The system's configuration directory.
    pub system_dir: PathBuf,
}

impl Environment {
    /// That of this process.
    pub fn from_process() -> Self {
        Self {
            // A name that is not UTF-8 is none of ours, whatever it is replaced with.
            variables: std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value)).collect(),
            uid: os::euid(),
            privileged: os::is_privileged(),
            current_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            system_dir: os::system_dir(),
        }
    }

    /// The user's configuration file, where there is a place for one.
    pub(super) fn user_file(&self) -> Option<PathBuf> {
        Some(self.config_home()?.join("daemoneye/config.toml"))
    }

    pub(super) fn default_data_dir(&self) -> Option<PathBuf> {
        if self.uid == 0 {
            return Some(PathBuf::from("/var/lib/daemoneye"));
        }
        Some(os::state_home(|variable| self.absolute(variable))?.join("daemoneye"))
    }

    /// None when it belongs below the data directory.
    pub(super) fn default_runtime_dir(&self) -> Option<PathBuf> {
        if self.uid == 0 {
            return Some(PathBuf::from("/run/daemoneye"));
        }
        Some(self.absolute("XDG_RUNTIME_DIR")?.join("daemoneye"))
    }

    pub(super) fn default_rules_dir(&self) -> PathBuf {
        let own = if self.uid == 0 { None } else { self.config_home() };
        own.map_or_else(|| self.system_dir.clone(), |home| home.join("daemoneye")).join("rules")
    }

    fn config_home(&self) -> Option<PathBuf> {
        os::config_home(|variable| self.absolute(variable))
    }

    /// A directory from a variable. A relative one is ignored, as the XDG specification wants it; so is one that is not
    /// UTF-8, because every configured path is.
    fn absolute(&self, variable: &str) -> Option<PathBuf> {
        let path = Path::new(self.variables.get(variable)?.to_str()?);
        path.is_absolute().then(|| path.to_owned())
    }
}
