//! The files of a rules directory, and whether they changed.

use super::lists;
use super::stamp::stamp;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The largest rule file.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// The most rule files of a directory.
const MAX_FILES: usize = 10_000;
/// The most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 100_000;
/// Directories within directories.
const MAX_DEPTH: usize = 16;

/// What the files of a rules directory were like; when two are equal, nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(blake3::Hash);

/// Looks at the name, place, size and times of each file that loading would read; contents are not read.
///
/// # Errors
/// When the directory cannot be read.
pub fn fingerprint(directory: &Path) -> io::Result<Fingerprint> {
    let mut hasher = blake3::Hasher::new();
    let mut files = rule_files(directory)?;
    files.push(directory.join(lists::FILE));
    for file in files {
        hasher.update(file.as_os_str().as_encoded_bytes());
        // What cannot be looked at will be a problem of loading; here it only differs from what can.
        if let Ok(metadata) = fs::metadata(&file) {
            hasher.update(&stamp(&metadata));
        }
        hasher.update(&[0]);
    }
    Ok(Fingerprint(hasher.finalize()))
}

/// Every `*.toml` below a directory but the lists at its top, in order of their paths; links to directories are not
/// followed, and what begins with a dot is left out.
pub(super) fn rule_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let top = directory.join(lists::FILE);
    let mut files = BTreeSet::new();
    let mut directories = vec![(directory.to_owned(), 0)];
    let mut entries = 0;
    while let Some((directory, depth)) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if kind.is_dir() && depth < MAX_DEPTH && !hidden {
                directories.push((path, depth + 1));
            } else if !kind.is_dir()
                && !hidden
                && path.extension().is_some_and(|extension| extension == "toml")
                && path != top
            {
                files.insert(path);
            }
            entries += 1;
            if files.len() > MAX_FILES || entries > MAX_ENTRIES {
                return Err(io::Error::other(format!(
                    "more than {MAX_FILES} rule files or {MAX_ENTRIES} entries below {}",
                    directory.display()
                )));
            }
        }
    }
    Ok(files.into_iter().collect())
}

/// The text of a file that is neither too large nor something else than a file.
pub(super) fn read(file: &Path) -> io::Result<String> {
    // Before it is opened: opening a pipe would wait for somebody to write.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    fs::File::open(file)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}
