//! Room, and the queues that it bounds.
//!
//! Every message on its way holds a [`Permit`] of somebody's [`Room`], so many messages and so many bytes, until it has
//! been written to a socket or taken by the part of the program that it was for. The channels themselves have no bound: the
//! permits are the bound, and whose permit a message holds decides who waits when its receiver is slow.

use std::sync::Arc;

use prost::Message as _;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::proto::{Credit, EventBusMessage};

/// Room for so many messages and so many bytes.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    all_messages: usize,
    all_bytes: u32,
    freed: Arc<Notify>,
}

/// The part of a room that one message holds; given back when the last clone is dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Permit {
    held: Option<Arc<Held>>,
}

#[derive(Debug)]
struct Held {
    _message: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
    /// Last, because fields are dropped in this order: whoever is told finds the room.
    _freed: Freed,
}

#[derive(Debug)]
struct Freed(Arc<Notify>);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

impl Permit {
    /// For the few messages whose number something else bounds (one for each subscription or call).
    pub(crate) fn free() -> Self {
        Self::default()
    }

    /// The bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes.num_permits())
    }
}

impl Room {
    pub(crate) fn new(messages: usize, bytes: usize) -> Self {
        let all_messages = messages.clamp(1, Semaphore::MAX_PERMITS);
        let all_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            messages: Arc::new(Semaphore::new(all_messages)),
            bytes: Arc::new(Semaphore::new(all_bytes as usize)),
            all_messages,
            all_bytes,
            freed: Arc::default(),
        }
    }

    /// A message larger than all of the room takes all of it, so that it can pass at all.
    fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.all_bytes)
    }

    /// Waits for room; `None` once it is closed.
    pub(crate) async fn acquire(&self, bytes: usize) -> Option<Permit> {
        let message = Arc::clone(&self.messages).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.cost(bytes)).await.ok()?;
        Some(self.permit(message, bytes))
    }

    /// `None` where there is no room now.
    pub(crate) fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        let message = Arc::clone(&self.messages).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.cost(bytes)).ok()?;
        Some(self.permit(message, bytes))
    }

    fn permit(&self, message: OwnedSemaphorePermit, bytes: OwnedSemaphorePermit) -> Permit {
        let held = Held { _message: message, bytes, _freed: Freed(Arc::clone(&self.freed)) };
        Permit { held: Some(Arc::new(held)) }
    }

    /// What is taken of it now.
    pub(crate) fn held(&self) -> Credit {
        let all_bytes = self.all_bytes as usize;
        Credit {
            messages: self.all_messages.saturating_sub(self.messages.available_permits()) as u64,
            bytes: all_bytes.saturating_sub(self.bytes.available_permits()) as u64,
        }
    }

    /// Tells, whenever some of it has been given back, whoever waits at that moment.
    pub(crate) fn freed(&self) -> &Notify {
        &self.freed
    }

    /// Whoever waits, and whoever comes later, is told that there will be no more room.
    pub(crate) fn close(&self) {
        self.messages.close();
        self.bytes.close();
    }
}

/// A message, the room that it holds, and for a request to a part of this process the room of the caller's queue.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) message: EventBusMessage,
    pub(crate) permit: Permit,
    pub(crate) room: Option<Room>,
}

/// The sending end of one connection's queue.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    pub(crate) room: Room,
    queue: mpsc::UnboundedSender<Delivery>,
}

impl Outbox {
    pub(crate) fn new(room: Room) -> (Self, mpsc::UnboundedReceiver<Delivery>) {
        let (queue, deliveries) = mpsc::unbounded_channel();
        (Self { room, queue }, deliveries)
    }

    /// Queues a message that holds this queue's own room; false when the queue is full or at its end.
    pub(crate) fn try_push(&self, message: EventBusMessage) -> bool {
        let permit = self.room.try_acquire(message.encoded_len());
        permit.is_some_and(|permit| self.push_with(message, permit))
    }

    /// Queues a message that holds somebody's room already; false at the queue's end.
    pub(crate) fn push_with(&self, message: EventBusMessage, permit: Permit) -> bool {
        self.push_delivery(Delivery { message, permit, room: None })
    }

    pub(crate) fn push_delivery(&self, delivery: Delivery) -> bool {
        self.queue.send(delivery).is_ok()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::Room;

    #[tokio::test]
    async fn either_bound_fills_the_queue() {
        let room = Room::new(2, 100);
        let small = (room.try_acquire(1).unwrap(), room.try_acquire(1).unwrap());
        assert!(room.try_acquire(1).is_none(), "two messages are the most");
        drop(small);
        let large = room.try_acquire(99).unwrap();
        assert!(room.try_acquire(2).is_none(), "a hundred bytes are the most");
        let shared = large.clone();
        drop(large);
        assert!(room.try_acquire(2).is_none(), "a clone holds on");
        drop(shared);
        assert!(room.acquire(1_000_000).await.is_some(), "what is larger than everything may pass alone");
        room.close();
        assert!(room.acquire(1).await.is_none());
    }
}
