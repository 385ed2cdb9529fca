//! Values as they look when they are encoded: Base64 at any offset, UTF-16, and the signs that begin an option on Windows.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The signs that Windows takes for the one that begins an option.
const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];

/// Base64 with padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            if place > chunk.len() {
                text.push('=');
            } else {
                let index = (bits >> (18 - 6 * place)) & 63;
                text.push(char::from(ALPHABET[index as usize]));
            }
        }
    }
    text
}

/// What is found in the Base64 of a text in which the value stands: for each offset within three bytes the characters that
/// depend on the value alone. A single byte has none at one of the offsets: nothing is given for it.
pub(super) fn base64_offsets(bytes: &[u8]) -> Option<[String; 3]> {
    let of = |offset: usize| {
        let padded: Vec<u8> = std::iter::repeat_n(0, offset).chain(bytes.iter().copied()).collect();
        let text = base64(&padded);
        // 8 or 16 bits before the value touch 2 or 3 characters; the last characters hold bits of what follows it.
        let start = [0, 2, 3][offset];
        let end = text.len() - [0, 3, 2][padded.len() % 3];
        text.get(start..end).unwrap_or_default().to_owned()
    };
    Some([of(0), of(1), of(2)]).filter(|all| all.iter().all(|text| !text.is_empty()))
}

/// UTF-16, little-endian or big-endian.
pub(super) fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|unit| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

/// Where a value has a sign that may begin an option: each hyphen, and each slash that begins a word.
fn dashes(text: &str) -> Vec<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut before = None;
    let mut found = Vec::new();
    for (at, c) in text.char_indices() {
        let next = text[at + c.len_utf8()..].chars().next();
        if c == '-' || (c == '/' && !before.is_some_and(is_word) && next.is_some_and(is_word)) {
            found.push(at);
        }
        before = Some(c);
    }
    found
}

/// Every form that a value has when each of its signs is one of [`DASHES`], where there are at most `most` forms.
pub(super) fn windash(text: &str, most: usize) -> Option<Vec<String>> {
    let mut forms = vec![String::new()];
    let mut done = 0;
    for at in dashes(text) {
        if forms.len() * DASHES.len() > most {
            return None;
        }
        let piece = &text[done..at];
        forms = forms.iter().flat_map(|form| DASHES.map(|dash| format!("{form}{piece}{dash}"))).collect();
        done = at + 1;
    }
    forms.iter_mut().for_each(|form| form.push_str(&text[done..]));
    Some(forms)
}

/// The value as a piece of a regular expression in which each of its signs may be any of [`DASHES`].
pub(super) fn windash_regex(text: &str) -> String {
    let mut regex = String::new();
    let mut done = 0;
    for at in dashes(text) {
        regex.push_str(&regex::escape(&text[done..at]));
        regex.push_str(r"[-/\u{2013}\u{2014}\u{2015}]");
        done = at + 1;
    }
    regex.push_str(&regex::escape(&text[done..]));
    regex
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, wanted) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("\u{fb}\u{ff}", "w7vDvw=="),
        ] {
            assert_eq!(base64(text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn offsets_are_those_of_sigma() {
        assert_eq!(base64_offsets(b"/bin/bash").unwrap(), ["L2Jpbi9iYXNo", "9iaW4vYmFza", "vYmluL2Jhc2"]);
        assert_eq!(base64_offsets(b"foo").unwrap(), ["Zm9v", "Zvb", "mb2"]);
        assert_eq!([base64_offsets(b""), base64_offsets(b"f")], [None, None]);
        assert_eq!(utf16("aé", false), [b'a', 0, 0xe9, 0]);
        assert_eq!(utf16("aé", true), [0, b'a', 0, 0xe9]);
    }

    #[test]
    fn signs_of_options_have_their_forms() {
        assert_eq!(windash(" -x", 5).unwrap(), [" -x", " /x", " –x", " —x", " ―x"]);
        assert_eq!(windash("/c", 5).unwrap().len(), 5);
        assert_eq!(windash("a/b", 5).unwrap(), ["a/b"]);
        assert_eq!(windash("-a -b", 25).unwrap().len(), 25);
        assert!(windash("-a -b", 24).is_none());
        assert_eq!(windash_regex("-a.b"), r"[-/\u{2013}\u{2014}\u{2015}]a\.b");
    }

    proptest! {
        #[test]
        fn a_value_is_found_in_the_base64_of_any_text_around_it(before: Vec<u8>, value in ".{2,12}", after: Vec<u8>) {
            let whole = base64(&[&before, value.as_bytes(), &after].concat());
            let found = base64_offsets(value.as_bytes()).unwrap().iter().any(|part| whole.contains(part.as_str()));
            prop_assert!(found, "{}", whole);
        }
    }
}
