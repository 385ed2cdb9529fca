//! Credit and the queues that it bounds.
//!
//! Every message on its way holds a [`Permit`] of somebody's [`Credit`], so many messages and so many bytes, until it has
//! been written to a socket or taken by the part of the program that it was for. The channels themselves have no bound: the
//! permits are the bound, and whose permit a message holds decides who waits when its receiver is slow.

use std::sync::Arc;

use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::proto::EventBusMessage;

/// So many messages and so many bytes.
#[derive(Debug, Clone)]
pub(crate) struct Credit {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    all_bytes: u32,
}

/// The part of a credit that one message holds; given back when the last clone is dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Permit {
    _held: Option<Arc<(OwnedSemaphorePermit, OwnedSemaphorePermit)>>,
}

impl Permit {
    /// For the few messages whose number something else bounds (one for each subscription or call).
    pub(crate) fn free() -> Self {
        Self::default()
    }
}

impl Credit {
    pub(crate) fn new(messages: usize, bytes: usize) -> Self {
        let all_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            messages: Arc::new(Semaphore::new(messages.clamp(1, Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(all_bytes as usize)),
            all_bytes,
        }
    }

    /// A message larger than all of the credit takes all of it, so that it can pass at all.
    fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.all_bytes)
    }

    /// Waits for room; `None` once the credit is closed.
    pub(crate) async fn acquire(&self, bytes: usize) -> Option<Permit> {
        let message = Arc::clone(&self.messages).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.cost(bytes)).await.ok()?;
        Some(Permit { _held: Some(Arc::new((message, bytes))) })
    }

    /// `None` where there is no room now.
    pub(crate) fn try_acquire(&self, bytes: usize) -> Option<Permit> {
        let message = Arc::clone(&self.messages).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.cost(bytes)).ok()?;
        Some(Permit { _held: Some(Arc::new((message, bytes))) })
    }

    /// Whoever waits, and whoever comes later, is told that there will be no more room.
    pub(crate) fn close(&self) {
        self.messages.close();
        self.bytes.close();
    }
}

/// A message, the credit that it holds, and for a request to a part of this process the credit of the caller's queue.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) message: EventBusMessage,
    pub(crate) permit: Permit,
    pub(crate) room: Option<Credit>,
}

/// The sending end of one connection's queue.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    pub(crate) credit: Credit,
    queue: mpsc::UnboundedSender<Delivery>,
}

impl Outbox {
    pub(crate) fn new(credit: Credit) -> (Self, mpsc::UnboundedReceiver<Delivery>) {
        let (queue, deliveries) = mpsc::unbounded_channel();
        (Self { credit, queue }, deliveries)
    }

    /// Queues a message that holds this queue's own credit; false when the queue is full or at its end.
    pub(crate) fn try_push(&self, message: EventBusMessage) -> bool {
        let permit = self.credit.try_acquire(message.encoded_len());
        permit.is_some_and(|permit| self.push_with(message, permit))
    }

    /// Queues a message that holds somebody's credit already; false at the queue's end.
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
    use super::Credit;

    #[tokio::test]
    async fn either_bound_fills_the_queue() {
        let credit = Credit::new(2, 100);
        let small = (credit.try_acquire(1).unwrap(), credit.try_acquire(1).unwrap());
        assert!(credit.try_acquire(1).is_none(), "two messages are the most");
        drop(small);
        let large = credit.try_acquire(99).unwrap();
        assert!(credit.try_acquire(2).is_none(), "a hundred bytes are the most");
        let shared = large.clone();
        drop(large);
        assert!(credit.try_acquire(2).is_none(), "a clone holds on");
        drop(shared);
        assert!(credit.acquire(1_000_000).await.is_some(), "what is larger than everything may pass alone");
        credit.close();
        assert!(credit.acquire(1).await.is_none());
    }
}
