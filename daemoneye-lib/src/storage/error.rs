//! What can go wrong with the store, with the path in each message.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("the event store {} is open in another process", path.display())]
    InUse {
        /// The store.
        path: PathBuf,
    },
    /// Its bytes are not a store's.
    #[error(
        "the event store {} is damaged: {detail}. Nothing was changed in it. To go on with a new store, move it aside \
         (mv {0} {0}.damaged) and start again; to keep its history, restore it from a backup",
        path.display()
    )]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Its format is of another version.
    #[error(
        "the event store {} has format {found}, and this version of DaemonEye reads format {expected}: use the version that \
         wrote it, or move it aside",
        path.display()
    )]
    OtherVersion {
        /// The store.
        path: PathBuf,
        /// The format in the file.
        found: u64,
        /// The format that is understood.
        expected: u64,
    },
    /// The file system refused.
    #[error("the event store {} cannot be opened: {source}", path.display())]
    Io {
        /// The store.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why an operation on the open store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused to write or read: the store must be reopened, and nothing of the operation happened.
    #[error("the event store {} cannot be written or read: {source}", path.display())]
    Io {
        /// The store.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A value does not say what it must.
    #[error("the event store {} is damaged: {detail}", path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// An earlier failure closed the store.
    #[error("the event store {} is closed after an error", path.display())]
    Closed {
        /// The store.
        path: PathBuf,
    },
}

impl StoreError {
    /// From any error of redb.
    pub(super) fn from_redb(path: &Path, error: impl Into<redb::Error>) -> Self {
        let path = path.to_owned();
        match error.into() {
            redb::Error::Io(source) => Self::Io { path, source },
            redb::Error::PreviousIo => Self::Closed { path },
            other => Self::Damaged { path, detail: other.to_string() },
        }
    }

    pub(super) fn damaged(path: &Path, detail: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), detail: detail.into() }
    }
}

/// Adds the store's path to an error of redb.
pub(super) trait InStore<T> {
    fn in_store(self, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<redb::Error>> InStore<T> for Result<T, E> {
    fn in_store(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::from_redb(path, error))
    }
}
