//! What a collector's client may still publish.

use tokio::sync::watch;

use crate::{broker::is_within, proto::Credit};

/// Credit as the broker told it, and what was used of it.
#[derive(Debug)]
pub(super) struct Purse(watch::Sender<State>);

#[derive(Debug)]
struct State {
    /// `None` for those who need none.
    limit: Option<Credit>,
    sent: Credit,
}

impl State {
    fn has_credit(&self) -> bool {
        self.limit.is_none_or(|limit| is_within(self.sent, limit))
    }
}

impl Purse {
    /// For a collector behind a socket: it waits to be told.
    pub(super) fn empty() -> Self {
        Self::with(Some(Credit::default()))
    }

    /// For everybody else.
    pub(super) fn unlimited() -> Self {
        Self::with(None)
    }

    fn with(limit: Option<Credit>) -> Self {
        Self(watch::Sender::new(State { limit, sent: Credit::default() }))
    }

    /// The broker told so much; it never takes anything back.
    pub(super) fn raise(&self, told: Credit) {
        self.0.send_modify(|state| {
            if let Some(limit) = &mut state.limit {
                limit.messages = limit.messages.max(told.messages);
                limit.bytes = limit.bytes.max(told.bytes);
            }
        });
    }

    pub(super) fn has_credit(&self) -> bool {
        self.0.borrow().has_credit()
    }

    /// Waits until there is some; it may be gone again when somebody else was faster.
    pub(super) async fn filled(&self) {
        // The sender is here.
        let _ = self.0.subscribe().wait_for(State::has_credit).await;
    }

    /// Uses credit for one publication, if there is some.
    pub(super) fn spend(&self, bytes: usize) -> bool {
        let mut spent = false;
        self.0.send_if_modified(|state| {
            spent = state.has_credit();
            if spent {
                state.sent.messages += 1;
                state.sent.bytes += bytes as u64;
            }
            false
        });
        spent
    }
}
