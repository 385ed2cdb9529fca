//! The edge to `/proc`: opens, reads and links, and nothing that knows what the bytes mean.
//!
//! A process is opened once, as its directory, and everything is read relative to that: when its pid is recycled in the
//! middle, the reads answer "gone", and never mix two processes.
//!
//! What only the kernel answers is asked at once. A file system may not answer at all: it is asked on a thread aside, and one that
//! gives no answer in time is a failure (`ETIMEDOUT`).

mod answer;
mod aside;
mod host;

#[cfg(test)]
pub(crate) mod fake;

pub use answer::{Owner, Unreadable};
pub(crate) use host::identify_open;
pub use host::{HostProc, OpenError};
pub(crate) use rustix::io::Errno;

use rustix::fs::FileType;
use std::ffi::CStr;

impl From<Errno> for Unreadable {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::SRCH => Self::Gone,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            other => Self::Failed(other),
        }
    }
}

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// Device, major and minor number.
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
    /// How many names it has; not part of its identity, and neither is what follows.
    pub links: u32,
    /// Its length in bytes.
    pub size: u64,
    /// When its content was last written: seconds and nanoseconds.
    pub modified: (i64, u32),
    /// When anything of it was last changed.
    pub changed: (i64, u32),
    /// Its type and permissions.
    pub mode: u16,
    /// Whose it is.
    pub owner: Owner,
}

impl FileId {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    pub(crate) fn is_link(&self) -> bool {
        FileType::from_raw_mode(self.mode.into()) == FileType::Symlink
    }

    pub(crate) fn is_regular(&self) -> bool {
        FileType::from_raw_mode(self.mode.into()) == FileType::RegularFile
    }
}

/// A table of processes in the form of `/proc`.
pub trait ProcFs {
    /// An open process.
    type Process;

    /// Replaces `into` by the pids of all processes; threads other than the first of a process are none.
    fn pids(&mut self, into: &mut Vec<u32>) -> Result<(), Unreadable>;

    /// Opens the process that has the pid now.
    fn open(&self, pid: u32) -> Result<Self::Process, Unreadable>;

    /// Effective ids of the process.
    fn owner(&self, process: &Self::Process) -> Result<Owner, Unreadable>;

    /// Replaces `into` by the file's content, of which there may be at most `limit` bytes; true when there is more.
    fn read(&self, process: &Self::Process, file: &CStr, limit: usize, into: &mut Vec<u8>) -> Result<bool, Unreadable>;

    /// Replaces `into` by the text of a symbolic link.
    fn link(&self, process: &Self::Process, name: &CStr, into: &mut Vec<u8>) -> Result<(), Unreadable>;

    /// The file that the process's program was loaded from.
    fn image(&self, process: &Self::Process) -> Result<FileId, Unreadable>;

    /// The file at an absolute path in the process's own root directory.
    fn file_in_root(&self, process: &Self::Process, path: &[u8]) -> Result<FileId, Unreadable>;

    /// The file at an absolute path in our root directory.
    fn file(&self, path: &[u8]) -> Result<FileId, Unreadable>;

    /// Whether somebody may have the pid though it is not listed.
    fn hides(&self, _pid: u32) -> bool {
        false
    }
}
