//! What the library needs of Windows: private files and directories, and where things are.
//!
//! There are no uids and no modes here: who may read and write a file follows from the access list that its directory
//! hands down, and that of a user's profile lets in the user, administrators and the system.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Opens a link itself, not what it leads to (`FILE_FLAG_OPEN_REPARSE_POINT`).
const OPEN_REPARSE_POINT: u32 = 0x0020_0000;

/// No uid: nothing compares equal to root's.
pub(crate) fn euid() -> u32 {
    u32::MAX
}

/// What an elevated process may do more is not asked for here.
pub(crate) fn is_privileged() -> bool {
    false
}

/// There is neither.
pub(crate) fn owner_and_mode(_metadata: &Metadata) -> Option<(u32, u32)> {
    None
}

/// Makes one directory, with the access list that the one above it hands down.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().create(path)
}

/// The directory decides.
pub(crate) fn for_owner_alone(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Opens a file; `None` when its name stands for a symbolic link.
pub(crate) fn open_no_follow(options: &mut OpenOptions, path: &Path) -> io::Result<Option<File>> {
    let file = options.custom_flags(OPEN_REPARSE_POINT).open(path)?;
    let is_link = file.metadata()?.is_symlink();
    Ok((!is_link).then_some(file))
}

/// Whether this process may list a directory. Whether it may write there shows when it does.
pub(crate) fn access(directory: &Path, _to_write: bool) -> io::Result<()> {
    directory.read_dir().map(drop)
}

/// A pipe is named after the path; the bus says when that is too long.
pub(crate) fn fits_a_socket(_path: &Path) -> bool {
    true
}

/// Whether a path is not marked as read-only. What its access list says shows when it is written to.
pub(crate) fn may_write(path: &Path) -> io::Result<()> {
    if path.metadata()?.permissions().readonly() { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
}

/// The system is not asked.
pub(crate) fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

/// There is none that is usual here.
pub(crate) fn is_in_memory(_path: &Path) -> bool {
    false
}

/// The system is not asked.
pub(crate) fn cpu_time() -> Duration {
    Duration::ZERO
}

/// The system's configuration directory.
pub(crate) fn system_dir() -> PathBuf {
    let program_data = std::env::var_os("ProgramData").map(PathBuf::from).filter(|path| path.is_absolute());
    program_data.unwrap_or_else(|| PathBuf::from(r"C:\ProgramData")).join("daemoneye")
}

/// Where a user's programs keep their state; `variable` gives the absolute path in an environment variable.
pub(crate) fn state_home(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("LOCALAPPDATA")
}

/// Where a user's configuration is.
pub(crate) fn config_home(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("APPDATA")
}
