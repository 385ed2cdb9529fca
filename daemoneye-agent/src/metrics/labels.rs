//! Names from outside as labels: so many, and `other` for the rest, so that nobody can make the metrics grow.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

const OTHER: &str = "other";

/// The names that are labels by now.
pub(super) struct Labels {
    limit: usize,
    known: Mutex<BTreeSet<String>>,
}

impl Labels {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, known: Mutex::default() }
    }

    /// The name, or `other` where there is no room for one more, or it is none.
    pub(super) fn bounded<'n>(&self, name: &'n str) -> &'n str {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(name) {
            return name;
        }
        if known.len() >= self.limit || name.is_empty() || name.len() > 64 {
            return OTHER;
        }
        known.insert(name.to_owned());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::Labels;

    #[test]
    fn names_beyond_the_limit_share_one_label() {
        let labels = Labels::new(2);
        assert_eq!(["a", "b", "c", "a", "b"].map(|name| labels.bounded(name)), ["a", "b", "other", "a", "b"]);
        assert_eq!(Labels::new(2).bounded(""), "other");
    }
}
