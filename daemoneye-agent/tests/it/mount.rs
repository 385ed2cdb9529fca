//! A file system of a test's own, that can be filled or made read-only.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, mounted for as long as this lives.
///
/// It must be dropped before the site that it is in.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts it on a new directory; only root can.
    pub(crate) fn on(at: &Path, mebibytes: u32) -> Self {
        fs::create_dir_all(at).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0700"), "daemoneye-test"], at);
        Self(at.to_owned())
    }

    /// Makes it read-only; nothing may be open for writing on it.
    pub(crate) fn make_read_only(&self) {
        run("mount", &["-o", "remount,ro"], &self.0);
    }

    /// Fills it to the last page with a file, and returns where that is.
    pub(crate) fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // What still has files open on it keeps them until it ends.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn run(program: &str, arguments: &[&str], at: &Path) {
    let status = Command::new(program).args(arguments).arg(at).status().unwrap();
    assert!(status.success(), "{program} {arguments:?} {}: {status}", at.display());
}
