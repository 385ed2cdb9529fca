//! What can be wrong with a configuration.

use std::io;
use std::path::PathBuf;

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Nobody reads this key.
    #[error("unknown key `{key}` ({place}); the nearest known one is `{nearest}`")]
    UnknownKey {
        /// As it was written.
        key: String,
        /// File and position, or the variable.
        place: String,
        /// In the same spelling as `key`.
        nearest: String,
    },
    /// The key is known, its value is not good.
    #[error("`{key}` is {value} ({place}), allowed is {allowed}")]
    Invalid {
        /// The dotted key, or the variable.
        key: String,
        /// As it was written.
        value: String,
        /// File and position, variable or flag.
        place: String,
        /// What may stand there.
        allowed: String,
    },
    /// A key that goes with others is missing, or must not be there.
    #[error("`{key}` {problem}")]
    Inconsistent {
        /// The dotted key.
        key: String,
        /// What is the matter with it.
        problem: String,
    },
    /// The file is not TOML.
    #[error("{place}: {message}")]
    Syntax {
        /// File and position.
        place: String,
        /// What the parser says.
        message: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not one that a privileged process may believe.
    #[error("the configuration file {} is not safe to read with privileges: {problem}", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Who else could have written it.
        problem: String,
    },
    /// No default can be found.
    #[error("`{key}` has no default here: neither HOME nor XDG_STATE_HOME is set")]
    NoHome {
        /// The dotted key.
        key: &'static str,
    },
    /// The table of keys and the configuration disagree.
    #[error("defect: the table of keys does not make a configuration: {0}")]
    Defect(String),
}

impl ConfigError {
    /// What the operator can do, where it is not in the message.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { path, .. } => {
                Some(format!("make {} readable, or name another file with --config", path.display()))
            }
            Self::Untrusted { path, .. } => Some(format!(
                "let {} and its directory belong to the user that runs this program and be writable by nobody else, \
                 or name a file with --config",
                path.display()
            )),
            Self::NoHome { .. } => Some("give --data-dir DIR".to_owned()),
            _ => None,
        }
    }
}
