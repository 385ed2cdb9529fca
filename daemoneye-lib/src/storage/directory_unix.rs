//! Making a new directory entry durable.

use std::fs::File;
use std::io;
use std::path::Path;

/// Writes the directory in which `path` stands to the disk.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => File::open(directory)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
