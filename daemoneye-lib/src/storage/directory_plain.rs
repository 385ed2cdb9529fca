//! Directories cannot be written to the disk by name here: the system does it by itself.

use std::io;
use std::path::Path;

/// Nothing to do.
pub(super) fn sync_directory_of(_path: &Path) -> io::Result<()> {
    Ok(())
}
