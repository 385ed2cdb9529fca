//! The steps before the porch: where connections wait whose process [owes](crate::standing).
//!
//! Everybody else goes past them. One of those that wait is let on whenever its process has a failure left to make, and
//! that is spent by having waited. When the steps are full, the one that waited longest is turned back for each that comes,
//! and so is whoever waited for [`PATIENCE`]. So a process that keeps failing is heard a few times a second, and one that
//! waits for its answers spends its time on the steps.
//!
//! Whoever does not wait for its answers makes the broker turn connections back as fast as it can connect. The broker then
//! takes a breath after so many of them, in which the others of the kind pile up in the listener's backlog.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use interprocess::local_socket::tokio::Stream;
use tokio::time::{sleep, sleep_until, timeout};

use super::write_message;
use crate::{
    auth::{Gate, PeerIds},
    message::goodbye,
    os,
    proto::goodbye::Kind,
    standing::TURNED_AWAY,
};

/// Connections that may wait.
const STEPS: usize = 64;

/// The longest that one waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often those that wait are looked at.
const ROUND: Duration = Duration::from_millis(20);

/// After so many that had to wait, so long a breath. Few at a time: each that is turned back wakes its peer, and many peers at
/// once keep everybody else waiting.
const IN_A_ROW: u32 = 8;
const BREATH: Duration = Duration::from_millis(1);

/// Where connections wait whose process owes. The accepting task owns it.
pub(super) struct Steps {
    gate: Gate,
    /// Oldest first.
    waiting: VecDeque<Waiting>,
    in_a_row: u32,
    /// When they are looked at next.
    round: Instant,
}

struct Waiting {
    stream: Stream,
    ids: PeerIds,
    since: Instant,
}

impl Steps {
    pub(super) fn new(gate: Gate) -> Self {
        Self { gate, waiting: VecDeque::new(), in_a_row: 0, round: Instant::now() }
    }

    /// Gives a new connection back, unless it has to wait.
    pub(super) async fn pass(&mut self, stream: Stream) -> Option<Stream> {
        // Where the credentials cannot be read, the greeting says so.
        let Ok(ids) = os::peer_ids(&stream) else { return Some(stream) };
        let since = Instant::now();
        if !self.gate.owes(ids.pid, since) {
            return Some(stream);
        }
        self.waiting.push_back(Waiting { stream, ids, since });
        if self.waiting.len() > STEPS
            && let Some(longest) = self.waiting.pop_front()
        {
            self.turn_back(longest).await;
        }
        self.in_a_row += 1;
        if self.in_a_row >= IN_A_ROW {
            self.in_a_row = 0;
            sleep(BREATH).await;
        }
        None
    }

    /// The next one that may go on. When this is dropped, nobody has lost their place.
    pub(super) async fn next(&mut self) -> Stream {
        loop {
            if self.waiting.is_empty() {
                std::future::pending::<()>().await;
            }
            sleep_until(self.round.into()).await;
            let now = Instant::now();
            self.round = now + ROUND;
            while self.waiting.front().is_some_and(|first| now.duration_since(first.since) >= PATIENCE)
                && let Some(first) = self.waiting.pop_front()
            {
                self.turn_back(first).await;
            }
            let forgiven = self.waiting.iter().position(|waiting| !self.gate.owes(waiting.ids.pid, now));
            if let Some(Waiting { stream, ids, .. }) = forgiven.and_then(|place| self.waiting.remove(place)) {
                self.gate.blame(ids.pid, TURNED_AWAY);
                return stream;
            }
        }
    }

    /// Closes a connection, with a word that is not waited for. It costs its process nothing more, or nobody of it would
    /// ever be heard.
    async fn turn_back(&self, Waiting { stream, ids, .. }: Waiting) {
        let reason = "too many connections of this process have failed; come again in a second";
        self.gate.note_refusal(&ids, reason);
        let _ = timeout(Duration::ZERO, write_message(&mut &stream, &goodbye(Kind::Busy, reason))).await;
    }
}
