//! What waits for the router: a lane for each connection, served in turns.
//!
//! Whoever sends much waits behind its own messages and nobody else's: in each turn a lane gives at most [`QUOTA`] bytes,
//! and a message larger than that costs its lane the turns that follow. A full lane makes its connection wait.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, Semaphore};

use super::Event;

/// Events that may wait in a lane; what they may hold together is bounded by room.
const SLOTS: usize = 32;

/// Bytes that a lane gives in one turn.
const QUOTA: i64 = 16 * 1024;

/// What the smallest event counts.
const LEAST: i64 = 4 * 1024;

/// The router has ended.
#[derive(Debug)]
pub(crate) struct Ended;

/// Makes lanes. Clones are handles to the same.
#[derive(Debug, Clone)]
pub(crate) struct Entrance(Arc<Shared>);

/// Where the events of one connection wait, in their order.
#[derive(Debug)]
pub(crate) struct Lane {
    shared: Arc<Shared>,
    number: u64,
    slots: Arc<Semaphore>,
}

/// The router's end. Dropping it ends all lanes.
#[derive(Debug)]
pub(crate) struct Inbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    last_lane: u64,
    lanes: HashMap<u64, Waiting>,
    /// The lanes in which something waits, in the order of their turns.
    turns: VecDeque<u64>,
}

#[derive(Debug)]
struct Waiting {
    events: VecDeque<Event>,
    slots: Arc<Semaphore>,
    /// What is left of its turn; less than nothing is taken from the turns to come.
    left: i64,
    abandoned: bool,
}

/// A queue without a lane.
pub(crate) fn queue() -> (Entrance, Inbox) {
    let shared = Arc::<Shared>::default();
    (Entrance(Arc::clone(&shared)), Inbox(shared))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entrance {
    pub(crate) fn lane(&self) -> Lane {
        let slots = Arc::new(Semaphore::new(SLOTS));
        let mut state = self.0.state();
        state.last_lane += 1;
        let number = state.last_lane;
        if state.ended {
            slots.close();
        }
        let waiting = Waiting { events: VecDeque::new(), slots: Arc::clone(&slots), left: QUOTA, abandoned: false };
        state.lanes.insert(number, waiting);
        Lane { shared: Arc::clone(&self.0), number, slots }
    }
}

impl Lane {
    /// Waits for a place in the lane.
    pub(crate) async fn send(&self, event: Event) -> Result<(), Ended> {
        self.slots.acquire().await.map_err(|_| Ended)?.forget();
        {
            let mut state = self.shared.state();
            let State { ended: false, lanes, turns, .. } = &mut *state else { return Err(Ended) };
            let Some(lane) = lanes.get_mut(&self.number) else { return Err(Ended) };
            if lane.events.is_empty() {
                turns.push_back(self.number);
            }
            lane.events.push_back(event);
        }
        self.shared.arrived.notify_one();
        Ok(())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let Some(lane) = state.lanes.get_mut(&self.number) else { return };
        lane.abandoned = true;
        if lane.events.is_empty() {
            state.lanes.remove(&self.number);
        }
    }
}

impl Inbox {
    pub(crate) async fn recv(&mut self) -> Event {
        loop {
            if let Some(event) = self.0.state().next() {
                return event;
            }
            self.0.arrived.notified().await;
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let forgotten = {
            let mut state = self.0.state();
            state.ended = true;
            state.turns.clear();
            std::mem::take(&mut state.lanes)
        };
        for lane in forgotten.values() {
            lane.slots.close();
        }
    }
}

impl State {
    fn next(&mut self) -> Option<Event> {
        loop {
            let number = *self.turns.front()?;
            let Some(lane) = self.lanes.get_mut(&number) else {
                self.turns.pop_front();
                continue;
            };
            if lane.left <= 0 {
                lane.left += QUOTA;
                self.turns.rotate_left(1);
                continue;
            }
            let event = lane.events.pop_front();
            lane.left -= event.as_ref().map_or(0, cost);
            lane.slots.add_permits(1);
            if lane.events.is_empty() {
                self.turns.pop_front();
                if lane.abandoned {
                    self.lanes.remove(&number);
                }
            }
            if event.is_some() {
                return event;
            }
        }
    }
}

fn cost(event: &Event) -> i64 {
    match event {
        Event::Message { permit, .. } => i64::try_from(permit.bytes()).unwrap_or(i64::MAX).max(LEAST),
        Event::Joined(_) | Event::Left { .. } | Event::Stop => LEAST,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{Event, SLOTS, queue};
    use crate::{
        message::heartbeat,
        queue::{Permit, Room},
    };

    fn event(connection: u64, permit: Permit) -> Event {
        Event::Message { connection, message: heartbeat(0), permit }
    }

    fn sender(event: &Event) -> u64 {
        match event {
            Event::Message { connection, .. } => *connection,
            _ => 0,
        }
    }

    #[tokio::test]
    async fn a_full_lane_delays_nobody_else() {
        let (entrance, mut inbox) = queue();
        let (noisy, normal) = (entrance.lane(), entrance.lane());
        for _ in 0..SLOTS {
            noisy.send(event(1, Permit::free())).await.unwrap();
        }
        normal.send(event(2, Permit::free())).await.unwrap();
        let mut before = 0;
        while sender(&inbox.recv().await) == 1 {
            before += 1;
        }
        assert_eq!(before, 4, "one turn of small messages");
    }

    #[tokio::test]
    async fn large_messages_cost_their_sender_the_next_turns() {
        let (entrance, mut inbox) = queue();
        let (large, small) = (entrance.lane(), entrance.lane());
        let room = Room::new(100, 100 << 20);
        for _ in 0..4 {
            large.send(event(1, room.try_acquire(1 << 20).unwrap())).await.unwrap();
        }
        let (mut order, mut small_sent) = (Vec::new(), 0);
        while order.len() < 100 {
            while small_sent < order.len() + 20 && small_sent < 96 {
                small.send(event(2, Permit::free())).await.unwrap();
                small_sent += 1;
            }
            order.push(sender(&inbox.recv().await));
        }
        let early = order[..50].iter().filter(|sender| **sender == 1).count();
        assert_eq!(early, 1, "a megabyte is worth 64 turns: {order:?}");
        assert_eq!(order.iter().filter(|sender| **sender == 1).count(), 4, "and all of it comes in the end");
    }

    #[tokio::test]
    async fn what_was_sent_before_a_lane_ended_arrives_and_then_it_is_gone() {
        let (entrance, mut inbox) = queue();
        let lane = entrance.lane();
        lane.send(event(1, Permit::free())).await.unwrap();
        drop(lane);
        assert_eq!(sender(&inbox.recv().await), 1);
        assert!(inbox.0.state().lanes.is_empty());
        let lane = entrance.lane();
        drop(inbox);
        assert!(lane.send(event(1, Permit::free())).await.is_err());
        assert!(entrance.lane().send(event(1, Permit::free())).await.is_err());
    }
}
