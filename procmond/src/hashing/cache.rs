//! So many things that are known, of which the one that was asked for least recently gives way.

use std::collections::HashMap;
use std::hash::Hash;

/// What is known by its key.
pub(crate) struct Cache<K, V> {
    known: HashMap<K, (V, u64)>,
    most: usize,
    /// Counts questions.
    time: u64,
}

impl<K: Eq + Hash, V> Cache<K, V> {
    /// Room for so many.
    pub(crate) fn new(most: usize) -> Self {
        Self { known: HashMap::new(), most, time: 0 }
    }

    /// What is known of it.
    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        self.time += 1;
        let (value, asked) = self.known.get_mut(key)?;
        *asked = self.time;
        Some(value)
    }

    /// Learns something, in the place of what was known.
    pub(crate) fn put(&mut self, key: K, value: V) {
        if self.known.len() >= self.most && !self.known.contains_key(&key) {
            let mut times: Vec<u64> = self.known.values().map(|(_, asked)| *asked).collect();
            // An eighth gives way at once, so that looking for them is rare.
            let (_, oldest_kept, _) = times.select_nth_unstable(self.most / 8);
            let oldest_kept = *oldest_kept;
            self.known.retain(|_, (_, asked)| *asked >= oldest_kept);
        }
        self.time += 1;
        self.known.insert(key, (value, self.time));
    }

    /// Forgets it.
    pub(crate) fn remove(&mut self, key: &K) {
        self.known.remove(key);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}
