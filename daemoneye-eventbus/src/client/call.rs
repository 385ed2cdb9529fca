//! The calling side of calls.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};

use super::{Client, Closed, table::Answer};
use crate::{
    frame::MAX_FRAME,
    message::{self, STAMP},
    proto::{RpcRequestPayload, RpcResponsePayload, RpcStatus},
    queue::Permit,
};

/// How much longer than the broker a client waits for the end of a call of all, which the broker makes.
const SLACK: Duration = Duration::from_secs(5);

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Nobody serves the topic.
    #[error("nobody serves {topic}")]
    NoServer {
        /// What was called.
        topic: String,
    },
    /// The broker does not let this client call it now.
    #[error("the call of {topic} was refused: {reason}")]
    Denied {
        /// What was called.
        topic: String,
        /// Why.
        reason: String,
    },
    /// The server answered with its own error document.
    #[error("the server answered with an error")]
    Failed(Vec<u8>),
    /// The call was broken off on its way, or left unanswered.
    #[error("the call of {topic} was broken off: {reason}")]
    Aborted {
        /// What was called.
        topic: String,
        /// Why.
        reason: String,
    },
    /// Nothing came in time.
    #[error("nothing came from {topic} within {after:?}")]
    TimedOut {
        /// What was called.
        topic: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The request is larger than a frame.
    #[error("the request to {topic} is {size} bytes long, more than the limit of {}", MAX_FRAME - STAMP)]
    TooLarge {
        /// What was called.
        topic: String,
        /// The request's length.
        size: usize,
    },
    /// The connection is gone.
    #[error("the connection to the bus is closed: {reason}")]
    Closed {
        /// Why.
        reason: String,
    },
}

impl From<Closed> for CallError {
    fn from(Closed { reason }: Closed) -> Self {
        Self::Closed { reason }
    }
}

impl Client {
    /// Calls a topic and waits for the one answer.
    ///
    /// # Errors
    /// There is no answer; see [`CallError`].
    pub async fn call(&self, topic: &str, body: Vec<u8>, timeout: Duration) -> Result<Vec<u8>, CallError> {
        let mut responses = self.call_stream(topic, body, timeout).await?;
        let answer = responses.next().await.unwrap_or_else(|| Err(self.why_closed().into()))?;
        if responses.under_way.is_some() {
            return Err(responses.aborted("it answers in parts"));
        }
        Ok(answer)
    }

    /// Calls a topic that answers in parts. `timeout` is the longest wait for each part; the time that the caller itself takes
    /// between two parts does not count.
    ///
    /// # Errors
    /// The call could not be sent. Whatever comes later, [`Responses::next`] tells.
    pub async fn call_stream(&self, topic: &str, body: Vec<u8>, timeout: Duration) -> Result<Responses, CallError> {
        self.begin(topic, body, timeout, false).await
    }

    /// Calls everybody who serves the topic: all instances of a collector. `timeout` is the longest wait for each part of each
    /// of them. The broker ends the call when the last of them has answered, failed or run out of time.
    ///
    /// # Errors
    /// The call could not be sent. Whatever comes later, [`Gathered::next`] tells.
    pub async fn call_all(&self, topic: &str, body: Vec<u8>, timeout: Duration) -> Result<Gathered, CallError> {
        self.begin(topic, body, timeout, true).await.map(Gathered)
    }

    async fn begin(&self, topic: &str, body: Vec<u8>, timeout: Duration, all: bool) -> Result<Responses, CallError> {
        let size = body.len() + topic.len();
        if size > MAX_FRAME - 2 * STAMP {
            return Err(CallError::TooLarge { topic: topic.to_owned(), size });
        }
        let permit = self.room_for(size).await?;
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let (taker, answers) = mpsc::unbounded_channel();
        // Only a name in logs: without randomness it is the name of nothing.
        let request_id = getrandom::u64().unwrap_or_default();
        tracing::debug!(topic, request = %format_args!("{request_id:016x}"), "asked");
        let id = {
            let mut table = self.0.shared.open_table()?;
            let id = table.next_id();
            table.calls.insert(id, taker);
            let request = RpcRequestPayload { correlation_id: id, message: body, timeout_ms, all, request_id };
            self.0.outbox.push_with(message::request(topic, request), permit);
            id
        };
        Ok(Responses { client: self.clone(), topic: topic.to_owned(), timeout, answers, under_way: Some(id) })
    }
}

/// The parts of an answer. Dropping this before the last part cancels the call.
pub struct Responses {
    client: Client,
    topic: String,
    timeout: Duration,
    answers: mpsc::UnboundedReceiver<Answer>,
    /// The correlation id, until the last part or the error.
    under_way: Option<u64>,
}

impl Responses {
    /// The next part, in order; `None` after the last part or after an error.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, CallError>> {
        let response = self.receive(self.timeout).await?;
        Some(response.and_then(|response| self.outcome(response)))
    }

    async fn receive(&mut self, patience: Duration) -> Option<Result<RpcResponsePayload, CallError>> {
        self.under_way?;
        Some(match timeout(patience, self.answers.recv()).await {
            Ok(Some((response, _permit))) => {
                if !response.more {
                    self.under_way = None;
                }
                Ok(response)
            }
            Ok(None) => {
                self.under_way = None;
                Err(self.client.why_closed().into())
            }
            Err(_) => {
                self.cancel();
                Err(CallError::TimedOut { topic: self.topic.clone(), after: self.timeout })
            }
        })
    }

    fn outcome(&self, response: RpcResponsePayload) -> Result<Vec<u8>, CallError> {
        let status = response.status();
        let RpcResponsePayload { message, reason, .. } = response;
        let topic = self.topic.clone();
        match status {
            RpcStatus::RpcOk => Ok(message),
            RpcStatus::RpcError if reason.is_empty() => Err(CallError::Failed(message)),
            RpcStatus::RpcError => Err(CallError::Aborted { topic, reason }),
            RpcStatus::RpcNoServer => Err(CallError::NoServer { topic }),
            RpcStatus::RpcDenied => Err(CallError::Denied { topic, reason }),
            RpcStatus::RpcTimedOut => Err(CallError::TimedOut { topic, after: self.timeout }),
        }
    }

    fn aborted(&self, reason: &str) -> CallError {
        CallError::Aborted { topic: self.topic.clone(), reason: reason.to_owned() }
    }

    fn cancel(&mut self) {
        let Some(id) = self.under_way.take() else { return };
        if let Ok(mut table) = self.client.0.shared.open_table()
            && table.calls.remove(&id).is_some()
        {
            // One for each call at the most, and calls are bounded.
            self.client.0.outbox.push_with(message::cancel(id), Permit::free());
        }
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// What all servers of a topic answer, as it comes. Dropping this before the end cancels the call.
pub struct Gathered(Responses);

/// A part of what one of several servers answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Who answers: the name of the collector's instance.
    pub server: String,
    /// Whether it is the last of this server.
    pub last: bool,
    /// The part, or why there is none; an error is the server's last part.
    pub outcome: Result<Vec<u8>, CallError>,
}

impl Gathered {
    /// The next part of any server, those of each in order; `None` when all have ended.
    ///
    /// # Errors
    /// The call as a whole has failed, for instance because nobody serves the topic; nothing follows.
    pub async fn next(&mut self) -> Option<Result<Part, CallError>> {
        let response = match self.0.receive(self.0.timeout.saturating_add(SLACK)).await? {
            Ok(response) => response,
            Err(error) => return Some(Err(error)),
        };
        if response.more {
            let (server, last) = (response.server.clone(), response.last_of_server);
            return Some(Ok(Part { server, last, outcome: self.0.outcome(response) }));
        }
        self.0.outcome(response).err().map(Err)
    }
}
