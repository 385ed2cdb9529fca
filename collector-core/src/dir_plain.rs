//! Directories where access follows the parent directory's rules.

use std::{fs, io, path::Path};

/// Creates the directory and what is missing above it.
pub(crate) fn create_private(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}
