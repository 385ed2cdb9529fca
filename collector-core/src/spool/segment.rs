//! The bytes of a segment file, as `docs/formats/spool.md` lays them down; nothing here opens a file.
//!
//! All that is read is hostile: a length is checked before anything is allocated for it. Checksums form a chain that
//! begins with the header's, so that a record is valid only in its segment and only after the records before it.

use crate::sink::MAX_ITEM;
use daemoneye_lib::models::event::Epoch;
use std::io::{self, Read};

const MAGIC: [u8; 8] = *b"DEYESPL\n";
/// The version that this code writes and reads.
pub(super) const VERSION: u16 = 1;
/// Magic, version, header length.
const FIXED: usize = 12;
/// Everything but the boot id.
const LEAST_HEADER: usize = FIXED + 16 + 8 + 4;
const MAX_BOOT_ID: usize = 128;
/// The size of the largest header.
pub(super) const MAX_HEADER: usize = LEAST_HEADER + MAX_BOOT_ID;
/// Length and checksum before a record's payload.
pub(super) const RECORD_OVERHEAD: usize = 8;
/// No spool lives long enough to pass this; what claims to is damaged.
const MAX_SEQUENCE: u64 = u64::MAX / 2;

/// An epoch that no spool ever had.
pub(crate) fn random_epoch() -> io::Result<Epoch> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(Epoch(bytes))
}

/// What a segment says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) epoch: Epoch,
    pub(super) first_sequence: u64,
    pub(super) boot_id: Vec<u8>,
}

/// A boot id as headers hold it.
pub(super) fn cut_boot_id(boot_id: &str) -> Vec<u8> {
    let bytes = boot_id.trim().as_bytes();
    bytes.get(..MAX_BOOT_ID).unwrap_or(bytes).to_vec()
}

impl Header {
    /// The header's bytes, and the checksum that begins the records' chain.
    pub(super) fn encode(&self) -> (Vec<u8>, u32) {
        let length = LEAST_HEADER + self.boot_id.len();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        // At most MAX_HEADER, which fits.
        bytes.extend_from_slice(&(length as u16).to_le_bytes());
        bytes.extend_from_slice(&self.epoch.0);
        bytes.extend_from_slice(&self.first_sequence.to_le_bytes());
        bytes.extend_from_slice(&self.boot_id);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }
}

/// What stands where a header should.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FoundHeader {
    /// A header, its length, the checksum that begins the chain.
    Header(Header, u64, u32),
    /// An intact header of another format version.
    Version(u16),
    Damaged,
}

/// What stands where a record should.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FoundRecord {
    /// A record, whose payload is in the buffer, and its checksum, which goes on with the chain.
    Record(u32),
    /// The file ends here, between two records.
    End,
    /// Bytes that are no record: a write that was cut, or damage.
    Torn,
}

pub(super) fn read_header(reader: &mut impl Read) -> io::Result<FoundHeader> {
    let mut bytes = vec![0; FIXED];
    if fill(reader, &mut bytes)? < FIXED || !bytes.starts_with(&MAGIC) {
        return Ok(FoundHeader::Damaged);
    }
    let length = usize::from(u16_at(&bytes, 10));
    if length < FIXED + 4 {
        return Ok(FoundHeader::Damaged);
    }
    bytes.resize(length, 0);
    if fill(reader, &mut bytes[FIXED..])? < length - FIXED {
        return Ok(FoundHeader::Damaged);
    }
    let body = length - 4;
    let crc = crc32c::crc32c(&bytes[..body]);
    if crc != u32_at(&bytes, body) {
        return Ok(FoundHeader::Damaged);
    }
    let version = u16_at(&bytes, 8);
    if version != VERSION {
        return Ok(FoundHeader::Version(version));
    }
    let epoch = bytes.get(12..28).and_then(|bytes| Epoch::try_from(bytes).ok());
    let first = bytes.get(28..36).and_then(|slice| slice.try_into().ok()).map(u64::from_le_bytes);
    let boot_id = bytes.get(36..body);
    Ok(match (epoch, first, boot_id) {
        (Some(epoch), Some(first_sequence @ 1..=MAX_SEQUENCE), Some(boot_id)) => {
            let header = Header { epoch, first_sequence, boot_id: boot_id.to_vec() };
            FoundHeader::Header(header, length as u64, crc)
        }
        _ => FoundHeader::Damaged,
    })
}

/// Appends a record to `out`; `chain` is the checksum before it. Returns the checksum after it.
pub(super) fn write_record(out: &mut Vec<u8>, chain: u32, payload: &[u8]) -> u32 {
    // No item is longer than MAX_ITEM, which fits.
    let length = (payload.len() as u32).to_le_bytes();
    let crc = checksum(chain, &length, payload);
    out.extend_from_slice(&length);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
    crc
}

/// Reads the next record into `payload`; `chain` is the checksum before it.
pub(super) fn read_record(reader: &mut impl Read, chain: u32, payload: &mut Vec<u8>) -> io::Result<FoundRecord> {
    let mut head = [0; RECORD_OVERHEAD];
    match fill(reader, &mut head)? {
        0 => return Ok(FoundRecord::End),
        RECORD_OVERHEAD => {}
        _ => return Ok(FoundRecord::Torn),
    }
    let length = u32_at(&head, 0) as usize;
    if length == 0 || length > MAX_ITEM {
        return Ok(FoundRecord::Torn);
    }
    payload.resize(length, 0);
    if fill(reader, payload)? < length {
        return Ok(FoundRecord::Torn);
    }
    let crc = checksum(chain, &head[..4], payload);
    Ok(if crc == u32_at(&head, 4) { FoundRecord::Record(crc) } else { FoundRecord::Torn })
}

fn checksum(chain: u32, length: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(chain, length), payload)
}

/// Reads until the buffer is full or the input ends.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|slice| slice.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|slice| slice.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = Header { epoch: Epoch([7; 16]), first_sequence: 9, boot_id: b"boot".to_vec() };
        let (bytes, crc) = header.encode();
        let found = read_header(&mut &bytes[..]).unwrap();
        assert_eq!(found, FoundHeader::Header(header, bytes.len() as u64, crc));
    }

    #[test]
    fn a_header_of_a_later_version_is_recognised_whatever_it_holds() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[2, 0, 20, 0, 1, 2, 3, 4]);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(read_header(&mut &bytes[..]).unwrap(), FoundHeader::Version(2));
    }

    #[test]
    fn zeros_are_not_a_record() {
        let mut payload = Vec::new();
        assert_eq!(read_record(&mut &[0; 64][..], 0, &mut payload).unwrap(), FoundRecord::Torn);
        // Nor is an empty one, whose checksum zeros could meet.
        let mut empty = Vec::new();
        write_record(&mut empty, 7, &[]);
        assert_eq!(read_record(&mut &empty[..], 7, &mut payload).unwrap(), FoundRecord::Torn);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_without_panic(bytes: Vec<u8>, chain: u32) {
            let _ = read_header(&mut &bytes[..]);
            let _ = read_record(&mut &bytes[..], chain, &mut Vec::new());
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend_from_slice(&bytes);
            let _ = read_header(&mut &with_magic[..]);
        }

        #[test]
        fn a_record_is_valid_only_after_its_predecessor(payload in prop::collection::vec(any::<u8>(), 1..200), chain: u32, other: u32) {
            let mut bytes = Vec::new();
            let crc = write_record(&mut bytes, chain, &payload);
            let mut read = Vec::new();
            prop_assert_eq!(read_record(&mut &bytes[..], chain, &mut read).unwrap(), FoundRecord::Record(crc));
            prop_assert_eq!(read, payload);
            prop_assume!(other != chain);
            prop_assert_eq!(read_record(&mut &bytes[..], other, &mut Vec::new()).unwrap(), FoundRecord::Torn);
        }
    }
}
