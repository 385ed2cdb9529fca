//! What tells that a file is another than before, where files have inodes.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

pub(super) fn stamp(metadata: &Metadata) -> [u8; 56] {
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    let numbers = [metadata.dev(), metadata.ino(), metadata.len()];
    let mut stamp = [0; 56];
    let bytes = times.into_iter().flat_map(i64::to_le_bytes).chain(numbers.into_iter().flat_map(u64::to_le_bytes));
    stamp.iter_mut().zip(bytes).for_each(|(own, byte)| *own = byte);
    stamp
}
