//! Directories on disk: made when they are missing, judged before they are used.

use rustix::fs::Access;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the directory {}", path.display())]
pub struct DirectoryError {
    /// The directory.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl DirectoryError {
    /// What the operator can do.
    pub fn hint(&self) -> String {
        let path = self.path.display();
        match self.source.kind() {
            io::ErrorKind::PermissionDenied => {
                format!(
                    "let {path} belong to the user that runs this program, or choose another with --data-dir or --runtime-dir"
                )
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => format!("move the file {path} away"),
            io::ErrorKind::ReadOnlyFilesystem => {
                format!("mount the file system of {path} writable, or choose another place")
            }
            io::ErrorKind::NotFound => format!("create {path}, or configure another"),
            io::ErrorKind::StorageFull => format!("make room on the file system of {path}"),
            _ => format!("see that {path} can be created and written"),
        }
    }
}

/// Makes a directory, and what is missing above it, for this user alone (mode 0700); leaves one alone that exists.
///
/// # Errors
/// When it cannot be made, or something else has its name.
pub fn create_private_dir(path: &Path) -> Result<(), DirectoryError> {
    let failed = |source| DirectoryError { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)
}

/// What a directory that was judged is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usable {
    /// It is there.
    Exists,
    /// It is not, and can be made.
    CanBeCreated,
}

/// Judges, without touching anything, whether this process could use a directory.
///
/// # Errors
/// When it, or the nearest directory above it that exists, denies what is needed.
pub fn check_directory(path: &Path, to_write: bool) -> Result<Usable, DirectoryError> {
    let failed = |source| DirectoryError { path: path.to_owned(), source };
    let wanted = |write| {
        if write { Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK } else { Access::READ_OK | Access::EXEC_OK }
    };
    for (index, directory) in path.ancestors().enumerate() {
        match directory.metadata() {
            Ok(metadata) if !metadata.is_dir() => return Err(failed(io::ErrorKind::NotADirectory.into())),
            Ok(_) => {
                let made = index > 0;
                rustix::fs::access(directory, wanted(to_write || made)).map_err(|errno| failed(errno.into()))?;
                return Ok(if made { Usable::CanBeCreated } else { Usable::Exists });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(io::ErrorKind::NotFound.into()))
}
