//! Reading the spool in the order of its items, for the publisher.
//!
//! The cursor moves through the segments once; [`Spool::rewind`] sets it back to what is not acknowledged. At most one
//! batch is in memory. A segment that proves unreadable is given up from there on: the agent sees the jump.

use super::segment::{FoundRecord, read_record};
use super::{Segment, Spool, path_of, record_bytes};
use daemoneye_lib::models::event::Epoch;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Limits of a batch; an item that is larger goes alone.
const MAX_ITEMS: usize = 512;
const MAX_BYTES: usize = 1024 * 1024;

/// Items with consecutive sequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) epoch: Epoch,
    pub(crate) first: u64,
    pub(crate) items: Vec<Vec<u8>>,
}

/// The place of the next unread record. The default stands before every segment.
#[derive(Default)]
pub(super) struct Cursor {
    segment: u64,
    sequence: u64,
    offset: u64,
    crc: u32,
    file: Option<File>,
}

impl Cursor {
    fn start_of(segment: &Segment) -> Self {
        Self {
            segment: segment.number,
            sequence: segment.first,
            offset: segment.header_bytes,
            crc: segment.header_crc,
            file: None,
        }
    }

    /// Reads on in the segment; no batch when all that was left of it is acknowledged.
    fn read(&mut self, path: &Path, segment: &Segment) -> io::Result<Option<Batch>> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(path)?),
        };
        file.seek(SeekFrom::Start(self.offset))?;
        // Only what is known to be written: what stands behind it may change.
        let mut reader = BufReader::with_capacity(64 * 1024, file.take(segment.bytes.saturating_sub(self.offset)));
        let mut batch = Batch { epoch: segment.epoch, first: self.sequence, items: Vec::new() };
        let mut bytes = 0;
        while self.sequence < segment.end() && batch.items.len() < MAX_ITEMS {
            let mut item = Vec::new();
            let crc = match read_record(&mut reader, self.crc, &mut item) {
                Ok(FoundRecord::Record(crc)) => crc,
                // What was read before the damage goes out; the next call begins with it.
                _ if !batch.items.is_empty() => break,
                Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "damaged since it was written")),
                Err(error) => return Err(error),
            };
            let wanted = self.sequence > segment.acknowledged;
            if wanted && !batch.items.is_empty() && bytes + item.len() > MAX_BYTES {
                break;
            }
            self.crc = crc;
            self.offset += record_bytes(item.len());
            self.sequence += 1;
            if wanted {
                bytes += item.len();
                batch.items.push(item);
            } else {
                batch.first = self.sequence;
            }
        }
        Ok((!batch.items.is_empty()).then_some(batch))
    }
}

impl Spool {
    /// The next items to send.
    pub(crate) fn next_batch(&mut self) -> Option<Batch> {
        loop {
            let at = self.segments.partition_point(|segment| segment.number < self.cursor.segment);
            let segment = self.segments.get(at)?;
            if segment.number != self.cursor.segment {
                self.cursor = Cursor::start_of(segment);
            }
            if self.cursor.sequence >= segment.end() {
                self.cursor = Cursor::start_of(self.segments.get(at + 1)?);
                continue;
            }
            let path = path_of(&self.dir, segment.number);
            match self.cursor.read(&path, segment) {
                Ok(Some(batch)) => return Some(batch),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "the rest of a spool segment cannot be read; the agent is told by a jump in the sequence");
                    self.give_up_rest_of(at);
                }
            }
        }
    }

    /// Sets the cursor back to the first item that is not acknowledged.
    pub(crate) fn rewind(&mut self) {
        self.cursor = Cursor::default();
    }

    fn give_up_rest_of(&mut self, at: usize) {
        let newest = at + 1 == self.segments.len();
        let Some(segment) = self.segments.get_mut(at) else { return };
        let unsent = segment.end() - self.cursor.sequence.max(segment.acknowledged + 1).min(segment.end());
        segment.records = self.cursor.sequence - segment.first;
        segment.bytes = self.cursor.offset;
        self.dropped += unsent;
        if newest {
            self.tail = None;
            self.retry();
        }
    }
}
