//! Directories on disk: made when they are missing, judged before they are used.
//!
//! Whoever can write to a directory chooses what its names stand for, and so which files a program there reads and
//! overwrites. One that belongs to somebody else, that others can write to, or that is a symbolic link is refused; a link
//! in the place of a file is not followed.

use crate::os;
use std::fs::{File, OpenOptions};
use std::io;
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
        Self::hint_for(&self.path, &self.source)
    }

    /// What the operator can do about such an error with this directory, or a file in one.
    pub fn hint_for(path: &Path, error: &io::Error) -> String {
        let path = path.display();
        if let Some(distrust) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            let remedy = match distrust {
                Distrust::Link => return format!("move the link {path} away, or name what it points to in its place"),
                Distrust::Owner { own, .. } => format!("chown {own} {path}"),
                Distrust::Writable(_) => format!("chmod go-w {path}"),
            };
            return format!(
                "if you trust what is in it: {remedy}; otherwise choose another with --data-dir or --runtime-dir"
            );
        }
        match error.kind() {
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

/// Why what stands at a path is not used; the `source` of a [`DirectoryError`], or of whatever carries an [`io::Error`].
#[derive(Debug, thiserror::Error)]
enum Distrust {
    #[error("it is a symbolic link, which is not followed")]
    Link,
    #[error("it belongs to uid {owner}, and this program runs as uid {own}")]
    Owner { owner: u32, own: u32 },
    #[error("others than its owner can write to it (mode {0:04o})")]
    Writable(u32),
}

impl From<Distrust> for io::Error {
    fn from(distrust: Distrust) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, distrust)
    }
}

/// Makes a directory, and what is missing above it, for this user alone (mode 0700). One that exists is left as it is, when
/// it belongs to this user or to root, and nobody else can write to it.
///
/// # Errors
/// When it cannot be made, something else has its name, or somebody else could choose what is in it.
pub fn create_private_dir(path: &Path) -> Result<(), DirectoryError> {
    let path = without_trailing_slash(path);
    let is_missing = |path: &Path| {
        let found = path.symlink_metadata();
        !path.as_os_str().is_empty() && found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let missing: Vec<&Path> = path.ancestors().take_while(|path| is_missing(path)).collect();
    for directory in missing.into_iter().rev() {
        match os::make_private_dir(directory) {
            // Somebody was faster: another of our programs, or somebody who is not to be trusted.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_private(directory)?,
            made => made.map_err(|source| DirectoryError { path: directory.to_owned(), source })?,
        }
    }
    check_private(&path)
}

/// The same path; `/` at its end would lead through a symbolic link.
fn without_trailing_slash(path: &Path) -> PathBuf {
    path.components().collect()
}

fn check_private(path: &Path) -> Result<(), DirectoryError> {
    let judge = || {
        let metadata = path.symlink_metadata()?;
        if metadata.is_symlink() {
            return Err(Distrust::Link.into());
        } else if !metadata.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let own = os::euid();
        match os::owner_and_mode(&metadata) {
            Some((owner, _)) if owner != own && owner != 0 => Err(Distrust::Owner { owner, own }.into()),
            Some((_, mode)) if mode & 0o022 != 0 => Err(Distrust::Writable(mode & 0o7777).into()),
            _ => Ok(()),
        }
    };
    judge().map_err(|source| DirectoryError { path: path.to_owned(), source })
}

/// Opens a file as these options say, unless its name stands for a symbolic link.
///
/// # Errors
/// Those of opening; a symbolic link is one.
pub fn open_no_follow(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    os::open_no_follow(options, path)?.ok_or_else(|| Distrust::Link.into())
}

/// What these options create is for this user alone: mode 0600, or what the directory hands down on Windows.
pub fn for_owner_alone(options: &mut OpenOptions) -> &mut OpenOptions {
    os::for_owner_alone(options)
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
    for (index, directory) in path.ancestors().enumerate() {
        match directory.metadata() {
            Ok(metadata) if !metadata.is_dir() => return Err(failed(io::ErrorKind::NotADirectory.into())),
            Ok(_) => {
                let made = index > 0;
                os::access(directory, to_write || made).map_err(failed)?;
                return Ok(if made { Usable::CanBeCreated } else { Usable::Exists });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(io::ErrorKind::NotFound.into()))
}

/// Judges, without touching anything, whether [`create_private_dir`] would accept a directory or could make it.
///
/// # Errors
/// As [`check_directory`], or when somebody else could choose what is in it.
pub fn check_private_dir(path: &Path) -> Result<Usable, DirectoryError> {
    let path = without_trailing_slash(path);
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => check_private(&path)?,
    }
    check_directory(&path, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown, symlink};
    use tempfile::TempDir;

    fn refused(path: &Path, why: &str, hint: &str) {
        for error in [create_private_dir(path).unwrap_err(), check_private_dir(path).unwrap_err()] {
            assert!(error.source.to_string().contains(why), "{}", error.source);
            assert!(error.hint().contains(hint), "{}", error.hint());
        }
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("data");
        create_private_dir(&path).unwrap();
        for mode in [0o777, 0o1777, 0o770, 0o702] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            refused(&path, &format!("mode {mode:04o}"), &format!("chmod go-w {}", path.display()));
        }
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(check_private_dir(&path).unwrap(), Usable::Exists);
        create_private_dir(&path).unwrap();
    }

    #[test]
    fn what_is_above_a_new_directory_is_not_judged() {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        let path = dir.path().join("new/data");
        assert_eq!(check_private_dir(&path).unwrap(), Usable::CanBeCreated);
        create_private_dir(&path).unwrap();
        assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        if !testkit::require("root", testkit::is_root(), "gives a directory away") {
            return;
        }
        let dir = TempDir::new().unwrap();
        chown(dir.path(), Some(65_534), None).unwrap();
        refused(dir.path(), "belongs to uid 65534", &format!("chown 0 {}", dir.path().display()));
    }

    #[test]
    fn a_link_is_no_directory_whatever_it_points_to() {
        let dir = TempDir::new().unwrap();
        create_private_dir(&dir.path().join("target")).unwrap();
        let link = dir.path().join("link");
        symlink("target", &link).unwrap();
        refused(&link, "symbolic link", "move the link");
        refused(&link.join(""), "symbolic link", "move the link");
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        refused(&dir.path().join("dangling"), "symbolic link", "move the link");
    }

    #[test]
    fn a_file_is_not_opened_through_a_link() {
        let dir = TempDir::new().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        open_no_follow(OpenOptions::new().write(true).create(true).truncate(true), &file).unwrap();
        symlink("file", &link).unwrap();
        let error = open_no_follow(OpenOptions::new().read(true), &link).unwrap_err();
        assert_eq!(error.to_string(), "it is a symbolic link, which is not followed");
        assert!(DirectoryError::hint_for(&link, &error).contains("move the link"));
    }
}
