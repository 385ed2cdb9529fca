//! What the system says of the file system below a path, also where the path itself is not there yet.

use crate::os;
use std::path::Path;

/// What this user can still write on the file system of a path; none where the system does not tell.
pub fn free_bytes(path: &Path) -> Option<u64> {
    os::free_bytes(nearest(path)?)
}

/// Whether what is written at a path is gone after a restart of the host: a file system in memory.
pub fn is_in_memory(path: &Path) -> bool {
    nearest(path).is_some_and(os::is_in_memory)
}

/// The path, or the nearest directory above it that is there.
fn nearest(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_told_for_what_is_not_there_yet() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_bytes(dir.path()).is_some());
        assert!(free_bytes(&dir.path().join("a/b")).is_some());
    }

    #[test]
    fn a_file_system_in_memory_is_known() {
        assert!(!is_in_memory(Path::new("/proc/self")));
        let shared = Path::new("/dev/shm");
        if testkit::require("/dev/shm", shared.is_dir(), "a file system in memory") {
            assert!(is_in_memory(shared) && is_in_memory(&shared.join("x/y")));
        }
    }
}
