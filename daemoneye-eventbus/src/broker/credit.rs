//! What a collector may publish.
//!
//! Whoever subscribes to events says how much of each collector's may be on its way to it. The broker tells the collector
//! how much it may have published in all since it came in, and tells it more as its publications are taken. A collector
//! without credit keeps its events; one that publishes without credit is closed.
//!
//! A publication may be sent while there is credit for at least one message and at least one byte: so that a large one can
//! pass, the last may exceed the bytes.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use crate::{proto::Credit, queue::Room};

/// The credit of one connection. Its reading half counts, its writing half tells.
pub(super) struct Account {
    /// What the collector has on its way, on this connection and on those before.
    room: Room,
    /// What it may have on its way.
    window: watch::Receiver<Credit>,
    totals: Mutex<Totals>,
    counted: Notify,
}

/// Since the connection began.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    received: Credit,
    told: Credit,
}

impl Account {
    pub(super) fn new(room: Room, window: watch::Receiver<Credit>) -> Self {
        Self { room, window, totals: Mutex::default(), counted: Notify::new() }
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more publication is within what the collector was told.
    pub(super) fn covers_one(&self) -> bool {
        let Totals { received, told } = *self.totals();
        is_within(received, told)
    }

    /// Counts a publication, which holds its room already.
    pub(super) fn count(&self, bytes: usize) {
        let mut totals = self.totals();
        totals.received.messages += 1;
        totals.received.bytes += bytes as u64;
        drop(totals);
        self.counted.notify_waiters();
    }

    /// Waits until there is something to tell, and returns it: from then on the collector may rely on it.
    pub(super) async fn due(&self) -> Credit {
        let mut window = self.window.clone();
        loop {
            let (mut freed, mut counted) = (pin!(self.room.freed().notified()), pin!(self.counted.notified()));
            freed.as_mut().enable();
            counted.as_mut().enable();
            let granted = *window.borrow_and_update();
            {
                let mut totals = self.totals();
                if let Some(limit) = worth_telling(granted, self.room.held(), *totals) {
                    totals.told = limit;
                    return limit;
                }
            }
            tokio::select! {
                () = &mut freed => {}
                () = &mut counted => {}
                changed = window.changed() => if changed.is_err() {
                    // The router has forgotten the connection, which is about to end.
                    std::future::pending::<()>().await;
                },
            }
        }
    }
}

/// Whether whoever has sent so much may send one more.
pub(crate) fn is_within(sent: Credit, limit: Credit) -> bool {
    sent.messages < limit.messages && sent.bytes < limit.bytes
}

/// The new limit, if it is a quarter of the window more, or if the collector has come to its end.
fn worth_telling(window: Credit, held: Credit, Totals { received, told }: Totals) -> Option<Credit> {
    let limit = Credit {
        messages: told.messages.max(received.messages + window.messages.saturating_sub(held.messages)),
        bytes: told.bytes.max(received.bytes + window.bytes.saturating_sub(held.bytes)),
    };
    let tell = if is_within(received, told) {
        limit.messages - told.messages >= (window.messages / 4).max(1)
            || limit.bytes - told.bytes >= (window.bytes / 4).max(1)
    } else {
        is_within(received, limit)
    };
    tell.then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::{Totals, worth_telling};
    use crate::proto::Credit;

    fn credit(messages: u64, bytes: u64) -> Credit {
        Credit { messages, bytes }
    }

    #[test]
    fn credit_is_told_as_the_table_says() {
        let window = credit(8, 800);
        let nothing = credit(0, 0);
        let table = [
            ("at the start", window, nothing, nothing, nothing, Some(window)),
            ("no receiver", nothing, nothing, nothing, nothing, None),
            ("nothing new", window, nothing, nothing, window, None),
            ("one taken of one", window, nothing, credit(1, 10), window, None),
            ("two taken of two", window, nothing, credit(2, 20), window, Some(credit(10, 820))),
            ("many bytes taken", window, nothing, credit(1, 300), window, Some(credit(9, 1100))),
            ("used up and held", window, credit(8, 80), credit(8, 80), window, None),
            ("used up, one taken", window, credit(7, 70), credit(8, 80), window, Some(credit(9, 810))),
            ("bytes used up and held", window, credit(1, 900), credit(1, 900), window, None),
            ("held by an earlier connection", window, credit(6, 60), nothing, nothing, Some(credit(2, 740))),
            ("a smaller window takes nothing back", credit(1, 1), nothing, nothing, window, None),
            ("a larger window", credit(16, 800), nothing, nothing, window, Some(credit(16, 800))),
        ];
        for (what, window, held, received, told, expected) in table {
            assert_eq!(worth_telling(window, held, Totals { received, told }), expected, "{what}");
        }
    }
}
