//! What tells that a file is another than before, where all that is known is its size and when it was written.

use std::fs::Metadata;
use std::time::UNIX_EPOCH;

pub(super) fn stamp(metadata: &Metadata) -> [u8; 24] {
    let written = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let mut stamp = [0; 24];
    let bytes = written.map_or(0, |at| at.as_nanos()).to_le_bytes().into_iter().chain(metadata.len().to_le_bytes());
    stamp.iter_mut().zip(bytes).for_each(|(own, byte)| *own = byte);
    stamp
}
