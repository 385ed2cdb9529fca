//! What a collector proves itself with: a token that works once, and the session key that it gets for it.
//!
//! Both are 32 random bytes, written as hex, compared in constant time, and never shown by `Debug`.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use subtle::ConstantTimeEq as _;

use crate::os;

const LENGTH: usize = 32;

/// Why a secret could not be made, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The text is not 64 hex digits.
    #[error("a token or session key is {} hex digits", 2 * LENGTH)]
    Malformed,
    /// The file does not hold one.
    #[error("{} does not hold a session key; remove it", path.display())]
    MalformedFile {
        /// Which file.
        path: PathBuf,
    },
    /// The name is not one segment of a topic.
    #[error("{name:?} cannot be a collector's name: only a-z, 0-9, _ and -, at most {} bytes", crate::auth::MAX_NAME)]
    Name {
        /// The name.
        name: String,
    },
    /// The collector's key for the encrypted bus cannot be made.
    #[error(transparent)]
    Key(#[from] crate::keys::KeyError),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Entropy(getrandom::Error),
    /// The file cannot be read or written.
    #[error("cannot access the session key in {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// 32 bytes that are shown to nobody by accident.
#[derive(Clone)]
pub(crate) struct Secret([u8; LENGTH]);

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for Secret {}

impl Secret {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn random() -> Result<Self, SecretError> {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes).map_err(SecretError::Entropy)?;
        Ok(Self(bytes))
    }

    fn is(&self, bytes: &[u8]) -> bool {
        self.0.ct_eq(bytes).into()
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let digits = text.trim().as_bytes();
        if digits.len() != 2 * LENGTH {
            return Err(SecretError::Malformed);
        }
        let mut bytes = [0; LENGTH];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let value = char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
                *byte = (*byte << 4) | value.ok_or(SecretError::Malformed)?;
            }
        }
        Ok(Self(bytes))
    }
}

/// Lets one collector in, once.
#[derive(Clone)]
pub struct Token(Secret);

/// Lets a collector come back, to this agent or to the next one on the same data directory.
#[derive(Clone)]
pub struct SessionKey(Secret);

impl Token {
    pub(crate) fn random() -> Result<Self, SecretError> {
        Secret::random().map(Self)
    }

    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        self.0.is(bytes)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.0.to_vec()
    }
}

impl SessionKey {
    pub(crate) fn random() -> Result<Self, SecretError> {
        Secret::random().map(Self)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Secret::from_bytes(bytes).map(Self)
    }

    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        self.0.is(bytes)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.0.to_vec()
    }

    /// Reads a key that [`store`](Self::store) wrote; `None` where there is no such file.
    ///
    /// # Errors
    /// The file cannot be read or holds something else.
    pub fn load(path: &Path) -> Result<Option<Self>, SecretError> {
        match fs::read_to_string(path) {
            Ok(text) => match text.parse() {
                Ok(key) => Ok(Some(key)),
                Err(_) => Err(SecretError::MalformedFile { path: path.to_owned() }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SecretError::Io { path: path.to_owned(), source }),
        }
    }

    /// Writes the key to a file of mode 0600; a crash leaves the old file or the new one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, path: &Path) -> Result<(), SecretError> {
        os::write_private(path, format!("{self}\n").as_bytes())
            .map_err(|source| SecretError::Io { path: path.to_owned(), source })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

impl FromStr for Token {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        text.parse().map(Self)
    }
}

impl FromStr for SessionKey {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{SecretError, SessionKey, Token};

    #[test]
    fn hex_comes_back_and_debug_tells_nothing() {
        let token = Token::random().unwrap();
        let text = token.to_string();
        assert_eq!(text.len(), 64);
        assert!(text.parse::<Token>().unwrap().is(&token.to_bytes()));
        assert!(format!(" {text}\n").parse::<Token>().unwrap().is(&token.to_bytes()));
        assert!(!Token::random().unwrap().is(&token.to_bytes()));
        assert!(!token.is(&[]));
        assert_eq!(format!("{token:?}"), "Token(…)");
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(63), &"+0".repeat(32), &"é".repeat(32)] {
            assert!(matches!(bad.parse::<Token>(), Err(SecretError::Malformed)), "{bad}");
        }
    }

    #[test]
    fn a_key_file_is_private_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.key");
        assert!(SessionKey::load(&path).unwrap().is_none());
        SessionKey::random().unwrap().store(&path).unwrap();
        let key = SessionKey::random().unwrap();
        key.store(&path).unwrap();
        assert!(SessionKey::load(&path).unwrap().unwrap().is(&key.to_bytes()));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(dir.path().read_dir().unwrap().count(), 1, "no temporary file stays");
        std::fs::write(&path, "nonsense").unwrap();
        assert!(matches!(SessionKey::load(&path), Err(SecretError::MalformedFile { .. })));
    }
}
