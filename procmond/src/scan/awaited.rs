//! Processes whose hash was asked for and is not known yet.

use crate::hashing::{Answer, Hashes, Version};
use std::collections::HashMap;

/// By pid, what is awaited, and the last scan that met the process. One entry for each process at the most.
#[derive(Default)]
pub(super) struct Awaited {
    of: HashMap<u32, (Version, u64)>,
    scan: u64,
}

impl Awaited {
    pub(super) fn begin(&mut self) {
        self.scan += 1;
    }

    /// Forgets the processes that the scan, which has come to its end, did not meet.
    pub(super) fn end(&mut self) {
        let scan = self.scan;
        self.of.retain(|_, (_, met)| *met == scan);
        if self.of.is_empty() {
            self.of = HashMap::new();
        }
    }

    /// Whether what is awaited of this process has come.
    pub(super) fn has_come(&mut self, pid: u32, hashes: Option<&Hashes>) -> bool {
        let Some((version, met)) = self.of.get_mut(&pid) else { return false };
        *met = self.scan;
        hashes.is_some_and(|hashes| hashes.knows(*version))
    }

    /// Takes note of what was answered about this process.
    ///
    /// What is tried again is awaited no more: it is asked for when the process's turn comes.
    pub(super) fn note(&mut self, pid: u32, version: Version, answer: &Answer) {
        match answer {
            Answer::Waits => _ = self.of.insert(pid, (version, self.scan)),
            _ => _ = self.of.remove(&pid),
        }
    }
}
