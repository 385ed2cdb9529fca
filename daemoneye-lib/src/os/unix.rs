//! What the library needs of a Unix system: users, private files and directories, and where things are.

use rustix::fs::{Access, OFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(not(target_os = "linux"))]
#[path = "capabilities_none.rs"]
mod capabilities;
#[cfg(target_os = "linux")]
#[path = "capabilities_linux.rs"]
mod capabilities;

/// The effective uid of this process.
pub(crate) fn euid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether this process may do what an ordinary user's may not.
pub(crate) fn is_privileged() -> bool {
    euid() == 0 || capabilities::are_held()
}

/// The uid that something belongs to, and its mode.
pub(crate) fn owner_and_mode(metadata: &Metadata) -> Option<(u32, u32)> {
    Some((metadata.uid(), metadata.mode()))
}

/// Makes one directory, for this user alone.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// What these options create is for this user alone.
pub(crate) fn for_owner_alone(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// Opens a file; `None` when its name stands for a symbolic link.
pub(crate) fn open_no_follow(options: &mut OpenOptions, path: &Path) -> io::Result<Option<File>> {
    match options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path) {
        Err(error) if is_link(Errno::from_io_error(&error)) => Ok(None),
        opened => opened.map(Some),
    }
}

/// FreeBSD answers EMLINK where others answer ELOOP.
fn is_link(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::LOOP | Errno::MLINK))
}

/// Whether this process may enter and list a directory, and write to it.
pub(crate) fn access(directory: &Path, to_write: bool) -> io::Result<()> {
    let wanted = Access::READ_OK | Access::EXEC_OK | if to_write { Access::WRITE_OK } else { Access::empty() };
    Ok(rustix::fs::access(directory, wanted)?)
}

/// Whether a socket can have this path.
pub(crate) fn fits_a_socket(path: &Path) -> bool {
    SocketAddr::from_pathname(path).is_ok()
}

/// Whether this process may write to what is at a path.
pub(crate) fn may_write(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(path, Access::WRITE_OK)?)
}

/// What this user can still write on the file system of a path.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// Whether a path is on a file system in memory. Its kinds are Linux's; no other system numbers one of its own so.
pub(crate) fn is_in_memory(path: &Path) -> bool {
    const TMPFS: i128 = 0x0102_1994;
    const RAMFS: i128 = 0x8584_58f6;
    // The type of the field differs from one processor to the next.
    rustix::fs::statfs(path).is_ok_and(|found| matches!(i128::from(found.f_type), TMPFS | RAMFS))
}

/// Processor time of all threads of this process so far.
#[allow(dead_code, reason = "only telemetry asks, which is behind a feature")]
pub(crate) fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

/// The system's configuration directory.
pub(crate) fn system_dir() -> PathBuf {
    PathBuf::from("/etc/daemoneye")
}

/// Where a user's programs keep their state; `variable` gives the absolute path in an environment variable.
pub(crate) fn state_home(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))
}

/// Where a user's configuration is.
pub(crate) fn config_home(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))
}
