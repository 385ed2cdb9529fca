//! The image that a process runs, and its hash.

use super::Teller;
use crate::differ::{Known, Table};
use crate::hashing::{Handle, Source, Version};
use crate::kernel::Exec;
use crate::provenance as why;
use crate::scan::image_hash;
use daemoneye_lib::proto::common::ProcessRecord;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// So many processes may wait for their hash; of those beyond it is told by the scan whose turn they are in.
const MAX_AWAITED: usize = 1024;
/// So many files are known under both of their numbers.
const MAX_IMAGES: usize = 4096;

/// A process that waits for the hash of its image.
pub(super) struct Awaited {
    start_ticks: u64,
    image: Version,
    /// It is known, and the process is looked at.
    has_come: bool,
}

impl Teller {
    /// The processes that are to be looked at since their hash has come. One that has no more to show by then, since it ends, is
    /// kept for its exit.
    pub(crate) fn hashed(&mut self, table: &Table) -> Vec<u32> {
        let mut come = Vec::new();
        let hashes = &self.hashes.hashes;
        self.awaited.retain(|pid, awaited| {
            let known = table.get(*pid).filter(|known| known.start_ticks == awaited.start_ticks);
            if known.is_none_or(|known| known.identity.has_hash()) {
                return false;
            }
            if !awaited.has_come && hashes.knows(awaited.image) {
                awaited.has_come = true;
                come.push(*pid);
            }
            true
        });
        come
    }

    /// The process waits for the hash of this image, or for none.
    pub(super) fn await_hash(&mut self, pid: u32, start_ticks: u64, image: Option<Version>) {
        if self.awaited.len() >= MAX_AWAITED {
            self.awaited.retain(|_, awaited| !awaited.has_come);
        }
        match image {
            Some(image) if self.awaited.len() < MAX_AWAITED => {
                self.awaited.insert(pid, Awaited { start_ticks, image, has_come: false });
            }
            _ => _ = self.awaited.remove(&pid),
        }
    }

    /// Puts the hash into the record of an end, if it was not told before and is known by now.
    pub(super) fn put_late_hash(&self, pid: u32, known: &Known, record: &mut ProcessRecord) {
        if let Some(awaited) = self.awaited.get(&pid).filter(|awaited| awaited.start_ticks == known.start_ticks)
            && !known.identity.has_hash()
        {
            self.hashes.put_late(awaited.image, record);
        }
    }

    /// Puts the hash of the image into the record, or why there is none; the version of the file where it comes later.
    pub(super) fn hash(&mut self, exec: &Exec<'_>, record: &mut ProcessRecord) -> Option<Version> {
        let Some(version) = exec.image.and_then(|image| self.image(image, exec)) else {
            image_hash::absent(why::HASH_OUT_OF_REACH, Some(&self.hashes.hashes), record);
            return None;
        };
        let source = || Source { pid: Some(exec.who.pid), path: Some(OsStr::from_bytes(&exec.path).into()) };
        self.hashes.put(version, &exec.path, source, record).then_some(version)
    }

    /// The image as stat(2) names it. The file is opened once for each version of it: through the process, else by its path.
    fn image(&mut self, image: Version, exec: &Exec<'_>) -> Option<Version> {
        if let Some(known) = self.images.get(&image) {
            return Some(*known);
        }
        let same = |handle: Handle| {
            let found = Version::from(&handle.file);
            found.is_same_but_for_device(&image).then_some(found)
        };
        let process = Handle::of_process(exec.who.pid).ok().and_then(same);
        let path = || Handle::of_path(Path::new(OsStr::from_bytes(&exec.path))).ok().and_then(same);
        let found = process.or_else(path)?;
        if self.images.len() >= MAX_IMAGES {
            self.images.clear();
        }
        self.images.insert(image, found);
        Some(found)
    }
}
