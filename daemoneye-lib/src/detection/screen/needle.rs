//! What has to occur in a text for a pattern to match it.
//!
//! Case is compared as ASCII has it in all of them, so that one pass finds those of every pattern; where case counts, it is
//! looked at where one was found. Where all letters' case does not count, a text beyond ASCII is looked at a second time, in
//! lower case.

use super::condition::Matching;
use crate::detection::matching::{Comparison, Pattern, Piece};
use regex_syntax::hir::{Class, Hir, HirKind};
use std::ops::RangeInclusive;

/// Shorter ones, in bytes, occur nearly everywhere.
const MIN_BYTES: usize = 2;
/// A pattern that needs one of more than so many is not worth it.
const MAX_ALTERNATIVES: usize = 64;
/// How deep a regular expression is looked into.
const MAX_DEPTH: usize = 32;

/// A piece of text that a pattern needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needle {
    pub(super) text: String,
    pub(super) at: Place,
    pub(super) case: Case,
}

/// Which letters are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// None but itself.
    Exact,
    /// ASCII's of either case.
    Ascii,
    /// All of which the lower case is the same; the needle has it.
    Lower,
}

/// Where it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Anywhere,
    Start,
    End,
    /// It is all of the text.
    Whole,
}

impl Place {
    /// Whether something is there that was found from here to there in a text of this length.
    pub(super) fn holds(self, start: usize, end: usize, length: usize) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Start => start == 0,
            Self::End => end == length,
            Self::Whole => start == 0 && end == length,
        }
    }
}

/// The needles of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needles {
    /// One of these has to occur.
    pub(super) any: Vec<Needle>,
    /// And where it does, the pattern matches.
    pub(super) decide: bool,
}

impl Needles {
    /// How seldom they occur, roughly: the length of the shortest, and less for many.
    pub(super) fn rarity(&self) -> usize {
        rarity(self.any.iter().map(|needle| needle.text.len()))
    }

    /// Those of a pattern; nothing where it needs none that are worth looking for.
    pub(super) fn of(matching: &Matching) -> Option<Self> {
        match (matching.pattern.as_deref(), matching.texts.as_slice()) {
            (Some(Pattern::Pieces { pieces, ignore_case: true }), _) => of_pieces(pieces, Case::Ascii),
            (Some(Pattern::Pieces { pieces, ignore_case: false }), _) => of_pieces(pieces, Case::Exact),
            (Some(Pattern::Texts(comparison, texts)), _) => of_texts(*comparison, texts),
            (_, [expression]) if matching.function == "__regexp" => of_regex(expression),
            _ => None,
        }
    }
}

/// How seldom one of several texts of these lengths occurs, roughly.
pub(super) fn rarity(lengths: impl ExactSizeIterator<Item = usize>) -> usize {
    let many = lengths.len().checked_ilog2().unwrap_or(0) as usize;
    lengths.min().unwrap_or(0).saturating_sub(many)
}

fn of_texts(comparison: Comparison, texts: &[String]) -> Option<Needles> {
    let at = match comparison {
        Comparison::Equals => Place::Whole,
        Comparison::Contains => Place::Anywhere,
        Comparison::StartsWith => Place::Start,
        Comparison::EndsWith => Place::End,
    };
    let needle = |text: &String| Needle { text: text.clone(), at, case: Case::Lower };
    let is_worth_it = !texts.is_empty() && texts.iter().all(|text| text.len() >= MIN_BYTES);
    is_worth_it.then(|| Needles { any: texts.iter().map(needle).collect(), decide: true })
}

fn of_pieces(pieces: &[Piece], case: Case) -> Option<Needles> {
    let mut longest: Option<(RangeInclusive<usize>, String)> = None;
    let (mut text, mut begin) = (String::new(), 0);
    for (index, piece) in pieces.iter().chain([&Piece::AnyRun]).enumerate() {
        if let Piece::Literal(literal) = piece {
            if text.is_empty() {
                begin = index;
            }
            text.push(*literal);
        } else if !text.is_empty() {
            let text = std::mem::take(&mut text);
            if longest.as_ref().is_none_or(|(_, longest)| longest.len() < text.len()) {
                longest = Some((begin..=index - 1, text));
            }
        }
    }
    let (range, text) = longest.filter(|(_, text)| text.len() >= MIN_BYTES)?;
    let (before, behind) = (pieces.get(..*range.start())?, pieces.get(range.end() + 1..)?);
    let at = match (before, behind) {
        ([], []) => Place::Whole,
        ([], _) => Place::Start,
        (_, []) => Place::End,
        _ => Place::Anywhere,
    };
    let decide = matches!(before, [] | [Piece::AnyRun]) && matches!(behind, [] | [Piece::AnyRun]);
    Some(Needles { any: vec![Needle { text, at, case }], decide })
}

fn of_regex(pattern: &str) -> Option<Needles> {
    let hir = regex_syntax::parse(pattern).ok()?;
    let any = required(&hir, MAX_DEPTH)?;
    // Case counts or does not; the expression itself is asked where one was found.
    let any = any.into_iter().map(|text| Needle { text, at: Place::Anywhere, case: Case::Ascii }).collect();
    Some(Needles { any, decide: false })
}

/// Texts of which one is in whatever the expression matches.
fn required(hir: &Hir, depth: usize) -> Option<Vec<String>> {
    let depth = depth.checked_sub(1)?;
    match hir.kind() {
        HirKind::Capture(capture) => required(&capture.sub, depth),
        HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub, depth),
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(required(branch, depth)?);
                if all.len() > MAX_ALTERNATIVES {
                    return None;
                }
            }
            Some(all)
        }
        HirKind::Concat(parts) => {
            let mut best = None;
            let mut text = String::new();
            for part in parts {
                if matches!(part.kind(), HirKind::Look(_)) {
                    continue;
                }
                if literal(part, &mut text).is_none() {
                    better(&mut best, vec![std::mem::take(&mut text)]);
                    if let Some(of_part) = required(part, depth) {
                        better(&mut best, of_part);
                    }
                }
            }
            better(&mut best, vec![text]);
            best
        }
        _ => {
            let mut text = String::new();
            literal(hir, &mut text)?;
            (text.len() >= MIN_BYTES).then(|| vec![text])
        }
    }
}

fn better(best: &mut Option<Vec<String>>, other: Vec<String>) {
    let rarity = |texts: &[String]| rarity(texts.iter().map(String::len));
    if other.iter().all(|text| text.len() >= MIN_BYTES)
        && best.as_ref().is_none_or(|best| rarity(best) < rarity(&other))
    {
        *best = Some(other);
    }
}

/// Adds the one text that the expression matches, but for the case of ASCII letters.
fn literal(hir: &Hir, text: &mut String) -> Option<()> {
    match hir.kind() {
        HirKind::Literal(literal) => text.push_str(std::str::from_utf8(&literal.0).ok()?),
        HirKind::Class(Class::Unicode(class)) => {
            text.push(one(class.ranges().iter().map(|range| (range.start(), range.end())))?);
        }
        HirKind::Class(Class::Bytes(class)) if class.is_ascii() => {
            let ranges = class.ranges().iter().map(|range| (range.start().into(), range.end().into()));
            text.push(one(ranges)?);
        }
        _ => return None,
    }
    Some(())
}

/// The one letter of a class, of either case.
fn one(mut ranges: impl Iterator<Item = (char, char)>) -> Option<char> {
    match (ranges.next()?, ranges.next(), ranges.next()) {
        ((a, b), None, None) if a == b => Some(a),
        ((a, b), Some((c, d)), None) if a == b && c == d && a.eq_ignore_ascii_case(&c) => Some(c),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(needles: Option<Needles>) -> String {
        let Some(Needles { any, decide }) = needles else { return "none".to_owned() };
        let texts: Vec<_> = any.iter().map(|needle| format!("{}@{:?}", needle.text, needle.at)).collect();
        format!("{}{}", texts.join(" "), if decide { "!" } else { "" })
    }

    #[test]
    fn a_pattern_needs_its_longest_piece() {
        for (pattern, expected) in [
            ("%/Sh", "/sh@End!"),
            ("sh%", "sh@Start!"),
            ("%sh%", "sh@Anywhere!"),
            ("SH", "sh@Whole!"),
            ("%curl%http%", "curl@Anywhere"),
            ("%a%bcd", "bcd@End"),
            ("ab_", "ab@Start"),
            ("_ab%", "ab@Anywhere"),
            ("%ü%", "ü@Anywhere!"),
            ("%a%", "none"),
            ("%", "none"),
            ("", "none"),
        ] {
            let Ok(Pattern::Pieces { pieces, .. }) = Pattern::like(pattern, None) else { panic!("{pattern}") };
            assert_eq!(shown(of_pieces(&pieces, Case::Ascii)), expected, "{pattern}");
        }
    }

    #[test]
    fn an_expression_needs_what_is_in_all_that_it_matches() {
        for (pattern, expected) in [
            ("/dev/(tcp|udp)/", "/dev/@Anywhere"),
            ("(curl|wget) ", "curl@Anywhere wget@Anywhere"),
            // Beside S and s, Unicode has a third one.
            ("(?i)base64", "e64@Anywhere"),
            ("(?i-u)base64", "base64@Anywhere"),
            ("(?i)powershell", "power@Anywhere"),
            ("(ab)?cde", "cde@Anywhere"),
            ("(ab)+x*", "ab@Anywhere"),
            ("^ab$", "ab@Anywhere"),
            (r"a\bcd", "acd@Anywhere"),
            ("[ab]c", "none"),
            ("(ab|x)", "none"),
            (".*", "none"),
            ("(", "none"),
        ] {
            assert_eq!(shown(of_regex(pattern)), expected, "{pattern}");
        }
    }
}
