//! The program that a process runs: its path, and whether the file there still is the one that runs.
//!
//! The kernel marks the link to a program whose name was removed with ` (deleted)`, which may as well be the end of a
//! name; and it prints the path as seen from our root directory if it can, so that of a program in a chroot has to be
//! looked for in both.

use crate::procfs::link::DELETED;
use crate::reader::{FileId, ProcFs, Unreadable};
use std::collections::HashMap;

/// So many paths are remembered; when there are more, all are forgotten and those still needed are looked at again.
const MAX_REMEMBERED: usize = 256;

/// The file behind a running program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// A file is at the path.
    pub(super) exists: bool,
    /// It is not the one that runs.
    pub(super) mismatch: bool,
}

/// The files at the paths in our root directory where programs were looked for in this scan: many processes share a few.
#[derive(Default)]
pub(super) struct Files(HashMap<Vec<u8>, Result<FileId, Unreadable>>);

impl Files {
    /// Begins a new scan.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// The program's path from the text of its link, the state of the file, and the image itself.
    pub(super) fn examine<'a, P: ProcFs>(
        &mut self,
        proc: &P,
        process: &P::Process,
        link: &'a [u8],
    ) -> (&'a [u8], Result<State, Unreadable>, Result<FileId, Unreadable>) {
        let image = proc.image(process);
        let path = match (link.strip_suffix(DELETED), image) {
            (Some(path), Ok(image)) if image.links == 0 || !self.is_at(proc, process, link, &image) => path,
            _ => link,
        };
        (path, image.and_then(|image| self.state(proc, process, path, &image)), image)
    }

    fn state<P: ProcFs>(
        &mut self,
        proc: &P,
        process: &P::Process,
        path: &[u8],
        image: &FileId,
    ) -> Result<State, Unreadable> {
        if self.is_at(proc, process, path, image) {
            return Ok(State { exists: true, mismatch: false });
        }
        match find(proc, process, path) {
            Ok(_) => Ok(State { exists: true, mismatch: true }),
            Err(Unreadable::Gone) => Ok(State { exists: false, mismatch: true }),
            Err(other) => Err(other),
        }
    }

    /// Looks in our root directory first, which costs nothing where another process of this scan has the same path.
    fn is_at<P: ProcFs>(&mut self, proc: &P, process: &P::Process, path: &[u8], image: &FileId) -> bool {
        let is_image = |file: FileId| file.is_same(image);
        self.ours(proc, path).is_ok_and(is_image) || find(proc, process, path).is_ok_and(is_image)
    }

    fn ours<P: ProcFs>(&mut self, proc: &P, path: &[u8]) -> Result<FileId, Unreadable> {
        if let Some(known) = self.0.get(path) {
            return *known;
        }
        if self.0.len() >= MAX_REMEMBERED {
            self.0.clear();
        }
        let found = proc.file(path);
        self.0.insert(path.to_vec(), found);
        found
    }
}

fn find<P: ProcFs>(proc: &P, process: &P::Process, path: &[u8]) -> Result<FileId, Unreadable> {
    if path.starts_with(b"/") { proc.file_in_root(process, path) } else { Err(Unreadable::Gone) }
}
