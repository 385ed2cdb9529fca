//! The spool: what was emitted and not yet acknowledged, in segment files, bounded and crash-safe.
//!
//! [`Spool`] owns the directory's state; one task calls it, and its calls write to the page cache and seldom sync. The
//! bytes are specified in `docs/formats/spool.md`. Its rules:
//!
//! * An item's sequence number is assigned when it is appended and never again within the epoch. Where that cannot be
//!   proven after a restart, a new epoch begins.
//! * The newest segment is never deleted, so that its header tells the next sequence also when all is acknowledged.
//! * Over its bound the spool drops its oldest segment. Items that the disk refuses wait in memory, bounded, and are
//!   tried again; beyond that they are lost, but their sequence numbers are used up. Both are jumps in the sequence
//!   that the agent sees and makes gaps of.
//! * An append is not synced. What is lost with the power was not acknowledged, and the new epoch tells of it; what is
//!   lost with the process alone was not yet in the page cache.

mod disk;
mod error;
#[cfg(test)]
mod fuzz;
mod open;
mod read;
mod segment;
#[cfg(test)]
mod tests;
mod write;

pub use error::SpoolError;
pub(crate) use open::NewEpoch;

use daemoneye_lib::config::create_private_dir;
use daemoneye_lib::models::event::Epoch;
use disk::{Disk, RealDisk, SegmentFile};
use open::{Found, path_of};
use read::Cursor;
use segment::{RECORD_OVERHEAD, cut_boot_id, random_epoch};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const SEGMENT_BYTES: u64 = 1024 * 1024;
/// A bound below this could not hold what the spool needs to work.
const LEAST_BOUND: u64 = 64 * 1024;
/// What waits for the disk, at most; more than the sink's queue, so that a healthy spool takes any of its contents.
const MAX_WAITING: usize = 5 * 1024 * 1024;
/// What an item that waits costs besides its bytes.
const WAITING_OVERHEAD: usize = 64;
/// The file that the newest segment without a valid header is kept in.
const DAMAGED: &str = "damaged";

/// See the module.
pub(crate) struct Spool {
    dir: PathBuf,
    boot_id: Vec<u8>,
    disk: Box<dyn Disk>,
    max_bytes: u64,
    segment_bytes: u64,
    epoch: Epoch,
    /// The sequence of the next item, counting those that wait or are lost.
    next: u64,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The sum of the segments' files.
    bytes: u64,
    /// The newest segment, while it can go on; otherwise the next write begins another.
    tail: Option<Tail>,
    next_number: u64,
    /// Items that are not on the disk, in order; those that are lost came after them.
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    lost: u64,
    /// Whether the last write failed.
    blocked: bool,
    trouble: Option<String>,
    dropped: u64,
    cursor: Cursor,
}

struct Segment {
    number: u64,
    epoch: Epoch,
    first: u64,
    records: u64,
    header_bytes: u64,
    header_crc: u32,
    /// Header and readable records.
    bytes: u64,
    file_bytes: u64,
    /// Everything up to this sequence is acknowledged.
    acknowledged: u64,
}

struct Tail {
    file: Box<dyn SegmentFile>,
    crc: u32,
}

impl Segment {
    /// The sequence after its last record.
    fn end(&self) -> u64 {
        self.first + self.records
    }

    fn unacknowledged(&self) -> u64 {
        self.end().saturating_sub(self.first.max(self.acknowledged + 1))
    }
}

/// The bytes that a record of this payload takes.
fn record_bytes(payload: usize) -> u64 {
    (RECORD_OVERHEAD + payload) as u64
}

/// The largest item that a spool of this bound takes.
pub(crate) fn max_item(max_bytes: u64) -> usize {
    usize::try_from(max_bytes.max(LEAST_BOUND) / 4).unwrap_or(usize::MAX).min(crate::sink::MAX_ITEM)
}

impl Spool {
    /// Opens or creates the spool in `dir`, and says whether a new epoch began. A spool that is created begins with the `first`
    /// epoch, where that is given; all others are random.
    pub(crate) fn open(
        dir: &Path,
        max_bytes: u64,
        boot_id: &str,
        first: Option<Epoch>,
    ) -> Result<(Self, Option<NewEpoch>), SpoolError> {
        Self::open_on(Box::new(RealDisk), dir, max_bytes, boot_id, first)
    }

    fn open_on(
        disk: Box<dyn Disk>,
        dir: &Path,
        max_bytes: u64,
        boot_id: &str,
        first: Option<Epoch>,
    ) -> Result<(Self, Option<NewEpoch>), SpoolError> {
        let failed = |source| SpoolError::Io { path: dir.to_owned(), source };
        create_private_dir(dir).map_err(|error| SpoolError::Io { path: error.path, source: error.source })?;
        let max_bytes = max_bytes.max(LEAST_BOUND);
        let found = open::scan(dir)?;
        let boot_id = cut_boot_id(boot_id);
        let reason = open::judge(&found, &boot_id);
        let first = first.filter(|_| reason == Some(NewEpoch::Created));
        let mut spool = Self {
            dir: dir.to_owned(),
            boot_id,
            disk,
            max_bytes,
            segment_bytes: SEGMENT_BYTES.min(max_bytes / 8),
            epoch: first.map_or_else(random_epoch, Ok).map_err(failed)?,
            next: 1,
            segments: VecDeque::new(),
            bytes: 0,
            tail: None,
            next_number: found.last().map_or(1, |newest| newest.number + 1),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            lost: 0,
            blocked: false,
            trouble: None,
            dropped: 0,
            cursor: Cursor::default(),
        };
        if reason.is_none() {
            spool.go_on_from(&found)?;
        }
        let damaged = spool.adopt(found);
        if let Err(error) = spool.write() {
            // A full disk can become free again, and shows in the collector's health until then; nothing else can.
            let SpoolError::Io { source, .. } = &error else { return Err(error) };
            if !matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                return Err(error);
            }
        } else {
            // Now that a newer segment proves the new epoch, the evidence may be set aside.
            for path in damaged {
                fs::rename(&path, dir.join(DAMAGED)).map_err(|source| SpoolError::Io { path, source })?;
            }
            spool.trim();
        }
        Ok((spool, reason))
    }

    /// Continues the newest segment and its epoch.
    fn go_on_from(&mut self, found: &[Found]) -> Result<(), SpoolError> {
        if let Some(Found { path, intact: Some(intact), .. }) = found.last() {
            let file = self.disk.open(path).map_err(|source| SpoolError::Io { path: path.clone(), source })?;
            self.tail = Some(Tail { file, crc: intact.crc });
            self.epoch = intact.header.epoch;
            self.next = intact.header.first_sequence + intact.records;
        }
        Ok(())
    }

    /// Takes over what can be read; returns the files that cannot.
    fn adopt(&mut self, found: Vec<Found>) -> Vec<PathBuf> {
        let mut damaged = Vec::new();
        for Found { number, path, file_bytes, intact } in found {
            let Some(intact) = intact else {
                damaged.push(path);
                continue;
            };
            self.bytes += file_bytes;
            self.segments.push_back(Segment {
                number,
                epoch: intact.header.epoch,
                first: intact.header.first_sequence,
                records: intact.records,
                header_bytes: intact.header_bytes,
                header_crc: intact.header_crc,
                bytes: intact.bytes,
                file_bytes,
                acknowledged: intact.header.first_sequence - 1,
            });
        }
        damaged
    }

    /// Assigns the next sequences to the items and writes them, unless the disk refuses: then they wait for
    /// [`Self::retry`], or are lost when too many wait.
    pub(crate) fn append(&mut self, items: Vec<Vec<u8>>) {
        for item in items {
            self.next += 1;
            let cost = item.len() + WAITING_OVERHEAD;
            let fits = self.waiting_bytes + cost <= MAX_WAITING && item.len() <= max_item(self.max_bytes);
            if fits && self.lost == 0 {
                self.waiting_bytes += cost;
                self.waiting.push_back(item);
            } else {
                self.lost += 1;
                self.dropped += 1;
            }
        }
        if !self.blocked {
            // What failed is kept and told by `trouble`.
            let _ = self.write();
        }
    }

    /// Tries again to write what waits.
    pub(crate) fn retry(&mut self) {
        let _ = self.write();
    }

    /// Whether a write failed and [`Self::retry`] is due after a while.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The agent has committed everything of the epoch up to this sequence: forgets the segments that it covers.
    pub(crate) fn acknowledge(&mut self, epoch: Epoch, through: u64) {
        for segment in self.segments.iter_mut().filter(|segment| segment.epoch == epoch) {
            segment.acknowledged = segment.acknowledged.max(through.min(segment.end() - 1));
        }
        self.trim();
    }

    /// Begins a new epoch behind what is on the disk; what waits is counted within the new one.
    pub(crate) fn begin_epoch(&mut self) -> Result<(), SpoolError> {
        self.epoch = random_epoch().map_err(|source| SpoolError::Io { path: self.dir.clone(), source })?;
        self.next = 1 + self.waiting.len() as u64 + self.lost;
        self.tail = None;
        let _ = self.write();
        Ok(())
    }

    /// Whether items of the epoch are not here any more, or will not be sent again: mostly, because they were acknowledged.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.segments.iter().find(|segment| segment.epoch == self.epoch).is_some_and(|oldest| oldest.acknowledged > 0)
    }

    /// The epoch that items are appended in.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The sequence that the next item gets.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Bytes on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The bound on [`Self::bytes`].
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Whether more than half of the bound is used, which is more than what is acknowledged already can take.
    pub(crate) fn is_crowded(&self) -> bool {
        self.bytes > self.max_bytes / 2
    }

    /// Items that are not acknowledged.
    pub(crate) fn items(&self) -> u64 {
        self.segments.iter().map(Segment::unacknowledged).sum::<u64>() + self.waiting.len() as u64
    }

    /// Items that were given up since the spool was opened: dropped for the bound, refused by the disk, unreadable.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether items wait in memory for the disk.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty() || self.lost > 0
    }

    /// What the disk refuses at present.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}
