//! The serving side of calls.

use std::{future::Future, time::Duration};

use prost::Message as _;
use tokio::sync::{mpsc, watch};

use super::{Client, Listening};
use crate::{
    frame::MAX_FRAME,
    message::{self, STAMP},
    proto::{EventBusMessage, RpcRequestPayload, RpcResponsePayload, RpcStatus, Sender},
    queue::{Permit, Room},
};

/// Nobody waits for this answer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody waits for the answer any more")]
pub struct Gone;

/// The requests on the topics that a client serves. Those that wait when this is dropped are answered as failed.
pub struct Requests {
    incoming: mpsc::UnboundedReceiver<Incoming>,
    _listening: Listening,
}

impl Requests {
    pub(super) fn new(incoming: mpsc::UnboundedReceiver<Incoming>, listening: Listening) -> Self {
        Self { incoming, _listening: listening }
    }

    /// The next request that somebody still waits for; `None` when the connection is gone.
    pub async fn recv(&mut self) -> Option<Request> {
        loop {
            let request = self.incoming.recv().await?.request;
            if !request.reply.is_cancelled() {
                return Some(request);
            }
        }
    }
}

/// A request that waits to be taken, and the room that it takes until then.
pub(super) struct Incoming {
    request: Request,
    _held: Permit,
}

impl Incoming {
    pub(super) fn new(
        client: Client,
        message: EventBusMessage,
        request: RpcRequestPayload,
        room: Option<Room>,
        cancelled: watch::Receiver<bool>,
    ) -> Self {
        let RpcRequestPayload { correlation_id, message: body, timeout_ms, all: _, request_id } = request;
        let request = Request {
            topic: message.topic,
            sender: message.sender.unwrap_or_default(),
            body,
            request_id,
            timeout: (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms)),
            reply: Reply {
                client,
                id: correlation_id,
                room,
                cancelled,
                answered: false,
                excuse: "the server did not answer",
            },
        };
        Self { request, _held: Permit::free() }
    }

    pub(super) fn topic(&self) -> &str {
        &self.request.topic
    }

    pub(super) fn holding(self, held: Permit) -> Self {
        Self { _held: held, ..self }
    }

    /// Answers the request as failed.
    pub(super) fn refuse(mut self, excuse: &'static str) {
        self.request.reply.excuse = excuse;
    }
}

/// A request to answer. Dropped without an answer, it is answered as failed.
pub struct Request {
    /// What was called.
    pub topic: String,
    /// Who calls, as the broker established.
    pub sender: Sender,
    /// The request's own bytes.
    pub body: Vec<u8>,
    /// What the caller's logs call it: random, and 0 where the caller gave none. Nothing is decided by it.
    pub request_id: u64,
    /// How long the caller waits for each part of the answer; `None` where it did not say.
    pub timeout: Option<Duration>,
    reply: Reply,
}

impl Request {
    /// Sends the answer, or the last part of it. Waits for room like [`send_part`](Self::send_part).
    pub async fn respond(mut self, body: Vec<u8>) {
        let _ = self.reply.send(RpcStatus::RpcOk, body, false).await;
    }

    /// Sends the server's own error document instead of an answer, or of its rest.
    pub async fn fail(mut self, body: Vec<u8>) {
        let _ = self.reply.send(RpcStatus::RpcError, body, false).await;
    }

    /// Sends one part of the answer; [`respond`](Self::respond) sends the last. Waits for room in the caller's queue where the
    /// server is in the broker's process, in this client's queue otherwise.
    ///
    /// # Errors
    /// The caller no longer waits, or the part was larger than a frame, which failed the call.
    pub async fn send_part(&mut self, body: Vec<u8>) -> Result<(), Gone> {
        self.reply.send(RpcStatus::RpcOk, body, true).await
    }

    /// Resolves when nobody waits for the answer any more.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        wait_for_cancel(self.reply.cancelled.clone())
    }
}

async fn wait_for_cancel(mut cancelled: watch::Receiver<bool>) {
    // An error is the end of the connection, and so of the wait.
    let _ = cancelled.wait_for(|cancelled| *cancelled).await;
}

struct Reply {
    client: Client,
    id: u64,
    /// The room of the caller's queue, where it is in this process.
    room: Option<Room>,
    cancelled: watch::Receiver<bool>,
    answered: bool,
    /// What the caller is told if this is dropped without an answer.
    excuse: &'static str,
}

impl Reply {
    fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow() || self.cancelled.has_changed().is_err()
    }

    async fn send(&mut self, status: RpcStatus, body: Vec<u8>, more: bool) -> Result<(), Gone> {
        if self.answered || self.is_cancelled() {
            return Err(Gone);
        }
        let mut response = RpcResponsePayload {
            correlation_id: self.id,
            status: status.into(),
            message: body,
            more,
            ..RpcResponsePayload::default()
        };
        let fits = response.encoded_len() <= MAX_FRAME - STAMP;
        if !fits {
            response = self.failure("the answer is larger than a frame");
        }
        let room = self.room.as_ref().unwrap_or(&self.client.0.outbox.room);
        let permit = tokio::select! {
            biased;
            () = wait_for_cancel(self.cancelled.clone()) => None,
            permit = room.acquire(response.encoded_len()) => permit,
        };
        let permit = permit.ok_or(Gone)?;
        self.answered = !response.more;
        let sent = self.client.0.outbox.push_with(message::response(response), permit);
        if sent && fits { Ok(()) } else { Err(Gone) }
    }

    fn failure(&self, reason: &str) -> RpcResponsePayload {
        RpcResponsePayload {
            correlation_id: self.id,
            status: RpcStatus::RpcError.into(),
            reason: reason.to_owned(),
            ..RpcResponsePayload::default()
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered && !self.is_cancelled() {
            // One for each request at the most, and requests are bounded.
            self.client.0.outbox.push_with(message::response(self.failure(self.excuse)), Permit::free());
        }
        if let Ok(mut table) = self.client.0.shared.open_table() {
            table.serving.remove(&self.id);
        }
    }
}
