//! `/proc` of this host, through `rustix`.

use super::aside::Aside;
use super::{FileId, Owner, ProcFs, Unreadable};
use crate::procfs::number;
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, SeekFrom, StatxFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use std::cell::RefCell;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

/// `f_type` of a proc file system (`PROC_SUPER_MAGIC`).
const PROC_MAGIC: u64 = 0x9fa0;
/// Room for a directory's entries at a time, and for most of the files.
const ROOM: usize = 4096;

/// The process table of this host.
pub struct HostProc {
    root: OwnedFd,
    /// It hides processes of others from us.
    narrowed: bool,
    entries: Vec<u8>,
    files: RefCell<Aside>,
}

/// Why there is no process table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// Which directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Something else is mounted there, or nothing.
    #[error("{} is not a proc file system: mount one there (mount -t proc proc {})", .0.display(), .0.display())]
    NotProc(PathBuf),
    /// There is no room for a thread.
    #[error("cannot start the thread that asks file systems")]
    Thread(#[source] std::io::Error),
}

impl HostProc {
    /// Opens the proc file system at `path`, on any host `/proc`.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let fail = |errno: Errno| OpenError::Open { path: path.to_owned(), source: errno.into() };
        let root = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(fail)?;
        let kind = rustix::fs::fstatfs(&root).map_err(fail)?.f_type;
        if u64::try_from(kind) != Ok(PROC_MAGIC) {
            return Err(OpenError::NotProc(path.to_owned()));
        }
        let files = RefCell::new(Aside::start().map_err(OpenError::Thread)?);
        Ok(Self { root, narrowed: false, entries: Vec::with_capacity(8 * ROOM), files })
    }

    /// The same where it hides processes of others from us, so that one that is not listed may be there.
    #[must_use]
    pub(crate) fn narrowed(self, narrowed: bool) -> Self {
        Self { narrowed, ..self }
    }

    /// Identifies a file, which may be on any file system.
    fn ask(&self, dir: Option<&OwnedFd>, path: Vec<u8>, flags: AtFlags) -> Result<FileId, Unreadable> {
        let dir = dir.map(|dir| fcntl_dupfd_cloexec(dir, 0)).transpose()?;
        let identify = move || match dir {
            Some(dir) => identify(dir, &path, flags),
            None => identify(CWD, &path, flags),
        };
        self.files.borrow_mut().ask(identify).unwrap_or(Err(Unreadable::Failed(Errno::TIMEDOUT)))
    }
}

impl ProcFs for HostProc {
    type Process = OwnedFd;

    fn pids(&mut self, into: &mut Vec<u32>) -> Result<(), Unreadable> {
        into.clear();
        rustix::fs::seek(&self.root, SeekFrom::Start(0))?;
        let mut entries = RawDir::new(&self.root, self.entries.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            into.extend(number::<u32>(entry?.file_name().to_bytes()));
        }
        Ok(())
    }

    fn open(&self, pid: u32) -> Result<OwnedFd, Unreadable> {
        let mut name = [0; 11];
        let name = decimal(pid, &mut name)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.root, name, flags, Mode::empty())?)
    }

    fn owner(&self, process: &OwnedFd) -> Result<Owner, Unreadable> {
        // The directory belongs to the effective ids, whether or not the process may be traced.
        let found = rustix::fs::fstat(process)?;
        Ok(Owner { euid: found.st_uid, egid: found.st_gid })
    }

    fn read(&self, process: &OwnedFd, file: &CStr, limit: usize, into: &mut Vec<u8>) -> Result<bool, Unreadable> {
        into.clear();
        let file = rustix::fs::openat(process, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        loop {
            if into.capacity() - into.len() < ROOM {
                into.reserve(into.len().max(ROOM));
            }
            let room = into.capacity() - into.len();
            let got = retry_on_intr(|| rustix::io::read(&file, spare_capacity(into)))?;
            if into.len() > limit {
                into.truncate(limit);
                return Ok(true);
            }
            // The files of a process come whole as long as there is room: a second read to see the end costs as much.
            if got < room {
                return Ok(false);
            }
        }
    }

    fn link(&self, process: &OwnedFd, name: &CStr, into: &mut Vec<u8>) -> Result<(), Unreadable> {
        into.clear();
        // The kernel gives no link of /proc longer than a page.
        into.reserve(ROOM);
        rustix::fs::readlinkat_raw(process, name, spare_capacity(into))?;
        Ok(())
    }

    fn image(&self, process: &OwnedFd) -> Result<FileId, Unreadable> {
        self.ask(Some(process), b"exe".to_vec(), AtFlags::empty())
    }

    fn file_in_root(&self, process: &OwnedFd, path: &[u8]) -> Result<FileId, Unreadable> {
        self.ask(Some(process), [b"root", path].concat(), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn file(&self, path: &[u8]) -> Result<FileId, Unreadable> {
        self.ask(None, path.to_vec(), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn hides(&self, pid: u32) -> bool {
        // A signal that is none says whether somebody has the pid, whoever may see it.
        self.narrowed && pid_of(pid).is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
    }
}

fn pid_of(pid: u32) -> Option<rustix::process::Pid> {
    i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)
}

/// Identifies what is open.
pub(crate) fn identify_open(fd: &OwnedFd) -> Result<FileId, Unreadable> {
    identify(fd, b"", AtFlags::EMPTY_PATH)
}

/// Identifies a file without opening it, mounting anything, or asking a remote file system anew.
fn identify(dir: impl AsFd, path: &[u8], flags: AtFlags) -> Result<FileId, Unreadable> {
    let flags = flags | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let found = match rustix::fs::statx(dir, path, flags, StatxFlags::BASIC_STATS) {
        // A part of the path is no directory any more: nothing is there.
        Err(Errno::NOTDIR) => return Err(Unreadable::Gone),
        found => found?,
    };
    let device = (found.stx_dev_major, found.stx_dev_minor);
    Ok(FileId {
        device,
        inode: found.stx_ino,
        links: found.stx_nlink,
        size: found.stx_size,
        modified: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        changed: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
        mode: found.stx_mode,
        owner: Owner { euid: found.stx_uid, egid: found.stx_gid },
    })
}

/// The number's digits, ended by NUL, without an allocation.
fn decimal(number: u32, buffer: &mut [u8; 11]) -> Result<&CStr, Unreadable> {
    use std::io::Write as _;
    let room = buffer.len();
    let mut rest = &mut buffer[..room - 1];
    // Ten digits and the NUL, which is there already, fit.
    let _ = write!(rest, "{number}");
    CStr::from_bytes_until_nul(buffer).map_err(|_| Unreadable::Failed(Errno::INVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_proc_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(HostProc::open(dir.path()), Err(OpenError::NotProc(_))));
        assert!(matches!(HostProc::open(&dir.path().join("none")), Err(OpenError::Open { .. })));
    }

    #[test]
    fn this_process_is_read_as_the_standard_library_reads_it() {
        let mut proc = HostProc::open(Path::new("/proc")).unwrap();
        let mut pids = Vec::new();
        for _ in 0..2 {
            proc.pids(&mut pids).unwrap();
            assert!(pids.contains(&std::process::id()) && pids.contains(&1));
        }
        let me = proc.open(std::process::id()).unwrap();
        let mut bytes = Vec::new();
        assert!(!proc.read(&me, c"cmdline", 1 << 20, &mut bytes).unwrap());
        assert_eq!(bytes, std::fs::read("/proc/self/cmdline").unwrap());
        assert!(proc.read(&me, c"cmdline", 3, &mut bytes).unwrap(), "there is more than three bytes");
        assert_eq!(bytes.len(), 3);
        proc.link(&me, c"exe", &mut bytes).unwrap();
        let path = std::env::current_exe().unwrap();
        assert_eq!(bytes, path.as_os_str().as_encoded_bytes());
        let image = proc.image(&me).unwrap();
        assert!(image.is_same(&proc.file_in_root(&me, &bytes).unwrap()));
        assert!(image.is_same(&proc.file(&bytes).unwrap()));
        let expected = Owner { euid: rustix::process::geteuid().as_raw(), egid: rustix::process::getegid().as_raw() };
        assert_eq!(proc.owner(&me), Ok(expected));
    }

    #[test]
    fn a_process_that_ended_is_gone_for_who_holds_it_open() {
        let proc = HostProc::open(Path::new("/proc")).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let held = proc.open(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let mut bytes = Vec::new();
        assert_eq!(proc.read(&held, c"stat", 100, &mut bytes), Err(Unreadable::Gone));
        assert_eq!(proc.link(&held, c"exe", &mut bytes), Err(Unreadable::Gone));
        assert_eq!(proc.open(child.id()).err(), Some(Unreadable::Gone));
    }

    #[test]
    fn what_is_hidden_is_there_until_nobody_has_the_pid() {
        let open = |narrowed| HostProc::open(Path::new("/proc")).unwrap().narrowed(narrowed);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(open(true).hides(child.id()) && open(true).hides(1));
        assert!(!open(false).hides(child.id()), "where nothing is hidden, who is not listed is gone");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!open(true).hides(child.id()) && !open(true).hides(u32::MAX) && !open(true).hides(0));
    }

    #[test]
    fn pids_are_written_in_decimal() {
        let mut buffer = [0; 11];
        assert_eq!(decimal(u32::MAX, &mut buffer).unwrap(), c"4294967295");
        let mut buffer = [0; 11];
        assert_eq!(decimal(7, &mut buffer).unwrap(), c"7");
    }
}
