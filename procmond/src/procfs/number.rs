//! Decimal numbers in bytes.

/// The number that these bytes spell in decimal digits, and nothing else.
pub(crate) fn number<T: TryFrom<u64>>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |value, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })?;
    T::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn only_digits_that_fit_are_numbers() {
        assert_eq!(number::<u32>(b"4294967295"), Some(u32::MAX));
        assert_eq!(number::<u64>(b"18446744073709551615"), Some(u64::MAX));
        for not in ["", "-1", "+1", " 1", "4294967296", "99999999999999999999", "1a"] {
            assert_eq!(number::<u32>(not.as_bytes()), None, "{not}");
        }
    }
}
