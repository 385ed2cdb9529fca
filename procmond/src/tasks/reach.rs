//! What of the file system a task may be told of: what the agent's user could find out without procmond.
//!
//! procmond may have more rights than the agent, which gives the tasks. A path is therefore walked from `/`, part by part,
//! links by their text, and nothing is looked up in a directory that the agent's user may not search; whatever is below
//! such a one, and whether anything is, gets the answer of what is not there. A hash, which small content can be guessed
//! from, is told of files that the agent's user may read or run. Every step is judged by what was opened, so that no name
//! that is changed meanwhile leads past a check.
//!
//! Of the agent's rights its uid is known, and its groups are not: what it does not own it may use where both the group
//! and all others may. Access control lists are not looked at. Where procmond has no more rights than the agent, the
//! kernel judges alone, and of what nobody may run and not everyone may read no hash is told all the same.

use crate::hashing::Handle;
use crate::reader::{Errno, FileId, Unreadable};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;
/// Parts of the path and of all links on the way: no path that the kernel takes has more of its own.
const MAX_STEPS: usize = 4_096;

const READ: u16 = 0o4;
const RUN: u16 = 0o1;
const SEARCH: u16 = 0o1;
/// Somebody may run it, or everyone may read it.
const RUN_BY_SOMEBODY_OR_READ_BY_ALL: u16 = 0o115;

/// Whose rights count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// One who has procmond's rights.
    Equal,
    /// One with this uid, if it is known, and less rights or others.
    Other(Option<u32>),
}

impl Asker {
    /// An agent that runs as this user.
    pub(super) fn of(uid: Option<u32>) -> Self {
        let own = rustix::process::geteuid();
        // Root has all rights anyway. What cannot be found out counts as a right that the agent does not have.
        let alike = || own.is_root() || rustix::thread::capabilities(None).is_ok_and(|held| held.effective.is_empty());
        if uid == Some(own.as_raw()) && alike() { Self::Equal } else { Self::Other(uid) }
    }

    /// Whether a hash of the file may be told.
    pub(super) fn may_have_hash(self, file: &FileId) -> bool {
        match self {
            Self::Equal => file.mode & RUN_BY_SOMEBODY_OR_READ_BY_ALL != 0,
            Self::Other(_) => self.may(READ, file) || self.may(RUN, file),
        }
    }

    fn may(self, right: u16, file: &FileId) -> bool {
        match self {
            Self::Equal => true,
            Self::Other(uid) if uid == Some(file.owner.euid) => file.mode & right << 6 != 0,
            Self::Other(_) => file.mode & right << 3 != 0 && file.mode & right != 0,
        }
    }
}

/// What is at an absolute path, and its path without links.
///
/// # Errors
/// [`Unreadable::Denied`] where the asker may not look any further.
pub(super) fn find(path: &Path, asker: Asker) -> Result<(Handle, PathBuf), Unreadable> {
    let mut to_go = Vec::new();
    push(path, &mut to_go);
    let (mut here, mut name) = (Handle::root()?, PathBuf::from("/"));
    let (mut links, mut steps) = (0, 0);
    while let Some(part) = to_go.pop() {
        steps += 1;
        if steps > MAX_STEPS {
            return Err(Unreadable::Failed(Errno::NAMETOOLONG));
        }
        if !asker.may(SEARCH, &here.file) {
            return Err(Unreadable::Denied);
        }
        let next = here.step(&part)?;
        if next.file.is_link() {
            links += 1;
            if links > MAX_LINKS {
                return Err(Unreadable::Failed(Errno::LOOP));
            }
            let text = next.link()?;
            if text.is_absolute() {
                (here, name) = (Handle::root()?, PathBuf::from("/"));
            }
            push(&text, &mut to_go);
        } else {
            // Of a path without links the part before `..` is the directory that it leads out of.
            if part == ".." {
                name.pop();
            } else {
                name.push(part);
            }
            here = next;
        }
    }
    Ok((here, name))
}

/// Puts the parts of a path before those that are to go.
fn push(path: &Path, to_go: &mut Vec<OsString>) {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    to_go.extend(parts.rev().map(|part| part.as_os_str().to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::Command;
    use testkit::Child;

    /// Nobody's uid on any usual system.
    const STRANGER: Asker = Asker::Other(Some(54_321));

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A directory that everyone may search, with a private one in it that holds a program.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        mode(dir.path(), 0o755);
        let private = dir.path().join("private");
        fs::create_dir(&private).unwrap();
        mode(&private, 0o700);
        let program = private.join("program");
        fs::copy("/bin/sleep", &program).unwrap();
        mode(&program, 0o755);
        (dir, program)
    }

    fn sees(asker: Asker, path: &Path) -> Result<PathBuf, Unreadable> {
        find(path, asker).map(|(_, name)| name)
    }

    #[test]
    fn what_lies_in_a_private_directory_is_as_hidden_as_what_is_not_there() {
        let (dir, program) = place();
        let (data, link) = (program.with_extension("data"), dir.path().join("link"));
        fs::write(&data, "x").unwrap();
        mode(&data, 0o644);
        symlink(&data, &link).unwrap();
        let (missing, dangling) = (program.with_extension("none"), dir.path().join("dangling"));
        symlink(&missing, &dangling).unwrap();
        let through = dir.path().join("private/../link");
        for path in [&program, &data, &link, &missing, &dangling, &through] {
            assert_eq!(sees(STRANGER, path), Err(Unreadable::Denied), "{path:?}");
            assert_eq!(sees(Asker::Other(None), path), Err(Unreadable::Denied), "{path:?}");
        }
        assert_eq!(sees(Asker::Equal, &link), Ok(data.clone()));
        assert_eq!(sees(Asker::Equal, &through), Ok(data.clone()));
        assert_eq!(sees(Asker::Equal, &missing), Err(Unreadable::Gone));
        let owner = Asker::Other(Some(rustix::process::geteuid().as_raw()));
        assert_eq!(sees(owner, &link), Ok(data), "its own");
        assert_eq!(sees(STRANGER, &dir.path().join("none")), Err(Unreadable::Gone), "that anyone can find out");
        assert!(sees(STRANGER, &dir.path().join("private")).is_ok(), "and this as well");
    }

    #[test]
    fn the_link_to_the_image_of_a_process_leads_no_further() {
        let (_dir, program) = place();
        let mut command = Command::new(&program);
        command.arg("60");
        let child = Child::spawn(command).unwrap();
        let link = PathBuf::from(format!("/proc/{}/exe", child.pid()));
        assert_eq!(sees(Asker::Equal, &link), Ok(program));
        assert_eq!(sees(STRANGER, &link), Err(Unreadable::Denied));
    }

    #[test]
    fn what_everyone_may_find_is_found_as_the_system_finds_it() {
        let (dir, _) = place();
        let (open, link) = (dir.path().join("open"), dir.path().join("link"));
        fs::write(&open, "x").unwrap();
        symlink("./private/../../../tmp/../bin/sh", &link).unwrap();
        for path in ["/usr/bin/env", "/bin/sh", "/", "/bin/../bin/sh", "/..", open.to_str().unwrap()].map(Path::new) {
            assert_eq!(sees(STRANGER, path), Ok(fs::canonicalize(path).unwrap()), "{path:?}");
        }
        assert_eq!(sees(Asker::Equal, &link), Ok(fs::canonicalize("/bin/sh").unwrap()));
        assert_eq!(sees(STRANGER, &open.join("below")).ok(), None);
        assert_eq!(sees(Asker::Equal, &open.join("below")), Err(Unreadable::Gone));
    }

    #[test]
    fn a_circle_of_links_and_a_path_without_end_come_to_an_end() {
        let (dir, _) = place();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        symlink(&a, &b).unwrap();
        symlink(&b, &a).unwrap();
        assert_eq!(sees(Asker::Equal, &a), Err(Unreadable::Failed(Errno::LOOP)));
        let long = PathBuf::from("/tmp/..".repeat(MAX_STEPS));
        assert_eq!(sees(Asker::Equal, &long), Err(Unreadable::Failed(Errno::NAMETOOLONG)));
    }

    #[test]
    fn a_hash_is_told_of_what_the_asker_may_read_or_run() {
        let (_dir, program) = place();
        let own = rustix::process::geteuid().as_raw();
        for (bits, equal, owner, stranger) in [
            (0o755, true, true, true),
            (0o644, true, true, true),
            (0o600, false, true, false),
            (0o700, true, true, false),
            (0o750, true, true, false),
            (0o751, true, true, true),
            (0o604, true, true, false),
            (0o000, false, false, false),
        ] {
            mode(&program, bits);
            let (handle, _) = find(&program, Asker::Equal).unwrap();
            let told = [Asker::Equal, Asker::Other(Some(own)), STRANGER].map(|asker| asker.may_have_hash(&handle.file));
            assert_eq!(told, [equal, owner, stranger], "{bits:o}");
        }
    }

    #[test]
    fn only_an_agent_of_the_same_user_has_the_same_rights() {
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(Asker::of(Some(own)), Asker::Equal);
        assert_eq!(Asker::of(Some(54_321)), STRANGER);
        assert_eq!(Asker::of(None), Asker::Other(None));
    }
}
