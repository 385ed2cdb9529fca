//! The bytes of one column of one block.
//!
//! ```text
//! u8  type            1 text · 2 integer · 3 real · 4 text from a list · 5 text that ends in a number
//! u32 crc32c          of all that follows, little-endian as every number here
//! u32 raw length      of the values before compression
//! …   zstd frame:     validity bitmap, one bit a row, low bit first
//!                     1: a u32 length for each row, then the bytes of all rows
//!                     2: differences to the row before (i64, wrapping), byte planes: all lowest bytes first
//!                     3: IEEE 754 bits, byte planes
//!                     4: u32 number of different values, of each its u32 length, their bytes; then the place of each
//!                        row's value among them, all low bytes, all high bytes
//!                     5: u32 length of the prefix, the prefix, the numbers as in 2
//! ```
//! A NULL has length 0, difference 0, bits 0 and place 0.

mod text;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use std::fmt;
use std::io;
use std::sync::Arc;
use zstd::bulk::{Compressor, Decompressor};

const TEXT: u8 = 1;
const INTEGER: u8 = 2;
const REAL: u8 = 3;
const DICTIONARY: u8 = 4;
const NUMBERED: u8 = 5;
const HEADER: usize = 9;
/// Level 1 is the best trade of time for size on these columns.
const LEVEL: i32 = 1;
/// No block comes near it: a longer one is damage.
const MAX_RAW: usize = 256 << 20;

/// Writes columns; it keeps what the compressor needs from one to the next.
pub(super) struct Encoder(Compressor<'static>);

impl Encoder {
    pub(super) fn new() -> io::Result<Self> {
        Compressor::new(LEVEL).map(Self)
    }

    /// The column's bytes.
    ///
    /// # Errors
    /// When the compressor fails or the column is of a type that no table has.
    pub(super) fn encode(&mut self, array: &dyn Array) -> io::Result<Vec<u8>> {
        let mut raw = validity(array);
        let kind = match array.data_type() {
            DataType::Utf8 => text::push(&mut raw, array.as_string::<i32>())?,
            DataType::Int64 => {
                let mut before = 0;
                let numbers = array.as_primitive::<Int64Type>().iter().map(|number| {
                    before = number.unwrap_or(before);
                    before
                });
                text::push_differences(&mut raw, numbers);
                INTEGER
            }
            DataType::Float64 => {
                let bits = array.as_primitive::<Float64Type>().iter().map(|number| number.unwrap_or(0.0).to_le_bytes());
                push_planes(&mut raw, bits.collect());
                REAL
            }
            other => return Err(io::Error::other(format!("no column is stored as {other}"))),
        };
        let mut body = u32::try_from(raw.len()).map_err(io::Error::other)?.to_le_bytes().to_vec();
        body.extend_from_slice(&self.0.compress(&raw)?);
        let mut out = Vec::with_capacity(body.len() + 5);
        out.push(kind);
        out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        out.extend_from_slice(&body);
        Ok(out)
    }
}

fn validity(array: &dyn Array) -> Vec<u8> {
    let mut bitmap = vec![0_u8; array.len().div_ceil(8)];
    for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
        bitmap[row / 8] |= 1 << (row % 8);
    }
    bitmap
}

fn push_planes(raw: &mut Vec<u8>, values: Vec<[u8; 8]>) {
    for plane in 0..8 {
        raw.extend(values.iter().map(|value| value[plane]));
    }
}

/// Reads columns.
pub(super) struct Decoder(Decompressor<'static>);

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    pub(super) fn new() -> io::Result<Self> {
        Decompressor::new().map(Self)
    }

    /// The column of so many rows from its bytes: text from a list comes as a dictionary.
    ///
    /// # Errors
    /// Names what is wrong with the bytes; hostile ones cost no more memory than they claim rows.
    pub(super) fn decode(&mut self, bytes: &[u8], rows: usize) -> Result<ArrayRef, String> {
        let (kind, length, compressed) = checked(bytes)?;
        let raw = self
            .0
            .decompress(compressed, length)
            .map_err(|error| format!("a column cannot be decompressed: {error}"))?;
        if raw.len() != length {
            return Err("a column is shorter than it claims".into());
        }
        let Some((bitmap, values)) = raw.split_at_checked(rows.div_ceil(8)) else {
            return Err("a column has no room for its rows".into());
        };
        let nulls = NullBuffer::new(BooleanBuffer::new(bitmap.to_vec().into(), 0, rows));
        match kind {
            TEXT => Ok(Arc::new(text::plain(values, rows, Some(nulls))?)),
            DICTIONARY => text::coded(values, rows, nulls),
            NUMBERED => text::after_prefix(values, rows),
            INTEGER => {
                let mut before = 0_i64;
                let numbers: Vec<i64> = planes(values, rows)?
                    .map(|difference| {
                        before = before.wrapping_add(i64::from_le_bytes(difference));
                        before
                    })
                    .collect();
                Ok(Arc::new(Int64Array::new(numbers.into(), Some(nulls))))
            }
            REAL => {
                let numbers: Vec<f64> = planes(values, rows)?.map(f64::from_le_bytes).collect();
                Ok(Arc::new(Float64Array::new(numbers.into(), Some(nulls))))
            }
            other => Err(format!("a column has the unknown type {other}")),
        }
    }
}

/// The type, the raw length and the compressed values of a column whose checksum is right.
///
/// # Errors
/// Names what is wrong with the bytes.
pub(super) fn checked(bytes: &[u8]) -> Result<(u8, usize, &[u8]), String> {
    let (Some(&[kind, c0, c1, c2, c3, l0, l1, l2, l3]), Some(body), Some(compressed)) =
        (bytes.first_chunk::<HEADER>(), bytes.get(5..), bytes.get(HEADER..))
    else {
        return Err("a column is shorter than its header".into());
    };
    if crc32c::crc32c(body) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err("a column's checksum is wrong".into());
    }
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if length > MAX_RAW {
        return Err(format!("a column claims {length} bytes"));
    }
    Ok((kind, length, compressed))
}

fn planes(values: &[u8], rows: usize) -> Result<impl Iterator<Item = [u8; 8]>, String> {
    if values.len() != rows * 8 {
        return Err("a number column's length does not fit its rows".into());
    }
    Ok((0..rows).map(move |row| std::array::from_fn(|plane| values[plane * rows + row])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use arrow::compute::cast;
    use proptest::prelude::*;

    fn encode(array: &dyn Array) -> io::Result<Vec<u8>> {
        Encoder::new().unwrap().encode(array)
    }

    fn decode(bytes: &[u8], rows: usize) -> Result<ArrayRef, String> {
        Decoder::new().unwrap().decode(bytes, rows)
    }

    #[test]
    fn each_form_of_text_is_used_where_it_suits_and_comes_back() {
        let few = |row: usize| (!row.is_multiple_of(3)).then(|| format!("value {}", row % 7));
        let cases: [(u8, Vec<Option<String>>); 4] = [
            (TEXT, (0..100).map(|row| Some(format!("0{row}"))).collect()),
            (DICTIONARY, (0..100).map(few).collect()),
            (NUMBERED, (0..100).map(|row| Some(format!("epoch-{}", row * 3))).collect()),
            (NUMBERED, (0..100).map(|row| Some(format!("{}", i64::MAX - row))).collect()),
        ];
        for (kind, texts) in cases {
            let texts = StringArray::from(texts);
            let bytes = encode(&texts).unwrap();
            assert_eq!(bytes[0], kind);
            let back = cast(&decode(&bytes, texts.len()).unwrap(), &DataType::Utf8).unwrap();
            assert_eq!(back.as_string::<i32>(), &texts);
        }
    }

    proptest! {
        #[test]
        fn every_column_comes_back(
            texts: Vec<Option<String>>, numbers: Vec<Option<i64>>, reals: Vec<Option<f64>>,
        ) {
            let columns: [ArrayRef; 3] = [
                Arc::new(StringArray::from(texts)), Arc::new(Int64Array::from(numbers)), Arc::new(Float64Array::from(reals)),
            ];
            for column in columns {
                let bytes = encode(&column).unwrap();
                let back = cast(&decode(&bytes, column.len()).unwrap(), column.data_type()).unwrap();
                prop_assert_eq!(&back, &column);
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_panic(mut bytes: Vec<u8>, rows in 0_usize..64, kind in 0_u8..7) {
            let _ = decode(&bytes, rows);
            // With a right checksum, so that what lies behind it is reached.
            if bytes.len() >= HEADER {
                bytes[0] = kind;
                bytes[5..9].copy_from_slice(&64_u32.to_le_bytes());
                let crc = crc32c::crc32c(&bytes[5..]).to_le_bytes();
                bytes[1..5].copy_from_slice(&crc);
                let _ = decode(&bytes, rows);
            }
        }

        #[test]
        fn a_flipped_bit_is_noticed(texts in prop::collection::vec(".{0,8}", 1..20), at: prop::sample::Index, bit in 0_u8..8) {
            let column: ArrayRef = Arc::new(StringArray::from(texts));
            let mut bytes = encode(&column).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes, column.len()).is_err());
        }
    }
}
