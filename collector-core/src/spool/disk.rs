//! Where the spool's writes meet the file system, so that a test can stand in for a full disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Creates and opens segment files for writing.
pub(super) trait Disk: Send {
    /// Creates a segment that holds `header`, so that it is there wholly or not at all, also after a loss of power.
    fn create(&self, path: &Path, header: &[u8]) -> io::Result<Box<dyn SegmentFile>>;
    /// Opens a segment to go on with it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
}

/// A segment that is being written.
pub(super) trait SegmentFile: Send {
    /// Writes all of `bytes` at the offset, in one system call where the system is willing.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&mut self, length: u64) -> io::Result<()>;
}

/// The file system.
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path, header: &[u8]) -> io::Result<Box<dyn SegmentFile>> {
        let temporary = path.with_extension("tmp");
        let created = (|| {
            let mut file = File::create(&temporary)?;
            file.write_all(header)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            Ok(file)
        })();
        match created {
            Ok(file) => {
                sync_directory(path);
                Ok(Box::new(file))
            }
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }
}

impl SegmentFile for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }
}

/// Makes the new name durable. Not every system can open a directory; where it fails, a lost name means a lost
/// segment of a boot that is over, which a new epoch covers.
fn sync_directory(path: &Path) {
    if let Some(directory) = path.parent().and_then(|dir| File::open(dir).ok()) {
        let _ = directory.sync_all();
    }
}
