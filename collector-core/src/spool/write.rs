//! Putting items on the disk, and keeping the spool within its bound.
//!
//! A write that fails changes nothing that [`Spool`] believes: what waits goes on waiting, and the next try writes it to the
//! same place.

use super::open::path_of;
use super::segment::{Header, MAX_HEADER, write_record};
use super::{Segment, Spool, SpoolError, Tail, WAITING_OVERHEAD, record_bytes};
use std::fs;
use std::io;

impl Spool {
    /// Writes what waits, uses up the sequences of what is lost, and sees to it that a newest segment is there.
    pub(super) fn write(&mut self) -> Result<(), SpoolError> {
        let written = self.try_write();
        self.blocked = written.is_err();
        match &written {
            Ok(()) => self.trouble = None,
            Err(error) => {
                self.mark_unwritten();
                self.note(error);
            }
        }
        written
    }

    fn try_write(&mut self) -> Result<(), SpoolError> {
        while let Some(front) = self.waiting.front() {
            let needed = record_bytes(front.len());
            self.make_room(needed)?;
            let full = self
                .segments
                .back()
                .is_none_or(|newest| newest.records > 0 && newest.bytes + needed > self.segment_bytes);
            if full || self.tail.is_none() {
                self.roll(self.first_waiting())?;
            }
            self.write_run()?;
        }
        // A crash before this roll assigns the lost items' sequences again. They were never sent, and no flush has
        // returned since.
        if self.lost > 0 || self.tail.is_none() {
            self.roll(self.next)?;
            self.lost = 0;
        }
        Ok(())
    }

    /// Writes the items that the newest segment has room for, at least one, in one write.
    fn write_run(&mut self) -> Result<(), SpoolError> {
        let (Some(tail), Some(newest)) = (&mut self.tail, self.segments.back_mut()) else { return Ok(()) };
        let mut bytes = Vec::new();
        let (mut crc, mut items, mut cost) = (tail.crc, 0, 0);
        for item in &self.waiting {
            let after = bytes.len() as u64 + record_bytes(item.len());
            let fits =
                newest.bytes + after <= self.segment_bytes && self.bytes + after + MAX_HEADER as u64 <= self.max_bytes;
            if items > 0 && !fits {
                break;
            }
            crc = write_record(&mut bytes, crc, item);
            items += 1;
            cost += item.len() + WAITING_OVERHEAD;
        }
        tail.file
            .write_at(newest.bytes, &bytes)
            .map_err(|source| SpoolError::Io { path: path_of(&self.dir, newest.number), source })?;
        tail.crc = crc;
        newest.records += items as u64;
        newest.bytes += bytes.len() as u64;
        newest.file_bytes += bytes.len() as u64;
        self.bytes += bytes.len() as u64;
        self.waiting.drain(..items);
        self.waiting_bytes -= cost;
        Ok(())
    }

    fn first_waiting(&self) -> u64 {
        self.next - self.lost - self.waiting.len() as u64
    }

    /// Begins a segment whose first record will have this sequence.
    fn roll(&mut self, first: u64) -> Result<(), SpoolError> {
        let path = path_of(&self.dir, self.next_number);
        let header = Header { epoch: self.epoch, first_sequence: first, boot_id: self.boot_id.clone() };
        let (bytes, crc) = header.encode();
        let file = self.disk.create(&path, &bytes).map_err(|source| SpoolError::Io { path, source })?;
        // The mark of an earlier refusal has done its work; left there it would only look like damage.
        if let (Some(mut tail), Some(newest)) = (self.tail.replace(Tail { file, crc }), self.segments.back()) {
            let _ = tail.file.set_len(newest.bytes);
        }
        let length = bytes.len() as u64;
        self.segments.push_back(Segment {
            number: self.next_number,
            epoch: self.epoch,
            first,
            records: 0,
            header_bytes: length,
            header_crc: crc,
            bytes: length,
            file_bytes: length,
            acknowledged: first - 1,
        });
        self.next_number += 1;
        self.bytes += length;
        self.trim();
        Ok(())
    }

    /// Drops the oldest segments until a record of this size, and a header, fit into the bound.
    fn make_room(&mut self, needed: u64) -> Result<(), SpoolError> {
        while self.bytes + needed + MAX_HEADER as u64 > self.max_bytes {
            let Some(oldest) = self.segments.front() else { break };
            let (records, lost) = (oldest.records, oldest.unacknowledged());
            if self.segments.len() > 1 {
                self.remove_oldest()?;
                self.dropped += lost;
            } else if records > 0 {
                // The newest segment may go when another has taken its place.
                self.roll(self.first_waiting())?;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Removes the oldest segments that hold nothing more to send, but never the newest.
    pub(super) fn trim(&mut self) {
        while self.segments.len() > 1 && self.segments.front().is_some_and(|oldest| oldest.unacknowledged() == 0) {
            if let Err(error) = self.remove_oldest() {
                self.note(&error);
                break;
            }
        }
    }

    fn remove_oldest(&mut self) -> Result<(), SpoolError> {
        let Some(oldest) = self.segments.front() else { return Ok(()) };
        let path = path_of(&self.dir, oldest.number);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(SpoolError::Io { path, source }),
            _ => {}
        }
        self.bytes -= oldest.file_bytes;
        self.segments.pop_front();
        Ok(())
    }

    /// Leaves a byte behind the last record, which needs no room on the disk: a crash before the items that wait are
    /// written then finds a torn tail, and begins a new epoch.
    fn mark_unwritten(&mut self) {
        if let (Some(tail), Some(newest)) = (&mut self.tail, self.segments.back()) {
            let _ = tail.file.set_len(newest.bytes + 1);
        }
    }

    /// Remembers and logs what is refused, once for each new reason.
    fn note(&mut self, error: &SpoolError) {
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!("{text}");
            self.trouble = Some(text);
        }
    }
}
