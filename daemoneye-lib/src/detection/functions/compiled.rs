//! Compiled patterns, kept from one batch to the next: compiling a regular expression costs more than matching many rows.
//!
//! What is kept is bounded by its weight; the oldest makes room for the newest. A pattern that is not kept is compiled again,
//! which costs time and nothing else.

use super::patterns::compile;
use crate::detection::matching::Pattern;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// What all kept patterns may weigh together, in bytes.
const MAX_WEIGHT: usize = 32 << 20;

/// Which function, which pattern, which escape character.
type Key = (&'static str, String, Option<char>);

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Kept {
    patterns: HashMap<Key, (Arc<Pattern>, usize)>,
    by_age: VecDeque<Key>,
    weight: usize,
}

impl Kept {
    fn keep(&mut self, key: Key, pattern: Arc<Pattern>, weight: usize, most: usize) {
        if weight > most || self.patterns.contains_key(&key) {
            return;
        }
        while self.weight + weight > most {
            let Some(oldest) = self.by_age.pop_front() else { break };
            if let Some((_, freed)) = self.patterns.remove(&oldest) {
                self.weight -= freed;
            }
        }
        self.weight += weight;
        self.by_age.push_back(key.clone());
        self.patterns.insert(key, (pattern, weight));
    }
}

/// The compiled pattern of a function's call.
pub(super) fn compiled(function: &'static str, pattern: &str, escape: Option<char>) -> Result<Arc<Pattern>, String> {
    let key: Key = (function, pattern.to_owned(), escape);
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, _)) = kept().patterns.get(&key) {
        return Ok(Arc::clone(known));
    }
    // Without the lock: compiling may take long.
    let (pattern, weight) = compile(function, pattern, escape)?;
    let pattern = Arc::new(pattern);
    kept().keep(key, Arc::clone(&pattern), weight, MAX_WEIGHT);
    Ok(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_compiled_once() {
        let again = || compiled("__regexp", "a pattern that no other test has+", None).unwrap();
        assert!(Arc::ptr_eq(&again(), &again()));
        assert!(!Arc::ptr_eq(&again(), &compiled("glob", "a pattern that no other test has+", None).unwrap()));
        assert!(compiled("__regexp", "(", None).is_err());
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let mut kept = Kept::default();
        let pattern = || Arc::new(Pattern::glob("x").unwrap());
        let key = |name: &str| ("glob", name.to_owned(), None);
        for name in ["a", "b", "c", "a", "d"] {
            kept.keep(key(name), pattern(), 40, 100);
            assert!(kept.weight <= 100 && kept.patterns.len() == kept.by_age.len());
        }
        kept.keep(key("too heavy"), pattern(), 101, 100);
        let mut left: Vec<_> = kept.patterns.keys().map(|(_, name, _)| name.as_str()).collect();
        left.sort_unstable();
        assert_eq!(left, ["a", "d"]);
    }
}
