//! The exclusive lock on a data directory, so that two programs never write one spool.
//!
//! The lock is the operating system's, on the file `lock`, and ends with the process that holds it; the file itself
//! stays, and holds the pid of the last holder. It is never deleted: a deleted lock file would let two holders in.

use crate::config::{create_private_dir, open_no_follow};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

const FILE: &str = "lock";
/// [`DataDirLock::is_held`] holds the lock for an instant; an `acquire` that meets it tries again.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// The exclusive lock on a data directory; it ends when dropped.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
    dir: PathBuf,
}

/// Why a data directory could not be locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process holds it.
    #[error("data directory {} is in use by {}; stop it, or choose another directory with --data-dir", .dir.display(), holder(*.pid))]
    Held {
        /// The data directory.
        dir: PathBuf,
        /// The holder, when its pid could be read.
        pid: Option<u32>,
    },
    /// The directory or its lock file cannot be created or written.
    #[error("cannot lock data directory: {}: {source}", .path.display())]
    Io {
        /// The directory or the lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl DataDirLock {
    /// Locks the directory, which is created (mode 0700) when it is missing.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that holds it.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        create_private_dir(dir).map_err(|error| LockError::Io { path: error.path, source: error.source })?;
        let path = dir.join(FILE);
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = open_no_follow(&mut options, &path).map_err(failed)?;
        let mut tries = 1;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < TRIES => thread::sleep(BETWEEN_TRIES),
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held { dir: dir.to_owned(), pid: pid_in(file) });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            tries += 1;
        }
        // The pid is for people; a full disk must not stop a collector here.
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "cannot write the pid into the lock file");
        }
        Ok(Self { _file: file, dir: dir.to_owned() })
    }

    /// Whether a live process holds the directory's lock.
    pub fn is_held(dir: &Path) -> bool {
        look_at(dir).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The pid that the directory's last holder wrote.
    pub fn last_holder(dir: &Path) -> Option<u32> {
        look_at(dir).ok().and_then(pid_in)
    }

    /// The directory that is locked.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn look_at(dir: &Path) -> io::Result<File> {
    open_no_follow(OpenOptions::new().read(true), &dir.join(FILE))
}

fn pid_in(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_holder_is_told_who_the_first_is() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("procmond");
        assert!(!DataDirLock::is_held(&dir));
        let first = DataDirLock::acquire(&dir).unwrap();
        assert!(DataDirLock::is_held(&dir));
        let refused = DataDirLock::acquire(&dir).unwrap_err();
        assert!(matches!(&refused, LockError::Held { pid: Some(pid), .. } if *pid == std::process::id()), "{refused}");
        assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        assert!(!DataDirLock::is_held(&dir));
        assert_eq!(DataDirLock::acquire(&dir).unwrap().dir(), dir);
    }

    #[test]
    fn asking_whether_it_is_held_does_not_keep_others_out() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("data");
        drop(DataDirLock::acquire(&dir).unwrap());
        let probe = File::open(dir.join(FILE)).unwrap();
        probe.try_lock_shared().unwrap();
        let releasing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            drop(probe);
        });
        DataDirLock::acquire(&dir).unwrap();
        releasing.join().unwrap();
    }

    #[test]
    fn neither_an_open_directory_nor_a_link_is_locked() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("data");
        create_private_dir(&dir).unwrap();
        let precious = temp.path().join("precious");
        std::fs::write(&precious, "all of it").unwrap();
        symlink(&precious, dir.join(FILE)).unwrap();
        let refused = DataDirLock::acquire(&dir).unwrap_err();
        assert!(refused.to_string().contains("lock: it is a symbolic link"), "{refused}");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "all of it");

        std::fs::remove_file(dir.join(FILE)).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        let refused = DataDirLock::acquire(&dir).unwrap_err();
        assert!(refused.to_string().contains("mode 0777"), "{refused}");
        assert!(!dir.join(FILE).exists());
    }
}
