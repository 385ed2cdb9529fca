//! What texts are compared with, in time that does not explode: SQLite's `LIKE`, `GLOB` and `REGEXP`, texts whatever their
//! case, networks.

use crate::models::network::Network;
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;
use std::net::IpAddr;

/// Longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 4_096;
/// Memory that a compiled regular expression may take: the first of these that is enough is what it weighs.
const REGEX_BYTES: [usize; 3] = [32 << 10, 128 << 10, 1 << 20];
/// Memory that it may use while it matches.
const MATCHING_BYTES: usize = 128 << 10;

/// A compiled pattern.
#[derive(Debug)]
pub(super) enum Pattern {
    /// Pieces of `LIKE` or `GLOB`.
    Pieces { pieces: Vec<Piece>, ignore_case: bool },
    /// A regular expression, which the `regex` crate matches in linear time.
    Regex(Box<Regex>),
    /// One of some texts in lower case, so compared with the text in lower case.
    Texts(Comparison, Vec<String>),
    /// One of some networks, which holds the address that the text is.
    Networks(Vec<Network>),
}

/// How a text is compared with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equals,
    Contains,
    StartsWith,
    EndsWith,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// `%` or `*`.
    AnyRun,
    /// `_` or `?`.
    AnyOne,
    /// A character as it is.
    Literal(char),
    /// `[…]` of `GLOB`: characters and ranges, or what is not among them.
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Pattern {
    /// `LIKE`: `%` and `_`; ASCII case does not count.
    pub(super) fn like(pattern: &str, escape: Option<char>) -> Result<Self, String> {
        bounded(pattern)?;
        let mut pieces = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                c if Some(c) == escape => match chars.next() {
                    Some(literal) => Piece::Literal(literal.to_ascii_lowercase()),
                    // As in SQLite, an escape with nothing behind it matches nothing.
                    None => Piece::Class { negated: false, ranges: Vec::new() },
                },
                '%' => Piece::AnyRun,
                '_' => Piece::AnyOne,
                c => Piece::Literal(c.to_ascii_lowercase()),
            });
        }
        Ok(Self::pieces(pieces, true))
    }

    /// `GLOB`: `*`, `?` and `[…]`; case counts.
    pub(super) fn glob(pattern: &str) -> Result<Self, String> {
        bounded(pattern)?;
        let mut pieces = Vec::new();
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            pieces.push(match c {
                '*' => Piece::AnyRun,
                '?' => Piece::AnyOne,
                '[' => {
                    let (class, after) = class(rest);
                    rest = after;
                    class
                }
                c => Piece::Literal(c),
            });
        }
        Ok(Self::pieces(pieces, false))
    }

    /// `REGEXP`: found anywhere in the text; case counts. Tells also about how many bytes it takes.
    pub(super) fn regexp(pattern: &str) -> Result<(Self, usize), String> {
        bounded(pattern)?;
        for limit in REGEX_BYTES {
            let built = RegexBuilder::new(pattern).size_limit(limit).dfa_size_limit(MATCHING_BYTES).build();
            match built {
                Ok(regex) => return Ok((Self::Regex(Box::new(regex)), limit + MATCHING_BYTES)),
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(other) => {
                    let text = other.to_string();
                    let last = text.lines().last().unwrap_or_default();
                    return Err(format!("bad regular expression: {}", last.trim_start_matches("error: ")));
                }
            }
        }
        Err("the regular expression is too large when compiled".to_owned())
    }

    pub(super) fn equals<S: AsRef<str>>(texts: &[S]) -> Self {
        Self::texts(Comparison::Equals, texts)
    }

    pub(super) fn contains<S: AsRef<str>>(texts: &[S]) -> Self {
        Self::texts(Comparison::Contains, texts)
    }

    pub(super) fn starts_with<S: AsRef<str>>(texts: &[S]) -> Self {
        Self::texts(Comparison::StartsWith, texts)
    }

    pub(super) fn ends_with<S: AsRef<str>>(texts: &[S]) -> Self {
        Self::texts(Comparison::EndsWith, texts)
    }

    fn texts<S: AsRef<str>>(comparison: Comparison, texts: &[S]) -> Self {
        Self::Texts(comparison, texts.iter().map(|text| folded(text.as_ref()).into_owned()).collect())
    }

    /// Networks as `10.0.0.0/8`.
    pub(super) fn networks<S: AsRef<str>>(texts: &[S]) -> Result<Self, String> {
        texts.iter().map(|text| text.as_ref().parse()).collect::<Result<_, _>>().map(Self::Networks)
    }

    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Pieces { pieces, .. } => 256 + pieces.len() * size_of::<Piece>(),
            Self::Regex(_) => MATCHING_BYTES,
            Self::Texts(_, texts) => texts.iter().map(|text| text.len() + size_of::<String>()).sum(),
            Self::Networks(networks) => size_of_val(networks.as_slice()),
        }
    }

    fn pieces(mut pieces: Vec<Piece>, ignore_case: bool) -> Self {
        pieces.dedup_by(|later, earlier| *later == Piece::AnyRun && *earlier == Piece::AnyRun);
        Self::Pieces { pieces, ignore_case }
    }

    /// Whether the whole text matches, or for a regular expression a part of it.
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Regex(regex) => regex.is_match(text),
            Self::Pieces { pieces, ignore_case } => match_pieces(pieces, text, *ignore_case),
            Self::Texts(comparison, wanted) => {
                let text = folded(text);
                wanted.iter().any(|wanted| match comparison {
                    Comparison::Equals => text == *wanted,
                    Comparison::Contains => text.contains(wanted.as_str()),
                    Comparison::StartsWith => text.starts_with(wanted.as_str()),
                    Comparison::EndsWith => text.ends_with(wanted.as_str()),
                })
            }
            Self::Networks(networks) => {
                text.parse::<IpAddr>().is_ok_and(|address| networks.iter().any(|network| network.contains(address)))
            }
        }
    }
}

/// The text in lower case, of all letters that have one.
fn folded(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        Cow::Owned(text.to_lowercase())
    } else if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

fn bounded(pattern: &str) -> Result<(), String> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("the pattern has {} bytes; {MAX_PATTERN_BYTES} are allowed", pattern.len()));
    }
    Ok(())
}

/// What follows a `[`: the class and the rest behind its `]`. An open class matches nothing, as in SQLite.
fn class(text: &str) -> (Piece, &str) {
    let (negated, body) = text.strip_prefix('^').map_or((false, text), |body| (true, body));
    let mut ranges = Vec::new();
    let mut chars = body.char_indices().peekable();
    let mut first = true;
    while let Some((at, c)) = chars.next() {
        if c == ']' && !first {
            return (Piece::Class { negated, ranges }, &body[at + 1..]);
        }
        first = false;
        let mut ahead = chars.clone();
        match (ahead.next(), ahead.next()) {
            (Some((_, '-')), Some((_, end))) if end != ']' => {
                chars = ahead;
                ranges.push((c, end));
            }
            _ => ranges.push((c, c)),
        }
    }
    (Piece::Class { negated: false, ranges: Vec::new() }, "")
}

/// Greedy with one point to come back to: at most `pieces × characters` steps.
fn match_pieces(pieces: &[Piece], text: &str, ignore_case: bool) -> bool {
    let mut at = text;
    let mut piece = 0;
    // Where the last run began: the piece behind it, and the text from which to try it next.
    let mut run: Option<(usize, &str)> = None;
    loop {
        let matched = match (pieces.get(piece), at.chars().next()) {
            (None, None) => return true,
            (Some(Piece::AnyRun), _) => {
                piece += 1;
                if piece == pieces.len() {
                    return true;
                }
                run = Some((piece, at));
                continue;
            }
            (Some(own), Some(c)) => fits(own, c, ignore_case).then_some(c.len_utf8()),
            _ => None,
        };
        match (matched, run) {
            (Some(length), _) => {
                at = &at[length..];
                piece += 1;
            }
            (None, Some((after, from))) => {
                let Some(c) = from.chars().next() else { return false };
                let next = &from[c.len_utf8()..];
                run = Some((after, next));
                piece = after;
                at = next;
            }
            (None, None) => return false,
        }
    }
}

fn fits(piece: &Piece, c: char, ignore_case: bool) -> bool {
    match piece {
        Piece::AnyRun => false,
        Piece::AnyOne => true,
        Piece::Literal(literal) => *literal == if ignore_case { c.to_ascii_lowercase() } else { c },
        Piece::Class { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn like_is_sqlites() {
        for (pattern, text, expected) in [
            ("%SH", "/bin/bash", true),
            ("a_c", "aBC", true),
            ("a_c", "ac", false),
            ("%", "", true),
            ("", "", true),
            ("", "x", false),
            ("Ä", "ä", false),
            ("%a%b%", "xxaxxbxx", true),
            ("%a%b", "xxaxxbxx", false),
            ("50!%", "50%", true),
            ("50!%", "500", false),
            ("x!", "x", false),
        ] {
            assert_eq!(Pattern::like(pattern, Some('!')).unwrap().matches(text), expected, "{text:?} LIKE {pattern:?}");
        }
    }

    #[test]
    fn glob_is_sqlites() {
        for (pattern, text, expected) in [
            ("/tmp/*", "/tmp/x/y", true),
            ("/TMP/*", "/tmp/x", false),
            ("[a-c]?", "bz", true),
            ("[^a-c]", "b", false),
            ("[^a-c]", "d", true),
            ("[]]", "]", true),
            ("[a", "a", false),
            ("[a-]", "-", true),
        ] {
            assert_eq!(Pattern::glob(pattern).unwrap().matches(text), expected, "{text:?} GLOB {pattern:?}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_little() {
        let text = "a".repeat(10_000);
        assert!(!Pattern::like(&format!("{}b", "%a".repeat(500)), None).unwrap().matches(&text));
        assert!(!Pattern::regexp("(a+)+$b").unwrap().0.matches(&text));
        assert!(Pattern::regexp("(a{1000}){1000}").unwrap_err().contains("too large"));
        assert!(Pattern::regexp("(").unwrap_err().contains("unclosed group"));
        assert!(Pattern::like(&"a".repeat(5_000), None).is_err());
    }

    proptest! {
        #[test]
        fn like_equals_a_regular_expression(pattern in "[ab%_]{0,8}", text in "[abAB]{0,10}") {
            let oracle = format!("(?is-u)^{}$", pattern.replace('%', "(?s:.)*").replace('_', "(?s:.)"));
            let oracle = Regex::new(&oracle.replace("(?is-u)", "(?is)")).unwrap();
            prop_assert_eq!(Pattern::like(&pattern, None).unwrap().matches(&text), oracle.is_match(&text));
        }

        #[test]
        fn arbitrary_patterns_never_panic(pattern: String, text: String) {
            let _ = Pattern::glob(&pattern).map(|pattern| pattern.matches(&text));
            let _ = Pattern::like(&pattern, Some('\\')).map(|pattern| pattern.matches(&text));
        }
    }
}
