//! Why a spool cannot be used.

use std::io;
use std::path::PathBuf;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// A file or the directory cannot be read or written.
    #[error("spool: {}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A segment of another version.
    #[error(
        "spool: {}: written in format {found}, this program reads {supported}; let the program that wrote it empty it, \
         or remove the directory and lose what it holds",
        .path.display()
    )]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u16,
        /// The version that is read here.
        supported: u16,
    },
}
