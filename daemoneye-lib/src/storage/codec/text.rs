//! The three forms of a text column: whichever is the smallest to read is written.

use super::{DICTIONARY, NUMBERED, TEXT, planes, push_planes};
use arrow::array::{Array as _, ArrayRef, DictionaryArray, StringArray, UInt16Array};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::UInt16Type;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// Appends the values in the form that suits them, and says which.
pub(super) fn push(raw: &mut Vec<u8>, texts: &StringArray) -> io::Result<u8> {
    if let Some((prefix, numbers)) = numbered(texts) {
        push_length(raw, prefix.len())?;
        raw.extend_from_slice(prefix.as_bytes());
        push_differences(raw, numbers.into_iter());
        return Ok(NUMBERED);
    }
    if let Some((values, codes)) = dictionary(texts) {
        push_length(raw, values.len())?;
        for value in &values {
            push_length(raw, value.len())?;
        }
        values.iter().for_each(|value| raw.extend_from_slice(value.as_bytes()));
        raw.extend(codes.iter().map(|code| code.to_le_bytes()[0]));
        raw.extend(codes.iter().map(|code| code.to_le_bytes()[1]));
        return Ok(DICTIONARY);
    }
    for text in texts {
        push_length(raw, text.map_or(0, str::len))?;
    }
    texts.iter().flatten().for_each(|text| raw.extend_from_slice(text.as_bytes()));
    Ok(TEXT)
}

fn push_length(raw: &mut Vec<u8>, length: usize) -> io::Result<()> {
    raw.extend_from_slice(&u32::try_from(length).map_err(io::Error::other)?.to_le_bytes());
    Ok(())
}

pub(super) fn push_differences(raw: &mut Vec<u8>, numbers: impl Iterator<Item = i64>) {
    let mut before = 0_i64;
    let differences = numbers.map(|number| {
        let difference = number.wrapping_sub(before);
        before = number;
        difference.to_le_bytes()
    });
    push_planes(raw, differences.collect());
}

/// One prefix and a number behind it in every row, as ids of events have.
fn numbered(texts: &StringArray) -> Option<(&str, Vec<i64>)> {
    if texts.null_count() > 0 || texts.is_empty() {
        return None;
    }
    let digits = |text: &str| text.len() - text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    let first = texts.value(0);
    let prefix = first.get(..first.len() - digits(first))?;
    let number = |text: &str| {
        let digits = text.strip_prefix(prefix)?;
        let number: i64 = digits.parse().ok()?;
        // Only what comes back as it was.
        (number.to_string() == digits).then_some(number)
    };
    let numbers = texts.iter().map(|text| number(text?)).collect::<Option<Vec<_>>>()?;
    Some((prefix, numbers))
}

/// The different values in the order of their first row, and each row's place among them: where it saves half of them.
fn dictionary(texts: &StringArray) -> Option<(Vec<&str>, Vec<u16>)> {
    let most = (texts.len() / 2).min(usize::from(u16::MAX));
    let mut places: HashMap<&str, u16> = HashMap::new();
    let mut values = Vec::new();
    let mut codes = Vec::with_capacity(texts.len());
    for text in texts {
        let Some(text) = text else {
            codes.push(0);
            continue;
        };
        let code = match places.get(text) {
            Some(code) => *code,
            None => {
                if values.len() >= most {
                    return None;
                }
                let code = u16::try_from(values.len()).ok()?;
                values.push(text);
                places.insert(text, code);
                code
            }
        };
        codes.push(code);
    }
    (!values.is_empty()).then_some((values, codes))
}

pub(super) fn plain(values: &[u8], rows: usize, nulls: Option<NullBuffer>) -> Result<StringArray, String> {
    let lengths = rows.checked_mul(4).and_then(|lengths| values.split_at_checked(lengths));
    let Some((lengths, bytes)) = lengths else {
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
    StringArray::try_new(offsets, bytes.to_vec().into(), nulls)
        .map_err(|error| format!("a text column is not UTF-8: {error}"))
}

/// Each row as a place in the list of different values.
pub(super) fn coded(values: &[u8], rows: usize, nulls: NullBuffer) -> Result<ArrayRef, String> {
    let (count, values) = length(values)?;
    let codes_at = values.len().checked_sub(rows * 2).ok_or("a text column has no room for its codes")?;
    let (values, codes) = values.split_at(codes_at);
    let (low, high) = codes.split_at(rows);
    let codes: Vec<u16> = low.iter().zip(high).map(|(low, high)| u16::from_le_bytes([*low, *high])).collect();
    let values = plain(values, count, None)?;
    DictionaryArray::<UInt16Type>::try_new(UInt16Array::new(codes.into(), Some(nulls)), Arc::new(values))
        .map(|texts| Arc::new(texts) as ArrayRef)
        .map_err(|error| format!("a text column has a code without a value: {error}"))
}

/// A prefix and a number behind it.
pub(super) fn after_prefix(values: &[u8], rows: usize) -> Result<ArrayRef, String> {
    let (length, values) = length(values)?;
    let Some((prefix, differences)) = values.split_at_checked(length) else {
        return Err("a text column has no room for its prefix".into());
    };
    let prefix = std::str::from_utf8(prefix).map_err(|error| format!("a text column is not UTF-8: {error}"))?;
    if rows.saturating_mul(prefix.len()) > super::MAX_RAW {
        return Err(format!("a text column's prefix has {} bytes", prefix.len()));
    }
    let mut before = 0_i64;
    let texts = planes(differences, rows)?.map(|difference| {
        before = before.wrapping_add(i64::from_le_bytes(difference));
        format!("{prefix}{before}")
    });
    Ok(Arc::new(StringArray::from_iter_values(texts)))
}

fn length(bytes: &[u8]) -> Result<(usize, &[u8]), String> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or("a text column has no room for a length")?;
    Ok((usize::try_from(u32::from_le_bytes(*length)).map_err(|error| error.to_string())?, rest))
}
