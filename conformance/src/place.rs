//! A private place on disk, removed at the end.

use crate::fault::Fault;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// A directory of mode 0700 with a data and a runtime directory in it.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new() -> Result<Self, Fault> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| Fault::new(format!("no random bytes: {error}")))?;
        let name = format!("daemoneye-conformance-{:016x}", u64::from_le_bytes(bytes));
        let place = Self(std::env::temp_dir().join(name));
        for dir in [place.root().to_owned(), place.data(), place.runtime()] {
            DirBuilder::new().mode(0o700).create(dir)?;
        }
        Ok(place)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.0.join("run")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime().join("agent.sock")
    }

    /// Where the program's standard error goes.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("stderr")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is in the system's directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
