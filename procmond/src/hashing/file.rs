//! Files, opened so that nothing but a regular one is ever read, and nothing waits or happens for the opening.

use super::budget::Budget;
use super::fuzzy::Pieces;
use super::{Digester, Hashed, Outcome, Version};
use crate::procfs::mounts;
use crate::reader::{FileId, Unreadable, identify_open};
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, statx};
use rustix::io::{Errno, retry_on_intr};
use sha2::{Digest as _, Sha256};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CHUNK: usize = 128 * 1024;
/// So much of a table of mounts is read, which whoever has namespaces of its own can make long.
const MAX_MOUNTS: u64 = 4 * 1024 * 1024;
/// The longest sleep without asking whether to go on.
const NAP: Duration = Duration::from_millis(200);

/// Where a file may be found; one that is of another version is none.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The process that runs it.
    pub(crate) pid: Option<u32>,
    /// Its path in our root directory.
    pub(crate) path: Option<PathBuf>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.path) {
            (Some(pid), _) => write!(f, "pid {pid}"),
            (None, Some(path)) => write!(f, "{path:?}"),
            (None, None) => f.write_str("nowhere"),
        }
    }
}

/// An open place in the file system that can be asked about, and not read.
pub(crate) struct Handle {
    fd: OwnedFd,
    /// What is there.
    pub(crate) file: FileId,
}

impl Handle {
    /// The image that a process runs.
    pub(crate) fn of_process(pid: u32) -> Result<Self, Unreadable> {
        Self::open(Path::new(&format!("/proc/{pid}/exe")), OFlags::empty())
    }

    /// What is at a path whose last part is no link.
    pub(crate) fn of_path(path: &Path) -> Result<Self, Unreadable> {
        Self::open(path, OFlags::NOFOLLOW)
    }

    /// The root directory.
    pub(crate) fn root() -> Result<Self, Unreadable> {
        Self::open(Path::new("/"), OFlags::DIRECTORY)
    }

    /// What has this name in this directory; a link is not followed.
    pub(crate) fn step(&self, name: &OsStr) -> Result<Self, Unreadable> {
        Self::open_at(self.fd.as_fd(), Path::new(name), OFlags::NOFOLLOW)
    }

    /// The text of this link.
    pub(crate) fn link(&self) -> Result<PathBuf, Unreadable> {
        let text = rustix::fs::readlinkat(&self.fd, "", Vec::new())?;
        Ok(OsString::from_vec(text.into_bytes()).into())
    }

    fn open(path: &Path, flags: OFlags) -> Result<Self, Unreadable> {
        Self::open_at(CWD, path, flags)
    }

    fn open_at(dir: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<Self, Unreadable> {
        let fd = match rustix::fs::openat(dir, path, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty()) {
            Err(Errno::NOTDIR) => return Err(Unreadable::Gone),
            opened => opened?,
        };
        let file = identify_open(&fd)?;
        Ok(Self { fd, file })
    }

    /// The device of the file system that it is mounted from, as the kernel numbers it, if one of these tables of mounts has it: the
    /// number of a mount is nobody else's as long as the handle is open.
    pub(super) fn mounted_device(&self, tables: &[String]) -> Option<(u32, u32)> {
        let found = statx(&self.fd, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::MNT_ID).ok()?;
        if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            return None;
        }
        tables.iter().find_map(|table| {
            let mut text = Vec::new();
            File::open(table).ok()?.take(MAX_MOUNTS).read_to_end(&mut text).ok()?;
            mounts::device(&text, found.stx_mnt_id)
        })
    }

    /// Opens for reading what the handle is a handle of.
    fn readable(&self) -> Result<OwnedFd, Errno> {
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Who neither owns the file nor may act as its owner cannot leave its time of access alone.
        match rustix::fs::open(&path, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => rustix::fs::open(&path, flags, Mode::empty()),
            opened => opened,
        }
    }
}

/// Hashes files of this host within a budget.
pub(crate) struct FileDigester {
    budget: Budget,
    max_file: u64,
    fuzzy: bool,
}

impl FileDigester {
    pub(crate) fn new(bytes_per_second: u64, max_file: u64) -> Self {
        Self { budget: Budget::new(bytes_per_second), max_file, fuzzy: false }
    }

    /// The same, which makes fuzzy hashes as well, of the bytes that it reads anyway.
    pub(crate) fn fuzzy(self, fuzzy: bool) -> Self {
        Self { fuzzy, ..self }
    }

    fn hash(&self, file: &OwnedFd, version: Version, give_up: &mut dyn FnMut() -> bool) -> Result<Outcome, Errno> {
        let mut hasher = Sha256::new();
        let mut pieces = if self.fuzzy { Pieces::new(version.size) } else { None };
        let mut read = 0;
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            chunk.clear();
            let got = retry_on_intr(|| rustix::io::read(file, spare_capacity(&mut chunk)))?;
            read += got as u64;
            if got == 0 || read > version.size {
                break;
            }
            hasher.update(&chunk);
            if let Some(pieces) = &mut pieces {
                pieces.add(&chunk);
            }
            let resume = Instant::now() + self.budget.take(got, Instant::now());
            loop {
                if give_up() {
                    return Ok(Outcome::GivenUp);
                }
                let left = resume.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::sleep(left.min(NAP));
            }
        }
        let after = identify_open(file).map(|file| Version::from(&file));
        let same = read == version.size && after == Ok(version);
        if !same {
            return Ok(Outcome::Changed);
        }
        let fuzzy = pieces.and_then(Pieces::finish).map(Into::into);
        Ok(Outcome::Hash(Hashed { sha256: hasher.finalize().into(), fuzzy }))
    }
}

/// What a handle leads to, if it is the file that the kernel names so.
fn resolved(handle: &Handle, image: Version, tables: &[String]) -> Option<Version> {
    let found = Version::from(&handle.file);
    let is_it =
        found == image || found.is_same_but_for_device(&image) && handle.mounted_device(tables) == Some(image.device);
    is_it.then_some(found)
}

impl Digester for FileDigester {
    fn resolve(&self, image: Version, source: &Source) -> Option<Version> {
        let own = "/proc/self/mountinfo".to_owned();
        let of_process = || {
            let pid = source.pid?;
            resolved(&Handle::of_process(pid).ok()?, image, &[own.clone(), format!("/proc/{pid}/mountinfo")])
        };
        let at_path = || resolved(&Handle::of_path(source.path.as_deref()?).ok()?, image, std::slice::from_ref(&own));
        of_process().or_else(at_path)
    }

    fn digest(&self, version: Version, source: &Source, give_up: &mut dyn FnMut() -> bool) -> Outcome {
        let found = |handle: Result<Handle, Unreadable>| handle.ok().filter(|it| Version::from(&it.file) == version);
        let process = source.pid.and_then(|pid| found(Handle::of_process(pid)));
        let Some(handle) = process.or_else(|| source.path.as_deref().and_then(|path| found(Handle::of_path(path))))
        else {
            return Outcome::Gone;
        };
        if !handle.file.is_regular() {
            return Outcome::NotRegular;
        }
        if version.size > self.max_file {
            return Outcome::TooLarge;
        }
        match handle.readable().and_then(|file| self.hash(&file, version, give_up)) {
            Ok(outcome) => outcome,
            Err(Errno::ACCESS | Errno::PERM) => Outcome::Denied,
            Err(errno) => {
                tracing::debug!(%errno, ?source, "a file cannot be hashed");
                Outcome::Failed
            }
        }
    }

    fn is_fuzzy(&self) -> bool {
        self.fuzzy
    }
}
