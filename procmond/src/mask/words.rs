//! Text as the words of a command line, roughly as a shell takes it apart.

use std::ops::Range;

/// A word, with its quotes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) place: Range<usize>,
    /// Another command begins with it.
    pub(super) begins: bool,
    /// What stands between quotes in it and has spaces.
    pub(super) quoted: Vec<Range<usize>>,
}

/// Calls back for every word. Without `quotes` they separate words like spaces.
pub(super) fn split(text: &str, quotes: bool, mut each: impl FnMut(Word)) {
    let bytes = text.as_bytes();
    let mut word = Word { begins: true, ..Word::default() };
    let mut inside = false;
    // A quote that nothing closes is an apostrophe; looked for once.
    let mut open = [quotes; 2];
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let next = match byte {
            b'\\' => at + 2,
            b'\'' | b'"' => {
                let kind = usize::from(*byte == b'"');
                let closed = if open[kind] { close(bytes, at + 1, *byte) } else { None };
                open[kind] = closed.is_some();
                if let Some(end) = closed {
                    let between = at + 1..end;
                    if bytes.get(between.clone()).unwrap_or_default().iter().any(u8::is_ascii_whitespace) {
                        word.quoted.push(between);
                    }
                }
                closed.map_or(at + 1, |end| end + 1)
            }
            _ => at + 1,
        };
        let separates = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b';' | b'|' | b'&' | b'(' | b')' | b'`' => true,
            b'\'' | b'"' => !quotes,
            _ => false,
        };
        if separates {
            if inside {
                inside = false;
                word.place.end = at;
                each(std::mem::take(&mut word));
            }
            word.begins |= matches!(byte, b'\n' | b';' | b'|' | b'&' | b'(' | b')' | b'`');
        } else if !inside {
            inside = true;
            word.place.start = at;
        }
        at = next;
    }
    if inside {
        word.place.end = bytes.len();
        each(word);
    }
}

/// Where the quote ends that began before `from`.
fn close(bytes: &[u8], from: usize, quote: u8) -> Option<usize> {
    let mut at = from;
    loop {
        match bytes.get(at)? {
            b'\\' if quote == b'"' => at += 2,
            byte if *byte == quote => return Some(at),
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    fn words(text: &str, quotes: bool) -> Vec<String> {
        let mut words = Vec::new();
        split(text, quotes, |word| {
            let mark = if word.begins { "^" } else { "" };
            words.push(format!("{mark}{}", &text[word.place]));
        });
        words
    }

    #[test]
    fn words_are_those_of_a_shell() {
        assert_eq!(words("a  b\t'c d' e'f g'h", true), ["^a", "b", "'c d'", "e'f g'h"]);
        assert_eq!(words("a;b | c && d", true), ["^a", "^b", "^c", "^d"]);
        assert_eq!(words("x \"a \\\" b\" y", true), ["^x", "\"a \\\" b\"", "y"]);
        assert_eq!(words("it's a \"b", true), ["^it's", "a", "\"b"]);
        assert_eq!(words("say 'a b'", false), ["^say", "a", "b"]);
        assert_eq!(words("ü\\", true), ["^ü\\"]);
        assert_eq!(words(" ;  ", true), Vec::<String>::new());
    }

    #[test]
    fn many_quotes_that_nothing_closes_cost_no_more_than_one() {
        let text = "\"'".repeat(200_000) + "\\";
        assert!(words(&text, true).len() < 200_000);
    }
}
