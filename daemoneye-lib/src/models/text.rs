//! Host text: a lossless escape for bytes that are not UTF-8, and a harmless form for terminals.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Writes host bytes as text from which [`unescape`] gives the same bytes back.
///
/// A byte that is not part of valid UTF-8 becomes `\xHH`. So that nothing else can be taken for it, a backslash that
/// stands before `x` and two hex digits in the host's own text becomes `\x5C`. All other text stays as it is.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        if valid.contains("\\x") {
            push_valid(&mut out, valid);
        } else {
            out.push_str(valid);
        }
        for byte in chunk.invalid() {
            push_hex(&mut out, *byte);
        }
    }
    out
}

fn push_valid(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if escaped_byte(from.as_bytes()).is_some() {
            push_hex(out, b'\\');
        } else {
            out.push('\\');
        }
        rest = &from[1..];
    }
    out.push_str(rest);
}

fn push_hex(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push_str("\\x");
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// The bytes that [`escape_bytes`] wrote as this text.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let Some(byte) = escaped_byte(rest) {
            out.push(byte);
            rest = &rest[4..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

fn escaped_byte(at: &[u8]) -> Option<u8> {
    let [b'\\', b'x', high, low, ..] = at else { return None };
    let high = char::from(*high).to_digit(16)?;
    let low = char::from(*low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

/// What takes a terminal's cursor to the beginning of its line and empties the line.
pub const CLEAR_LINE: &str = "\r\x1b[2K";

/// Text that cannot move the cursor, change colours, ring bells or reorder what the operator reads.
///
/// Control characters and the invisible characters of bidirectional text are written as `\u{…}`, tab, newline and
/// carriage return as `\t`, `\n`, `\r`.
pub fn for_terminal(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe_on_terminal) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if is_unsafe_on_terminal(c) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn is_unsafe_on_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", "ls -l", "grüß dich", "C:\\Users\\x", "echo -e \"\\n\\xg1\""] {
            assert_eq!(escape_bytes(text.as_bytes()), text);
        }
    }

    #[test]
    fn what_looks_like_an_escape_is_escaped() {
        assert_eq!(escape_bytes(b"\\x41"), "\\x5Cx41");
        assert_eq!(escape_bytes(b"a\xffb"), "a\\xFFb");
        assert_eq!(escape_bytes(b"\\\xff"), "\\\\xFF");
    }

    #[test]
    fn terminals_get_no_control_and_no_bidi_characters() {
        assert_eq!(for_terminal("a\x1b[31mb\u{202e}c\n"), "a\\u{1b}[31mb\\u{202e}c\\n");
        assert!(matches!(for_terminal("plain"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes: Vec<u8>) {
            prop_assert_eq!(unescape(&escape_bytes(&bytes)), bytes);
        }

        #[test]
        fn escapes_among_backslashes_come_back(text in r"(\\|x|4|1|\xff|a){0,12}") {
            prop_assert_eq!(unescape(&escape_bytes(text.as_bytes())), text.as_bytes());
        }
    }
}
