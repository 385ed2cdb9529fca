//! What is known of so many versions of files, of which the one that was asked for least recently gives way.

use super::{Outcome, Version};
use std::collections::HashMap;

/// More different executables than run on a host between two looks at them; about half a megabyte.
pub(super) const MAX_VERSIONS: usize = 4096;
/// So many give way at once, so that looking for them is rare.
const AT_ONCE: usize = MAX_VERSIONS / 8;

#[derive(Default)]
pub(super) struct Cache {
    known: HashMap<Version, (Outcome, u64)>,
    /// Counts questions.
    time: u64,
}

impl Cache {
    pub(super) fn get(&mut self, version: Version) -> Option<Outcome> {
        self.time += 1;
        let (outcome, asked) = self.known.get_mut(&version)?;
        *asked = self.time;
        Some(*outcome)
    }

    pub(super) fn put(&mut self, version: Version, outcome: Outcome) {
        if self.known.len() >= MAX_VERSIONS {
            let mut times: Vec<u64> = self.known.values().map(|(_, asked)| *asked).collect();
            let (_, oldest_kept, _) = times.select_nth_unstable(AT_ONCE);
            let oldest_kept = *oldest_kept;
            self.known.retain(|_, (_, asked)| *asked >= oldest_kept);
        }
        self.time += 1;
        self.known.insert(version, (outcome, self.time));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
