//! Topics and the patterns that select them.
//!
//! A topic is at most 8 segments of `a-z`, `0-9`, `_` and `-`, joined by `.`, and at most 128 bytes; a segment may end in `@`
//! and a number from 2 to 999, which is how the further instances of a collector are named. In a pattern a segment
//! may be `+`, which stands for exactly one segment, and the last may be `#`, which stands for the rest, however long (also
//! for nothing).

/// The longest topic or pattern, in bytes.
pub const MAX_LENGTH: usize = 128;

/// The most segments of a topic or pattern.
pub const MAX_SEGMENTS: usize = 8;

/// Why a text is no topic or no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It is too long or has too many segments.
    #[error(
        "a topic of {bytes} bytes in {segments} segments is over the limit of {MAX_LENGTH} bytes in {MAX_SEGMENTS} segments"
    )]
    TooLong {
        /// Its length.
        bytes: usize,
        /// Its segments.
        segments: usize,
    },
    /// A segment is empty or has a character that none may have.
    #[error("segment {number} of topic {topic:?} is not made of a-z, 0-9, _ and -")]
    Segment {
        /// The whole text.
        topic: String,
        /// Which segment, from 1.
        number: usize,
    },
}

/// Whether a text can be one segment of a topic, and so the name of a collector.
pub fn is_segment(text: &str) -> bool {
    let (base, instance) = text.split_once('@').map_or((text, None), |(base, instance)| (base, Some(instance)));
    let is_number = |text: &str| {
        text.len() <= 3
            && !text.starts_with('0')
            && text.bytes().all(|b| b.is_ascii_digit())
            && text.parse().is_ok_and(|number: u16| number >= 2)
    };
    !base.is_empty()
        && base.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
        && instance.is_none_or(is_number)
}

/// What a collector and its further instances have in common: `procmond` of `procmond@2`.
pub fn base(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// Checks that a text is a topic.
///
/// # Errors
/// It is not.
pub fn check(topic: &str) -> Result<(), TopicError> {
    check_segments(topic, |segment, _| is_segment(segment))
}

fn check_segments(text: &str, good: impl Fn(&str, bool) -> bool) -> Result<(), TopicError> {
    let segments = text.split('.').count();
    if text.len() > MAX_LENGTH || segments > MAX_SEGMENTS {
        return Err(TopicError::TooLong { bytes: text.len(), segments });
    }
    match text.split('.').zip(1..).find(|(segment, number)| !good(segment, *number == segments)) {
        Some((_, number)) => Err(TopicError::Segment { topic: text.to_owned(), number }),
        None => Ok(()),
    }
}

/// A checked pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// A segment is neither one of a topic nor `+`, nor `#` at the end.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_segments(text, |segment, last| segment == "+" || (segment == "#" && last) || is_segment(segment))?;
        Ok(Self(text.to_owned()))
    }

    /// Whether it selects a topic.
    pub fn matches(&self, topic: &str) -> bool {
        let mut segments = topic.split('.');
        for wanted in self.0.split('.') {
            if wanted == "#" {
                return true;
            }
            match segments.next() {
                Some(segment) if wanted == "+" || wanted == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }

    /// Whether there can be a topic that both select.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.split('.'), other.0.split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
                _ => return false,
            }
        }
    }

    /// The text that it was made from.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Pattern, base, check};

    #[test]
    fn patterns_select_as_the_table_says() {
        let table = [
            ("alerts.high", "alerts.high", true),
            ("alerts.high", "alerts.low", false),
            ("alerts.high", "alerts", false),
            ("alerts.high", "alerts.high.now", false),
            ("events.+.procmond", "events.process.procmond", true),
            ("events.+.procmond", "events.network.procmond", true),
            ("events.+.procmond", "events.procmond", false),
            ("events.+.procmond", "events.process.other", false),
            ("events.+.procmond", "events.process.x.procmond", false),
            ("+", "alerts", true),
            ("+", "alerts.high", false),
            ("+.+", "alerts.high", true),
            ("alerts.#", "alerts.high", true),
            ("alerts.#", "alerts.high.now", true),
            ("alerts.#", "alerts", true),
            ("alerts.#", "alertsx.high", false),
            ("#", "anything.at.all", true),
            ("+.#", "anything", true),
            ("+.high.#", "alerts.high.a.b", true),
            ("+.high.#", "alerts.low.a.b", false),
        ];
        for (pattern, topic, selects) in table {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(topic), selects, "{pattern} on {topic}");
        }
    }

    #[test]
    fn patterns_overlap_as_the_table_says() {
        let table = [
            ("events.#", "events.+.procmond", true),
            ("#", "events.+.procmond", true),
            ("events.process.+", "events.+.procmond", true),
            ("events.process.other", "events.+.procmond", false),
            ("events.+", "events.+.procmond", false),
            ("events.+.procmond.#", "events.+.procmond", true),
            ("alerts.#", "events.+.procmond", false),
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
        ];
        for (a, b, overlap) in table {
            let (pattern, other) = (Pattern::parse(a).unwrap(), Pattern::parse(b).unwrap());
            assert_eq!(pattern.overlaps(&other), overlap, "{a} and {b}");
            assert_eq!(other.overlaps(&pattern), overlap, "{b} and {a}");
        }
    }

    #[test]
    fn instances_have_their_collectors_name_in_common() {
        assert_eq!((base("procmond"), base("procmond@2"), base("net-1@17")), ("procmond", "procmond", "net-1"));
    }

    #[test]
    fn only_well_made_topics_pass() {
        for good in [
            "a",
            "tasks.procmond@2",
            "a.b@999",
            "requests.query",
            "events.process.procmond-2",
            "a.b.c.d.e.f.g.h",
            &"x".repeat(128),
        ] {
            assert!(check(good).is_ok(), "{good}");
            assert!(Pattern::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a@",
            "a@1",
            "a@02",
            "a@1000",
            "a@+2",
            "@2",
            "a@2@3",
            "A",
            "a b",
            "ä",
            "a/b",
            "a.b.c.d.e.f.g.h.i",
            "*",
            "a.*",
            "a\0",
            &"x".repeat(129),
        ] {
            assert!(check(bad).is_err(), "{bad}");
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        for pattern in ["+", "#", "a.+", "a.#"] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
        for pattern in ["#.a", "a.#.b", "a+", "a#", "++", "a.b#"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
