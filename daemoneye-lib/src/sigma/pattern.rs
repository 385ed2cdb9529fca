//! The values of Sigma: texts with wildcards.
//!
//! `*` stands for any characters, line breaks among them, and `?` for one. A backslash takes the meaning of a wildcard or of
//! a backslash behind it; before anything else it stands for itself.

/// A part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// `*`
    Any,
    /// `?`
    One,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    Equals,
    Contains,
    StartsWith,
    EndsWith,
}

/// What of a value is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Any text.
    Anything,
    /// A text, so compared.
    Plain(How, String),
    /// Wildcards where [`How`] cannot say them.
    Parts(Vec<Part>),
}

/// The parts of a value as it is written.
pub(super) fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let wildcard = match c {
            '*' => Part::Any,
            '?' => Part::One,
            '\\' => {
                literal.push(chars.next_if(|next| matches!(next, '*' | '?' | '\\')).unwrap_or('\\'));
                continue;
            }
            c => {
                literal.push(c);
                continue;
            }
        };
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal)));
        }
        parts.push(wildcard);
    }
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    parts
}

/// The value as a text, where it has no wildcards.
pub(super) fn plain(parts: &[Part]) -> Option<&str> {
    match parts {
        [] => Some(""),
        [Part::Text(text)] => Some(text),
        _ => None,
    }
}

/// What is looked for when a value is so compared.
pub(super) fn shape(mut parts: Vec<Part>, how: How) -> Shape {
    // An empty text is contained in every text.
    if matches!(how, How::Contains | How::EndsWith) {
        parts.insert(0, Part::Any);
    }
    if matches!(how, How::Contains | How::StartsWith) {
        parts.push(Part::Any);
    }
    parts.dedup_by(|later, earlier| *later == Part::Any && *earlier == Part::Any);
    match parts.as_slice() {
        [] => Shape::Plain(How::Equals, String::new()),
        [Part::Any] => Shape::Anything,
        [Part::Text(text)] => Shape::Plain(How::Equals, text.clone()),
        [Part::Any, Part::Text(text), Part::Any] => Shape::Plain(How::Contains, text.clone()),
        [Part::Text(text), Part::Any] => Shape::Plain(How::StartsWith, text.clone()),
        [Part::Any, Part::Text(text)] => Shape::Plain(How::EndsWith, text.clone()),
        _ => Shape::Parts(parts),
    }
}

/// The parts as a regular expression that ignores case.
pub(super) fn regex(parts: &[Part]) -> String {
    let mut regex = "(?is)".to_owned();
    let inner = match parts {
        [Part::Any, inner @ ..] => inner,
        inner => {
            regex.push('^');
            inner
        }
    };
    let (inner, end) = match inner {
        [inner @ .., Part::Any] => (inner, ""),
        inner => (inner, "$"),
    };
    for part in inner {
        match part {
            Part::Text(text) => regex.push_str(&regex::escape(text)),
            Part::Any => regex.push_str(".*"),
            Part::One => regex.push('.'),
        }
    }
    regex.push_str(end);
    regex
}

/// The parts as a pattern of `GLOB`, in which case counts.
pub(super) fn glob(parts: &[Part]) -> String {
    let mut glob = String::new();
    for part in parts {
        match part {
            Part::Text(text) => text.chars().for_each(|c| match c {
                '*' | '?' | '[' => glob.extend(['[', c, ']']),
                c => glob.push(c),
            }),
            Part::Any => glob.push('*'),
            Part::One => glob.push('?'),
        }
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    #[test]
    fn a_backslash_takes_the_meaning_of_what_is_special() {
        for (value, wanted) in [
            ("", vec![]),
            ("a*b?c", vec![text("a"), Part::Any, text("b"), Part::One, text("c")]),
            (r"C:\Windows\*", vec![text(r"C:\Windows*")]),
            (r"C:\Windows\\*", vec![text(r"C:\Windows\"), Part::Any]),
            (r"\\\\host", vec![text(r"\\host")]),
            (r"\\host", vec![text(r"\host")]),
            (r"a\?b\", vec![text(r"a?b\")]),
            (r"\n", vec![text(r"\n")]),
        ] {
            assert_eq!(parts(value), wanted, "{value}");
        }
    }

    #[test]
    fn wildcards_at_the_ends_are_ways_to_compare() {
        let plain = |how, text: &str| Shape::Plain(how, text.to_owned());
        for (value, how, wanted) in [
            ("a", How::Equals, plain(How::Equals, "a")),
            ("*a*", How::Equals, plain(How::Contains, "a")),
            ("a*", How::Equals, plain(How::StartsWith, "a")),
            ("**a", How::Equals, plain(How::EndsWith, "a")),
            ("*a", How::StartsWith, plain(How::Contains, "a")),
            ("a", How::EndsWith, plain(How::EndsWith, "a")),
            ("", How::Equals, plain(How::Equals, "")),
            ("", How::Contains, Shape::Anything),
            ("*", How::Equals, Shape::Anything),
            ("?*", How::Equals, Shape::Parts(vec![Part::One, Part::Any])),
            ("a*b", How::StartsWith, Shape::Parts(vec![text("a"), Part::Any, text("b"), Part::Any])),
        ] {
            assert_eq!(shape(parts(value), how), wanted, "{value} {how:?}");
        }
    }

    #[test]
    fn parts_become_patterns() {
        let of = |value: &str| parts(value);
        assert_eq!(regex(&of("/etc/*.conf")), r"(?is)^/etc/.*\.conf$");
        assert_eq!(regex(&of("*a?b*c*")), "(?is)a.b.*c");
        assert_eq!(glob(&of(r"\*[a]*?")), "[*][[]a]*?");
    }
}
