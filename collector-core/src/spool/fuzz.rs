//! Fuzz target: a segment file may hold any bytes.

use super::segment::{FoundHeader, FoundRecord, Header, read_header, read_record, write_record};
use crate::sink::MAX_ITEM;
use bolero::check;
use daemoneye_lib::models::event::Epoch;

/// Reads all records; none is longer than an item may be, and each takes bytes, so that reading ends.
fn read_all(mut bytes: &[u8], mut chain: u32) -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    let mut payload = Vec::new();
    loop {
        let before = bytes.len();
        match read_record(&mut bytes, chain, &mut payload).unwrap() {
            FoundRecord::Record(crc) => {
                assert!(payload.len() <= MAX_ITEM && bytes.len() < before);
                items.push(payload.clone());
                chain = crc;
            }
            FoundRecord::End | FoundRecord::Torn => return items,
        }
    }
}

#[test]
fn fuzz_segment() {
    let header = Header { epoch: Epoch([7; 16]), first_sequence: 1, boot_id: b"boot".to_vec() };
    let (start, chain) = header.encode();
    let (item, mut record) = (b"an item".to_vec(), Vec::new());
    write_record(&mut record, chain, &item);
    check!().for_each(|bytes: &[u8]| {
        if let FoundHeader::Header(_, length, chain) = read_header(&mut &bytes[..]).unwrap() {
            read_all(&bytes[usize::try_from(length).unwrap()..], chain);
        }
        let whole = [&start[..], &record, bytes].concat();
        let FoundHeader::Header(found, length, chain) = read_header(&mut &whole[..]).unwrap() else {
            panic!("what follows a header is none of its business");
        };
        assert_eq!(found, header);
        let items = read_all(&whole[usize::try_from(length).unwrap()..], chain);
        assert_eq!(items.first(), Some(&item), "what stands before damage is read");
    });
}
