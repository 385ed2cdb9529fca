//! The keys of the bus's encryption, and which of them are known: files in one directory.
//!
//! | file | what |
//! |---|---|
//! | `agent.key`, `agent.pub` | the agent's pair; whoever connects has pinned `agent.pub` |
//! | `operator.key`, `operator.pub` | the operators' pair |
//! | `collector.NAME.key`, `collector.NAME.pub` | the pair of the collector NAME |
//!
//! A key is 64 hex digits and a newline. Private keys have mode 0600. The agent makes what is missing, and accepts of
//! everybody the public key that is here under its name, and no other. Where a `.pub` is here and its `.key` is not, the
//! private half is somewhere else, and stays there.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::{client::Identity, os, secret::Secret};

/// A directory of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    dir: PathBuf,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is none.
    #[error("there is no bus key {}; the agent makes it when it starts with app.bus_encryption = \"noise\"", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("{} does not hold a bus key of 64 hex digits; remove it and its other half, and start the agent", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// Others than its owner can read a private key.
    #[error("the private bus key {} can be read by others; remove the pair, or `chmod 600` it if nobody did", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// No key could be made.
    #[error("no bus key can be made: {reason}")]
    Generate {
        /// Why.
        reason: String,
    },
    /// The file cannot be read or written.
    #[error("cannot access the bus key {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Half of a pair, that its owner alone has.
#[derive(Clone)]
pub(crate) struct PrivateKey(Secret);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// The other half, by which its owner is known.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PublicKey(Secret);

impl PrivateKey {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl PublicKey {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Secret::from_bytes(bytes).map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Whose key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner<'a> {
    Agent,
    Operator,
    Collector(&'a str),
}

impl<'a> From<&'a Identity> for Owner<'a> {
    fn from(identity: &'a Identity) -> Self {
        match identity {
            Identity::Operator => Self::Operator,
            Identity::Collector { name, .. } => Self::Collector(name),
        }
    }
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("agent"),
            Self::Operator => f.write_str("operator"),
            Self::Collector(name) => write!(f, "collector.{name}"),
        }
    }
}

impl Keys {
    /// The keys in a directory; nothing is read yet.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn path(&self, owner: Owner<'_>, half: &str) -> PathBuf {
        self.dir.join(format!("{owner}.{half}"))
    }

    /// Makes a pair where the public half is missing. The private half is written first: a crash between the two leaves one
    /// that nobody has pinned, and that is replaced.
    pub(crate) fn ensure(&self, owner: Owner<'_>) -> Result<(), KeyError> {
        let (private, public) = (self.path(owner, "key"), self.path(owner, "pub"));
        if public.exists() {
            return Ok(());
        }
        os::create_private_dir(&self.dir).map_err(|source| KeyError::Io { path: self.dir.clone(), source })?;
        let pair = crate::noise::generate().map_err(|error| KeyError::Generate { reason: error.to_string() })?;
        for (path, bytes) in [(private, &pair.private), (public, &pair.public)] {
            let key = Secret::from_bytes(bytes)
                .ok_or_else(|| KeyError::Generate { reason: format!("it has {} bytes", bytes.len()) })?;
            os::write_private(&path, format!("{key}\n").as_bytes()).map_err(|source| KeyError::Io { path, source })?;
        }
        Ok(())
    }

    pub(crate) fn private(&self, owner: Owner<'_>) -> Result<PrivateKey, KeyError> {
        let path = self.path(owner, "key");
        match os::is_private(&path) {
            Ok(true) => read(&path).map(PrivateKey),
            Ok(false) => Err(KeyError::Exposed { path }),
            Err(source) => Err(failed(&path, source)),
        }
    }

    /// The key by which somebody is known here.
    pub(crate) fn public(&self, owner: Owner<'_>) -> Result<PublicKey, KeyError> {
        read(&self.path(owner, "pub")).map(PublicKey)
    }
}

fn read(path: &Path) -> Result<Secret, KeyError> {
    let text = fs::read_to_string(path).map_err(|source| failed(path, source))?;
    text.parse().map_err(|_| KeyError::Malformed { path: path.to_owned() })
}

fn failed(path: &Path, source: io::Error) -> KeyError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => KeyError::Missing { path },
        _ => KeyError::Io { path, source },
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::{KeyError, Keys, Owner};

    const PROCMOND: Owner<'_> = Owner::Collector("procmond@2");

    #[test]
    fn what_is_missing_is_made_and_what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::in_dir(dir.path().join("keys"));
        assert!(matches!(keys.private(PROCMOND), Err(KeyError::Missing { .. })));
        keys.ensure(PROCMOND).unwrap();
        let (private, public) = (keys.private(PROCMOND).unwrap(), keys.public(PROCMOND).unwrap());
        assert!(private.bytes() != public.bytes());
        keys.ensure(PROCMOND).unwrap();
        assert!(keys.public(PROCMOND).unwrap() == public);
        let path = dir.path().join("keys/collector.procmond@2.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        // The private half is elsewhere.
        fs::remove_file(&path).unwrap();
        keys.ensure(PROCMOND).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::in_dir(dir.path());
        keys.ensure(Owner::Agent).unwrap();
        let path = dir.path().join("agent.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(keys.private(Owner::Agent), Err(KeyError::Exposed { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(keys.private(Owner::Agent), Err(KeyError::Malformed { .. })));
    }
}
