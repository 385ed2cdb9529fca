//! Which processes a task is about.

use crate::scan::Glance;
use collector_core::TaskError;
use daemoneye_lib::models::text::escape_bytes;
use daemoneye_lib::proto::common::ProcessRecord;
use daemoneye_lib::proto::ipc::ProcessFilter;

const MAX_VALUES: usize = 10_000;
const MAX_PATTERN: usize = 4_096;

/// A checked filter; each kind that is given must be met.
#[derive(Debug)]
pub(super) struct Filter(ProcessFilter);

impl Filter {
    pub(super) fn new(filter: Option<ProcessFilter>) -> Result<Self, TaskError> {
        let filter = filter.unwrap_or_default();
        if filter.process_names.len() > MAX_VALUES || filter.pids.len() > MAX_VALUES {
            return Err(TaskError::Refused(format!("a filter has at most {MAX_VALUES} names and pids")));
        }
        if filter.executable_pattern.as_ref().is_some_and(|pattern| pattern.len() > MAX_PATTERN) {
            return Err(TaskError::Refused(format!("a pattern has at most {MAX_PATTERN} bytes")));
        }
        Ok(Self(filter))
    }

    /// Whether the first look speaks for the process.
    pub(super) fn admits(&self, glance: &Glance<'_>) -> bool {
        let Self(ProcessFilter { process_names, pids, .. }) = self;
        (pids.is_empty() || pids.contains(&glance.pid))
            && (process_names.is_empty() || process_names.contains(&escape_bytes(glance.stat.name())))
    }

    /// Whether the whole record does, too.
    pub(super) fn admits_record(&self, record: &ProcessRecord) -> bool {
        let Some(pattern) = &self.0.executable_pattern else { return true };
        record.executable_path.as_ref().is_some_and(|path| matches(pattern, path))
    }
}

/// Whether a text is what a pattern says: `*` stands for any characters, `?` for one.
///
/// Only the last `*` is ever gone back to, so that the time is at most the product of both lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut place) = (0, 0);
    let mut star = None;
    while place < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(c) if *c == '?' || text.get(place) == Some(c) => {
                at += 1;
                place += 1;
            }
            _ => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                (at, place) = (after + 1, taken + 1);
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_the_table_says() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("/tmp/*", "/tmp/a/b", true),
            ("/tmp/*", "/var/tmp/a", false),
            ("*/sh", "/usr/bin/sh", true),
            ("*/sh", "/usr/bin/bash", false),
            ("/u*/b?n/*s*h", "/usr/bin/bash", true),
            ("?", "ü", true),
            ("[a]", "a", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        let hostile = "*a".repeat(1_000) + "b";
        assert!(!matches(&hostile, &"a".repeat(4_000)));
    }

    proptest! {
        #[test]
        fn a_text_is_what_it_says_with_parts_left_open(text in "[a-c/]{0,20}", from in 0_usize..20, to in 0_usize..20) {
            let (from, to) = (from.min(text.len()), to.min(text.len()));
            let (from, to) = (from.min(to), from.max(to));
            prop_assert!(matches(&text, &text));
            let open = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(matches(&open, &text));
        }
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let filter = |filter| Filter::new(Some(filter));
        assert!(filter(ProcessFilter { pids: vec![1; MAX_VALUES + 1], ..ProcessFilter::default() }).is_err());
        let executable_pattern = Some("x".repeat(MAX_PATTERN + 1));
        assert!(filter(ProcessFilter { executable_pattern, ..ProcessFilter::default() }).is_err());
    }
}
