//! The columns of a process from its encoded record, without making a record of it.
//!
//! Sealing reads every column of thousands of records once; making them of the bytes, each text a piece of memory of its own,
//! costs more than all that is done with them. What is read here is what decoding gives: it is refused (and decoded by
//! whoever asked) where the bytes are not as our encoders write them.

use crate::models::columns::{PROCESS, Value, array};
use prost::bytes::Buf as _;
use prost::encoding::{WireType, decode_key, decode_varint};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// As many as a process row has columns; the field of a column has its place, counted from 1.
const COLUMNS: usize = 45;
const ARGV: usize = 33;

/// The fields of one record.
#[derive(Debug)]
pub(super) struct Fields<'b> {
    values: [Field<'b>; COLUMNS],
    /// The entries of maps, in their order, each with its column.
    entries: Vec<(usize, &'b [u8])>,
}

#[derive(Clone, Copy, Debug)]
enum Field<'b> {
    Absent,
    Text(&'b str),
    Integer(i64),
    Real(f64),
    /// An encoded message.
    Message(&'b [u8]),
    /// Its entries are elsewhere.
    Map,
}

/// What the fields of a record are, by number, as `proto/common.proto` has them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Int32,
    Uint32,
    Int64,
    Uint64,
    Bool,
    Double,
    Texts,
    Numbers,
    Argv,
}

const fn kind(number: usize) -> Option<Kind> {
    Some(match number {
        1 | 2 | 5..=8 | 15 | 17 | 18 | 21..=23 | 26..=30 | 34 | 43 => Kind::Text,
        3 | 4 | 12..=14 | 16 | 36..=38 => Kind::Uint32,
        11 | 39 => Kind::Int32,
        9 | 10 | 45 => Kind::Int64,
        20 | 40 | 41 => Kind::Uint64,
        24 | 25 | 35 => Kind::Bool,
        19 => Kind::Double,
        31 => Kind::Numbers,
        32 | 42 | 44 => Kind::Texts,
        ARGV => Kind::Argv,
        _ => return None,
    })
}

impl<'b> Fields<'b> {
    /// The fields of an encoded record; nothing where they are not as our encoders write them.
    pub(super) fn of(mut bytes: &'b [u8]) -> Option<Self> {
        let mut values = [Field::Absent; COLUMNS];
        // Fields that are always there are not written where they are empty.
        (values[0], values[2]) = (Field::Text(""), Field::Integer(0));
        (values[42], values[44]) = (Field::Text(""), Field::Integer(0));
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            let (number, wire) = decode_key(&mut bytes).ok()?;
            let number = usize::try_from(number).ok()?;
            let Some(kind) = kind(number) else {
                // Behind a record in `current` stands who told last of it.
                skip(wire, &mut bytes)?;
                continue;
            };
            let column = number.checked_sub(1)?;
            let value = match (kind, wire) {
                (Kind::Text, WireType::LengthDelimited) => Field::Text(std::str::from_utf8(piece(&mut bytes)?).ok()?),
                (Kind::Double, WireType::SixtyFourBit) => {
                    let (real, rest) = bytes.split_first_chunk::<8>()?;
                    bytes = rest;
                    Field::Real(f64::from_le_bytes(*real))
                }
                (Kind::Texts | Kind::Numbers, WireType::LengthDelimited) => {
                    entries.push((column, piece(&mut bytes)?));
                    Field::Map
                }
                // Two of them would be one after the other.
                (Kind::Argv, WireType::LengthDelimited) if matches!(values[column], Field::Absent) => {
                    Field::Message(piece(&mut bytes)?)
                }
                (kind, WireType::Varint) => Field::Integer(integer(kind, decode_varint(&mut bytes).ok()?)?),
                _ => return None,
            };
            *values.get_mut(column)? = value;
        }
        // What can be wrong within is found now.
        let sound = |(column, entry): &(usize, &'b [u8])| match kind(column + 1) {
            Some(Kind::Numbers) => number_entry(entry).is_some(),
            _ => text_entry(entry).is_some(),
        };
        let argv_is_sound = match values[ARGV - 1] {
            Field::Message(bytes) => arguments(bytes).is_some(),
            _ => true,
        };
        (argv_is_sound && entries.iter().all(sound)).then_some(Self { values, entries })
    }

    /// The value of a column by its place.
    pub(super) fn value(&self, column: usize) -> Value<'_> {
        self.found(column).unwrap_or(Value::Null)
    }

    fn found(&self, column: usize) -> Option<Value<'_>> {
        Some(match self.values.get(column)? {
            Field::Absent => Value::Null,
            Field::Text(text) => Value::Text(Cow::Borrowed(text)),
            Field::Integer(number) => Value::Integer(*number),
            Field::Real(number) => Value::Real(*number),
            Field::Message(bytes) => array(&arguments(bytes)?),
            Field::Map => {
                let entries = self.entries.iter().filter(|(own, _)| *own == column).map(|(_, entry)| *entry);
                match kind(column + 1)? {
                    Kind::Numbers => document(&entries.map(number_entry).collect::<Option<BTreeMap<_, _>>>()?),
                    _ => document(&entries.map(text_entry).collect::<Option<BTreeMap<_, _>>>()?),
                }
            }
        })
    }

    /// The end of the process, where it is told.
    pub(super) fn end_time(&self) -> Option<i64> {
        let column = PROCESS.iter().position(|column| column.name == "end_time")?;
        match self.values.get(column)? {
            Field::Integer(time) => Some(*time),
            _ => None,
        }
    }
}

fn document(entries: &BTreeMap<&str, impl serde::Serialize>) -> Value<'static> {
    serde_json::to_string(entries).map_or(Value::Null, |text| Value::Text(Cow::Owned(text)))
}

/// The whole number of a varint, as the decoder makes it, and as the column has it.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "as protobuf decodes")]
fn integer(kind: Kind, varint: u64) -> Option<i64> {
    Some(match kind {
        Kind::Int32 => i64::from(varint as i32),
        Kind::Uint32 => i64::from(varint as u32),
        Kind::Int64 => varint as i64,
        Kind::Uint64 => i64::try_from(varint).unwrap_or(i64::MAX),
        Kind::Bool => i64::from(varint != 0),
        _ => return None,
    })
}

/// A piece of bytes behind its length.
fn piece<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
    let (piece, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(piece)
}

fn skip(wire: WireType, bytes: &mut &[u8]) -> Option<()> {
    match wire {
        WireType::Varint => drop(decode_varint(bytes).ok()?),
        WireType::LengthDelimited => drop(piece(bytes)?),
        WireType::SixtyFourBit if bytes.len() >= 8 => bytes.advance(8),
        WireType::ThirtyTwoBit if bytes.len() >= 4 => bytes.advance(4),
        _ => return None,
    }
    Some(())
}

fn arguments(mut bytes: &[u8]) -> Option<Vec<&str>> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        match decode_key(&mut bytes).ok()? {
            (1, WireType::LengthDelimited) => values.push(std::str::from_utf8(piece(&mut bytes)?).ok()?),
            _ => return None,
        }
    }
    Some(values)
}

fn text_entry(mut bytes: &[u8]) -> Option<(&str, &str)> {
    let (mut key, mut value) = ("", "");
    while !bytes.is_empty() {
        match decode_key(&mut bytes).ok()? {
            (1, WireType::LengthDelimited) => key = std::str::from_utf8(piece(&mut bytes)?).ok()?,
            (2, WireType::LengthDelimited) => value = std::str::from_utf8(piece(&mut bytes)?).ok()?,
            _ => return None,
        }
    }
    Some((key, value))
}

fn number_entry(mut bytes: &[u8]) -> Option<(&str, u64)> {
    let (mut key, mut value) = ("", 0);
    while !bytes.is_empty() {
        match decode_key(&mut bytes).ok()? {
            (1, WireType::LengthDelimited) => key = std::str::from_utf8(piece(&mut bytes)?).ok()?,
            (2, WireType::Varint) => value = decode_varint(&mut bytes).ok()?,
            _ => return None,
        }
    }
    Some((key, value))
}

/// The type, the time and the encoded record of an item that is an event of a process; nothing where it is another, or is
/// not as our encoders write it.
pub(super) fn process_event(mut item: &[u8]) -> Option<(i32, i64, &[u8])> {
    let (1, WireType::LengthDelimited) = decode_key(&mut item).ok()? else { return None };
    let mut event = piece(&mut item)?;
    if !item.is_empty() {
        return None;
    }
    let (mut event_type, mut event_time, mut record) = (0, 0, None);
    while !event.is_empty() {
        match decode_key(&mut event).ok()? {
            (1, WireType::Varint) => event_type = decode_varint(&mut event).ok()?,
            (2, WireType::Varint) => event_time = decode_varint(&mut event).ok()?,
            (3, WireType::LengthDelimited) if record.is_none() => record = Some(piece(&mut event)?),
            _ => return None,
        }
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "as protobuf decodes")]
    let (event_type, event_time) = (event_type as i32, event_time as i64);
    Some((event_type, event_time, record?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::columns;
    use crate::proto::common::{Arguments, ProcessEvent, ProcessRecord};
    use crate::proto::ipc::{CollectedItem, collected_item::Item};
    use proptest::collection::{btree_map, vec};
    use proptest::option::of;
    use proptest::prelude::*;
    use prost::Message as _;

    fn record() -> impl Strategy<Value = ProcessRecord> {
        let text = || of(".{0,6}");
        let texts = (text(), text(), text(), text(), text(), text(), text(), text(), text());
        let more = (text(), text(), text(), text(), text(), text(), text(), text(), text());
        let numbers = (of(any::<u32>()), of(any::<i64>()), of(any::<i64>()), of(any::<i32>()), of(any::<u32>()));
        let others = (of(any::<u32>()), of(any::<f64>()), of(any::<u64>()), of(any::<bool>()), of(any::<bool>()));
        let maps =
            (btree_map(".{0,4}", any::<u64>(), 0..4), btree_map(".{0,4}", ".{0,4}", 0..4), of(vec(".{0,4}", 0..4)));
        let always = (".{0,4}", any::<u32>(), ".{0,4}", any::<i64>());
        (texts, more, numbers, others, maps, always).prop_map(|(t, m, n, o, (spaces, other, argv), a)| ProcessRecord {
            process_key: a.0,
            parent_key: t.0,
            pid: a.1,
            ppid: n.0,
            name: t.1,
            executable_path: t.2,
            command_line: t.3,
            cwd: t.4,
            start_time: n.1,
            end_time: n.2,
            exit_code: n.3,
            uid: n.4,
            gid: o.0,
            euid: n.0,
            user: t.5,
            session_id: n.4,
            tty: t.6,
            status: t.7,
            cpu_usage: o.1,
            memory_usage: o.2,
            executable_hash: t.8,
            hash_algorithm: m.0,
            fuzzy_hash: m.1,
            file_exists: o.3,
            image_mismatch: o.4,
            parent_name: m.2,
            parent_executable_path: m.3,
            parent_command_line: m.4,
            container_id: m.5,
            cgroup: m.6,
            namespaces: spaces,
            platform_data: other.clone(),
            argv: argv.map(|values| Arguments { values }),
            invoked_path: m.7,
            command_line_truncated: o.3,
            egid: n.4,
            loginuid: n.0,
            audit_session: o.0,
            exit_signal: n.3,
            cpu_time_ns: o.2,
            max_rss: o.2,
            environment: other.clone().into_iter().take(1).collect(),
            source: a.2,
            provenance: other,
            collection_time: a.3,
        })
    }

    fn same(record: &ProcessRecord, fields: &Fields<'_>) -> Result<(), TestCaseError> {
        prop_assert_eq!(PROCESS.len(), COLUMNS);
        for (index, column) in PROCESS.iter().enumerate() {
            let (decoded, read) = (columns::value(PROCESS, record, index), fields.value(index));
            // NaN is not itself.
            prop_assert_eq!(format!("{decoded:?}"), format!("{read:?}"), "{}", column.name);
        }
        prop_assert_eq!(record.end_time, fields.end_time());
        Ok(())
    }

    proptest! {
        #[test]
        fn the_fields_of_a_record_are_its_columns(record in record(), mut behind: Vec<u8>) {
            let mut bytes = record.encode_to_vec();
            same(&record, &Fields::of(&bytes).expect("our own encoding"))?;
            // A field that is not the record's, as `current` has it.
            behind.truncate(100);
            bytes.extend([0xc2, 0x3e, u8::try_from(behind.len()).unwrap()]);
            bytes.extend(behind);
            same(&record, &Fields::of(&bytes).expect("skipped"))?;
        }

        #[test]
        fn what_is_read_of_hostile_bytes_is_what_decoding_gives(record in record(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), again in record(), noise: Vec<u8>) {
            let mut changed = record.encode_to_vec();
            for (place, byte) in changes {
                if !changed.is_empty() {
                    let place = place.index(changed.len());
                    changed[place] = byte;
                }
            }
            let twice = [record.encode_to_vec(), again.encode_to_vec()].concat();
            for bytes in [changed, twice, noise] {
                if let Some(fields) = Fields::of(&bytes) {
                    same(&ProcessRecord::decode(bytes.as_slice()).expect("it can be read"), &fields)?;
                }
            }
        }

        #[test]
        fn an_item_is_taken_apart_as_it_is_decoded(record in record(), event_type: i32, event_time: i64, place: prop::sample::Index, byte: u8) {
            let event = ProcessEvent { event_type, event_time, process: Some(record) };
            let mut bytes = CollectedItem { item: Some(Item::Process(event.clone())) }.encode_to_vec();
            let (own_type, own_time, own) = process_event(&bytes).expect("our own encoding");
            prop_assert_eq!((own_type, own_time), (event_type, event_time));
            prop_assert_eq!(&ProcessRecord::decode(own).unwrap(), event.process.as_ref().unwrap());
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Some((own_type, own_time, fields)) = process_event(&bytes).and_then(|(a, b, own)| Some((a, b, Fields::of(own)?))) {
                let Some(Item::Process(event)) = CollectedItem::decode(bytes.as_slice()).expect("it can be read").item else {
                    return Err(TestCaseError::fail("another item"));
                };
                prop_assert_eq!((own_type, own_time), (event.event_type, event.event_time));
                same(event.process.as_ref().expect("a record"), &fields)?;
            }
        }
    }
}
