//! The batches that were published and are not acknowledged: flow control, and the proof that the agent is alive.

use daemoneye_lib::models::event::Epoch;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Unacknowledged batches, at most. A slow agent holds the publisher here, and the spool grows instead. The agent acknowledges
/// five times a second; what comes in the meantime is to be with its rules at once.
const BATCHES: usize = 16;
/// An agent that acknowledges nothing for so long is connected anew.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The batches in flight, oldest first.
#[derive(Debug)]
pub(super) struct Window {
    patience: Duration,
    in_flight: VecDeque<(Epoch, u64)>,
    progress: Option<Instant>,
}

impl Window {
    /// An empty window; without progress for so long its [deadline](Self::deadline) has come.
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, in_flight: VecDeque::new(), progress: None }
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < BATCHES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// A batch whose last item has this sequence is on its way.
    pub(super) fn sent(&mut self, epoch: Epoch, last: u64, now: Instant) {
        if self.in_flight.is_empty() {
            self.progress = Some(now);
        }
        self.in_flight.push_back((epoch, last));
    }

    /// Everything of the epoch up to this sequence is committed.
    pub(super) fn acknowledged(&mut self, epoch: Epoch, through: u64, now: Instant) {
        self.in_flight.retain(|(of, last)| *of != epoch || *last > through);
        self.progress = Some(now);
    }

    /// The connection is gone, and with it what was in flight.
    pub(super) fn clear(&mut self) {
        self.in_flight.clear();
    }

    /// When to lose patience with the agent.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.in_flight.is_empty() { None } else { self.progress.map(|at| at + self.patience) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_make_room_within_their_epoch() {
        let (old, new) = (Epoch([1; 16]), Epoch([2; 16]));
        let now = Instant::now();
        let mut window = Window::new(PATIENCE);
        let more = (0..BATCHES as u64 - 4).map(|more| (new, 16 + more));
        for (epoch, last) in [(old, 10), (old, 20), (new, 5), (new, 15)].into_iter().chain(more) {
            assert!(window.has_room());
            window.sent(epoch, last, now);
        }
        assert!(!window.has_room());
        window.acknowledged(old, 19, now);
        assert!(window.has_room(), "the first batch is covered");
        window.acknowledged(old, 30, now);
        window.acknowledged(new, 14, now);
        assert!(!window.is_empty());
        window.acknowledged(new, 15 + BATCHES as u64, now);
        assert!(window.is_empty());
    }

    #[test]
    fn patience_counts_from_the_last_progress() {
        let epoch = Epoch([1; 16]);
        let start = Instant::now();
        let later = start + Duration::from_secs(10);
        let mut window = Window::new(PATIENCE);
        assert_eq!(window.deadline(), None, "nothing is expected");
        window.sent(epoch, 1, start);
        window.sent(epoch, 2, later);
        assert_eq!(window.deadline(), Some(start + PATIENCE));
        window.acknowledged(epoch, 1, later);
        assert_eq!(window.deadline(), Some(later + PATIENCE));
        window.acknowledged(epoch, 2, later);
        assert_eq!(window.deadline(), None);
    }
}
