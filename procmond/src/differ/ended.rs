//! Processes that have ended, for what their children's events say of them.

use super::Known;
use std::collections::{HashMap, VecDeque};

/// So many are kept.
const MAX_ENTRIES: usize = 8192;
/// With so much text.
const MAX_TEXT: usize = 2 * 1024 * 1024;

/// By pid and start; the first to end is the first to go.
#[derive(Default)]
pub(super) struct Ended {
    known: HashMap<(u32, u64), Known>,
    order: VecDeque<(u32, u64)>,
    text: usize,
}

impl Ended {
    pub(super) fn get(&self, pid: u32, start_ticks: u64) -> Option<&Known> {
        self.known.get(&(pid, start_ticks))
    }

    pub(super) fn put(&mut self, pid: u32, known: Known) {
        let key = (pid, known.start_ticks);
        self.text += known.text();
        match self.known.insert(key, known) {
            Some(before) => self.text -= before.text(),
            None => self.order.push_back(key),
        }
        while (self.known.len() > MAX_ENTRIES || self.text > MAX_TEXT)
            && let Some(oldest) = self.order.pop_front()
        {
            self.text -= self.known.remove(&oldest).map_or(0, |known| known.text());
        }
    }

    /// The process runs after all.
    pub(super) fn remove(&mut self, pid: u32, start_ticks: u64) {
        let key = (pid, start_ticks);
        if let Some(known) = self.known.remove(&key) {
            self.text -= known.text();
            self.order.retain(|other| *other != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_text_are_bounded_and_the_oldest_go_first() {
        let mut ended = Ended::default();
        for pid in 0..20_000 {
            ended.put(pid, Known { start_ticks: 7, ..Known::default() });
        }
        assert_eq!((ended.known.len(), ended.order.len()), (MAX_ENTRIES, MAX_ENTRIES));
        assert!(ended.get(19_999, 7).is_some() && ended.get(0, 7).is_none() && ended.get(19_999, 8).is_none());
        ended.remove(19_999, 7);
        assert_eq!((ended.known.len(), ended.order.len()), (MAX_ENTRIES - 1, MAX_ENTRIES - 1));
        let long = || Some("x".repeat(4096));
        for pid in 0..2000 {
            ended.put(pid, Known { start_ticks: 9, command_line: long(), ..Known::default() });
            ended.put(pid, Known { start_ticks: 9, command_line: long(), ..Known::default() });
        }
        assert!(ended.text <= MAX_TEXT && ended.known.len() <= MAX_TEXT / 4096);
        assert_eq!(ended.text, ended.known.values().map(Known::text).sum::<usize>());
    }
}
