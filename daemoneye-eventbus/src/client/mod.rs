//! The client: publish, subscribe, serve, call.
//!
//! One task drives each connection; handles talk to it through a bounded queue, and it hands what arrives to the
//! subscription, the server or the call that it is for. What has arrived and was not taken yet is bounded too: when a client
//! leaves too much untaken, its connection is not read, and the broker deals with it as with any slow reader. So whoever
//! subscribes must keep taking, and a part of the program that may be slow needs a client of its own.
//!
//! Mistakes that lie in the program, such as a topic that is none or a message larger than a frame, close the connection
//! with that reason: dropping the message would lose it silently.

mod call;
mod connect;
mod credit;
mod drive;
mod serve;
mod table;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Weak},
};

use prost::Message as _;
use tokio::sync::mpsc;

pub use call::{CallError, Gathered, Part, Responses};
pub use connect::{ConnectError, Connected, Credential, Identity};
pub use serve::{Gone, Request, Requests};

use crate::{
    broker::Lane,
    frame::MAX_FRAME,
    message::{self, STAMP},
    proto::{Credit, EventBusMessage, Subscribe, Unsubscribe, control_payload::Control, event_bus_message::Payload},
    queue::{Delivery, Outbox, Permit, Room},
    topic::Pattern,
};
use credit::Purse;
use table::{Listener, Shared, Taker};

/// What each collector may have on its way to a subscription that does not say.
const DEFAULT_CREDIT: Credit = Credit { messages: 256, bytes: MAX_FRAME as u64 };

/// The connection is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the bus is closed: {reason}")]
pub struct Closed {
    /// Why, as far as this side knows.
    pub reason: String,
}

/// A connection to the bus. Clones are handles to the same one; it ends when the last handle, subscription, server and call
/// of it is dropped, after what was queued has been written.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    outbox: Outbox,
    shared: Arc<Shared>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("closed", &self.0.shared.closed_reason()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client whose connection is a queue to the router of the same process.
    pub(crate) fn local(connection: u64, room: Room, inbox: mpsc::UnboundedReceiver<Delivery>, events: Lane) -> Self {
        let (client, outgoing) = Self::new(room, Purse::unlimited());
        let (shared, handle) = client.for_driver();
        tokio::spawn(drive::local(shared, handle, connection, inbox, outgoing, events));
        client
    }

    fn new(room: Room, purse: Purse) -> (Self, mpsc::UnboundedReceiver<Delivery>) {
        let (outbox, outgoing) = Outbox::new(room);
        (Self(Arc::new(Inner { outbox, shared: Arc::new(Shared::new(purse)) })), outgoing)
    }

    /// What the driver needs: it must not keep the connection open by itself.
    fn for_driver(&self) -> (Arc<Shared>, Weak<Inner>) {
        (Arc::clone(&self.0.shared), Arc::downgrade(&self.0))
    }

    /// Publishes on a topic. Waits while too much is on its way already, and a collector's event for credit.
    ///
    /// # Errors
    /// The connection is gone, or the message was larger than a frame and closed it.
    pub async fn publish(&self, topic: &str, payload: Payload) -> Result<(), Closed> {
        self.send(message::message(topic, payload)).await
    }

    /// Whether an event that is published now would go without waiting for credit. Only collectors need it.
    pub fn has_credit(&self) -> bool {
        self.0.shared.purse.has_credit()
    }

    /// Resolves when there is credit for an event, or when the connection is gone.
    pub fn credited(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.0.shared);
        async move {
            tokio::select! {
                () = shared.purse.filled() => {}
                _ = shared.closed() => {}
            }
        }
    }

    /// Subscribes to the topics that a pattern selects. When this returns, the broker knows.
    ///
    /// To events it gives each collector a credit of 256 messages and 4 MiB.
    ///
    /// # Errors
    /// The connection is gone, possibly because this client may not subscribe to that.
    pub async fn subscribe(&self, pattern: &str) -> Result<Subscription, Closed> {
        self.subscribe_with(pattern, DEFAULT_CREDIT).await
    }

    /// Like [`subscribe`](Self::subscribe); of events, each collector may have so much on its way to here, and is told that it
    /// may send more as [`Subscription::recv`] takes them. Of the credits that several subscriptions give, the least counts.
    ///
    /// # Errors
    /// The connection is gone, possibly because this client may not subscribe to that.
    pub async fn subscribe_with(&self, pattern: &str, credit: Credit) -> Result<Subscription, Closed> {
        let (taker, messages) = mpsc::unbounded_channel();
        let listening = self.listen(pattern, Taker::Publications { taker, credit }).await?;
        Ok(Subscription { messages, _listening: listening })
    }

    /// Serves the requests on the topics that a pattern selects. When this returns, they come here.
    ///
    /// At most 256 of them, of 8 MiB, may wait to be taken; what comes beyond is answered as failed.
    ///
    /// # Errors
    /// The connection is gone, possibly because this client may not serve that or another does already.
    pub async fn serve(&self, pattern: &str) -> Result<Requests, Closed> {
        let (taker, requests) = mpsc::unbounded_channel();
        let listening = self.listen(pattern, Taker::Requests { taker, room: Room::new(256, 2 * MAX_FRAME) }).await?;
        Ok(Requests::new(requests, listening))
    }

    /// Resolves with the reason when the connection is gone.
    pub async fn closed(&self) -> String {
        self.0.shared.closed().await
    }

    async fn listen(&self, pattern: &str, taker: Taker) -> Result<Listening, Closed> {
        let pattern = Pattern::parse(pattern).map_err(|error| self.abandon(error.to_string()))?;
        let credit = match &taker {
            Taker::Publications { credit, .. } => Some(*credit),
            Taker::Requests { .. } => None,
        };
        let subscribe = Subscribe { pattern: pattern.as_str().to_owned(), serve: credit.is_none(), credit };
        let permit = self.room_for(subscribe.encoded_len()).await?;
        let listening = {
            let mut table = self.0.shared.open_table()?;
            let id = table.next_id();
            table.listeners.push(Listener { id, pattern, taker });
            self.0.outbox.push_with(message::control(Control::Subscribe(subscribe)), permit);
            Listening { client: self.clone(), id }
        };
        self.confirm().await?;
        Ok(listening)
    }

    /// Returns when the broker has handled everything that was sent before.
    async fn confirm(&self) -> Result<(), Closed> {
        let permit = self.room_for(0).await?;
        let echo = {
            let mut table = self.0.shared.open_table()?;
            let id = table.next_id();
            let (sender, echo) = tokio::sync::oneshot::channel();
            table.probes.insert(id, sender);
            self.0.outbox.push_with(message::heartbeat(id), permit);
            echo
        };
        echo.await.map_err(|_| self.why_closed())
    }

    async fn send(&self, message: EventBusMessage) -> Result<(), Closed> {
        let size = message.encoded_len();
        if size > MAX_FRAME - STAMP {
            return Err(self.abandon(format!("a message of {size} bytes on {} is larger than a frame", message.topic)));
        }
        let needs_credit = matches!(message.payload, Some(Payload::CollectionEvent(_)));
        let permit = loop {
            if needs_credit {
                self.credited().await;
            }
            let permit = self.room_for(size).await?;
            // Nothing is awaited after this, so that no credit is spent on what is not sent.
            if !needs_credit || self.0.shared.purse.spend(size) {
                break permit;
            }
        };
        if self.0.outbox.push_with(message, permit) { Ok(()) } else { Err(self.why_closed()) }
    }

    async fn room_for(&self, bytes: usize) -> Result<Permit, Closed> {
        self.0.outbox.room.acquire(bytes).await.ok_or_else(|| self.why_closed())
    }

    /// Closes the connection for a reason that lies on this side.
    fn abandon(&self, reason: String) -> Closed {
        self.close(reason);
        self.why_closed()
    }

    fn close(&self, reason: String) {
        self.0.outbox.room.close();
        self.0.shared.close(reason);
    }

    fn why_closed(&self) -> Closed {
        Closed { reason: self.0.shared.closed_reason().unwrap_or_else(|| "it ended".into()) }
    }
}

/// An entry in the table of listeners; dropping it takes the entry out.
struct Listening {
    client: Client,
    id: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Ok(mut table) = self.client.0.shared.open_table() else { return };
        let Some(place) = table.listeners.iter().position(|listener| listener.id == self.id) else { return };
        let gone = table.listeners.swap_remove(place);
        if table.listeners.iter().all(|listener| listener.pattern != gone.pattern) {
            let pattern = gone.pattern.as_str().to_owned();
            // Their number is bounded by that of the subscriptions, each of which was confirmed.
            self.client
                .0
                .outbox
                .push_with(message::control(Control::Unsubscribe(Unsubscribe { pattern })), Permit::free());
        }
    }
}

/// What is published on the topics of a pattern, in order.
pub struct Subscription {
    messages: mpsc::UnboundedReceiver<Delivery>,
    _listening: Listening,
}

impl Subscription {
    /// The next message; `None` when the connection is gone and everything that came before was taken.
    pub async fn recv(&mut self) -> Option<EventBusMessage> {
        self.messages.recv().await.map(|delivery| delivery.message)
    }
}
