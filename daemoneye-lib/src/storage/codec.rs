//! The bytes of one column of one block.
//!
//! ```text
//! u8  type            1 text · 2 integer · 3 real
//! u32 crc32c          of all that follows, little-endian as every number here
//! u32 raw length      of the values before compression
//! …   zstd frame:     validity bitmap, one bit a row, low bit first
//!                     text:    a u32 length for each row, then the bytes of all rows
//!                     integer: differences to the row before (i64, wrapping), byte planes: all lowest bytes first
//!                     real:    IEEE 754 bits, byte planes
//! ```
//! A NULL has length 0, difference 0 and bits 0.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use std::io;
use std::sync::Arc;

const TEXT: u8 = 1;
const INTEGER: u8 = 2;
const REAL: u8 = 3;
const HEADER: usize = 9;
/// Level 1 is the best trade of time for size on these columns.
const LEVEL: i32 = 1;
/// No block comes near it: a longer one is damage.
const MAX_RAW: usize = 256 << 20;

/// The column's bytes.
///
/// # Errors
/// When the compressor fails or the column is of a type that no table has.
pub(super) fn encode(array: &dyn Array) -> io::Result<Vec<u8>> {
    let mut raw = validity(array);
    let kind = match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            for text in texts {
                let length = u32::try_from(text.map_or(0, str::len)).map_err(io::Error::other)?;
                raw.extend_from_slice(&length.to_le_bytes());
            }
            texts.iter().flatten().for_each(|text| raw.extend_from_slice(text.as_bytes()));
            TEXT
        }
        DataType::Int64 => {
            let mut before = 0_i64;
            let differences = array.as_primitive::<Int64Type>().iter().map(|number| {
                let number = number.unwrap_or(before);
                let difference = number.wrapping_sub(before);
                before = number;
                difference.to_le_bytes()
            });
            push_planes(&mut raw, differences.collect());
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
    body.extend_from_slice(&zstd::bulk::compress(&raw, LEVEL)?);
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(kind);
    out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(out)
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

/// The column of so many rows from its bytes.
///
/// # Errors
/// Names what is wrong with the bytes; hostile ones cost no more memory than they claim rows.
pub(super) fn decode(bytes: &[u8], rows: usize) -> Result<ArrayRef, String> {
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
    let raw = zstd::bulk::decompress(compressed, length)
        .map_err(|error| format!("a column cannot be decompressed: {error}"))?;
    if raw.len() != length {
        return Err("a column is shorter than it claims".into());
    }
    let Some((bitmap, values)) = raw.split_at_checked(rows.div_ceil(8)) else {
        return Err("a column has no room for its rows".into());
    };
    let nulls = NullBuffer::new(BooleanBuffer::new(bitmap.to_vec().into(), 0, rows));
    match kind {
        TEXT => texts(values, rows, nulls),
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

fn texts(values: &[u8], rows: usize, nulls: NullBuffer) -> Result<ArrayRef, String> {
    let Some((lengths, bytes)) = values.split_at_checked(rows * 4) else {
        return Err("a text column has no room for its lengths".into());
    };
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut end = 0_i32;
    offsets.push(end);
    for length in lengths.as_chunks::<4>().0 {
        end = i32::try_from(u32::from_le_bytes(*length))
            .ok()
            .and_then(|length| end.checked_add(length))
            .ok_or("a text column's lengths are out of range")?;
        offsets.push(end);
    }
    if usize::try_from(end) != Ok(bytes.len()) {
        return Err("a text column's lengths do not fit its bytes".into());
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    StringArray::try_new(offsets, bytes.to_vec().into(), Some(nulls))
        .map(|texts| Arc::new(texts) as ArrayRef)
        .map_err(|error| format!("a text column is not UTF-8: {error}"))
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
    use proptest::prelude::*;

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
                prop_assert_eq!(&decode(&bytes, column.len()).unwrap(), &column);
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_panic(mut bytes: Vec<u8>, rows in 0_usize..64, kind in 0_u8..5) {
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
