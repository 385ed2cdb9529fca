//! The program that a process runs: its path, and whether the file there still is the one that runs.
//!
//! The kernel marks the link to a program whose name was removed with ` (deleted)`, which may as well be the end of a
//! name; and it prints the path as seen from our root directory if it can, so that of a program in a chroot has to be
//! looked for in both.

use crate::reader::{FileId, ProcFs, Unreadable};

const DELETED: &[u8] = b" (deleted)";

/// The file behind a running program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// A file is at the path.
    pub(super) exists: bool,
    /// It is not the one that runs.
    pub(super) mismatch: bool,
}

/// The program's path from the text of its link, and the state of the file.
pub(super) fn examine<'a, P: ProcFs>(
    proc: &P,
    process: &P::Process,
    link: &'a [u8],
) -> (&'a [u8], Result<State, Unreadable>) {
    let image = proc.image(process);
    let path = match (link.strip_suffix(DELETED), image) {
        (Some(path), Ok(image)) if image.links == 0 || !is_at(proc, process, link, &image) => path,
        _ => link,
    };
    (path, image.and_then(|image| state(proc, process, path, &image)))
}

fn is_at<P: ProcFs>(proc: &P, process: &P::Process, path: &[u8], image: &FileId) -> bool {
    let is_image = |file: FileId| file.is_same(image);
    find(proc, process, path).is_ok_and(is_image) || proc.file(path).is_ok_and(is_image)
}

fn state<P: ProcFs>(proc: &P, process: &P::Process, path: &[u8], image: &FileId) -> Result<State, Unreadable> {
    if is_at(proc, process, path, image) {
        return Ok(State { exists: true, mismatch: false });
    }
    match find(proc, process, path) {
        Ok(_) => Ok(State { exists: true, mismatch: true }),
        Err(Unreadable::Gone) => Ok(State { exists: false, mismatch: true }),
        Err(other) => Err(other),
    }
}

fn find<P: ProcFs>(proc: &P, process: &P::Process, path: &[u8]) -> Result<FileId, Unreadable> {
    if path.starts_with(b"/") { proc.file_in_root(process, path) } else { Err(Unreadable::Gone) }
}
