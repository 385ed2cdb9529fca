//! The image that a process runs, and its hash.

use super::Teller;
use crate::differ::{Known, Table};
use crate::hashing::{Source, Version};
use crate::kernel::Exec;
use crate::provenance as why;
use crate::scan::image_hash;
use daemoneye_lib::proto::common::ProcessRecord;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// So many processes may wait for their hash; of those beyond it is told by the scan whose turn they are in.
const MAX_AWAITED: usize = 1024;

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
            if !awaited.has_come && hashes.outcome_of_image(awaited.image).is_some() {
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

    /// Puts the hash of the image into the record, or why there is none; the version of the file where it comes later. The file
    /// itself is asked nothing here: a file system may let who asks wait.
    pub(super) fn hash(&self, exec: &Exec<'_>, record: &mut ProcessRecord) -> Option<Version> {
        let Some(image) = exec.image else {
            image_hash::absent(why::HASH_OUT_OF_REACH, Some(&self.hashes.hashes), record);
            return None;
        };
        // In another mount namespace the path is another file's.
        let mounts = exec.namespaces.iter().find_map(|(kind, inode)| (*kind == "mnt").then_some(*inode));
        let is_ours = mounts.is_some() && mounts == self.mounts;
        let path = || is_ours.then(|| OsStr::from_bytes(&exec.path).into());
        let source = || Source { pid: Some(exec.who.pid), path: path() };
        self.hashes.put(image, &exec.path, source, record).then_some(image)
    }
}
