//! What one connection may ask of the broker, measured as its messages are read and before the router hears of them.
//!
//! - **Events** cost nothing here: their credit bounds them.
//! - **Control messages** are those that nobody but the broker works for: subscriptions, heartbeats, cancellations, status. Who
//!   behaves sends some when it begins and few from then on, so who sends more than [`CONTROL`] allows is cut off.
//! - **Work** is the rest: calls, answers. Somebody busy may have as much of it as there is, so who has more than [`WORK`]
//!   allows is not cut off but read from more slowly.
//!
//! The client of this crate sends two control messages for each of its subscriptions, one when it drops it, and one for a call
//! that it gives up: a client that at once makes all the subscriptions and gives up all the calls that it may have sends 256.

use std::time::{Duration, Instant};

use crate::{
    budget::Budget,
    proto::{EventBusMessage, event_bus_message::Payload},
};

/// Control messages at once, and a second.
const CONTROL: (u32, u32) = (1024, 256);

/// A longer control message counts as many as it has begun so many bytes.
const CONTROL_BYTES: usize = 1024;

/// Units of work at once, and a second.
const WORK: (u32, u32) = (2048, 2048);

/// A longer message counts as many units of work as it has begun so many bytes.
const WORK_BYTES: usize = 16 * 1024;

/// What is left to one connection.
pub(super) struct Allowance {
    control: Budget,
    work: Budget,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { control: Budget::new(CONTROL.0, CONTROL.1, now), work: Budget::new(WORK.0, WORK.1, now) }
    }

    /// Counts a message of this length; returns how long nothing more is to be read after it.
    ///
    /// # Errors
    /// It is one too many, and the connection must end.
    pub(super) fn charge(&mut self, message: &EventBusMessage, bytes: usize, now: Instant) -> Result<Duration, String> {
        match &message.payload {
            Some(Payload::CollectionEvent(_)) => Ok(Duration::ZERO),
            Some(Payload::RpcRequest(_) | Payload::RpcResponse(_) | Payload::Alert(_)) => {
                self.work.spend(units(bytes, WORK_BYTES), now);
                Ok(self.work.owed(now))
            }
            Some(Payload::Heartbeat(_) | Payload::Control(_)) | None => {
                self.control.spend(units(bytes, CONTROL_BYTES), now);
                if self.control.owed(now).is_zero() {
                    return Ok(Duration::ZERO);
                }
                Err(format!("too many control messages: more than {} at once and {} a second", CONTROL.0, CONTROL.1))
            }
        }
    }
}

fn units(bytes: usize, size: usize) -> u32 {
    u32::try_from(bytes.div_ceil(size)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Allowance, CONTROL, WORK};
    use crate::{
        message,
        proto::{CollectionEventPayload, EventBusMessage, RpcRequestPayload, event_bus_message::Payload},
    };

    /// How many of a message are taken at one moment, up to a hundred thousand, and how long the last one makes wait.
    fn taken(message: &EventBusMessage, bytes: usize) -> (u32, Duration) {
        let now = Instant::now();
        let mut allowance = Allowance::new(now);
        for count in 0..100_000 {
            match allowance.charge(message, bytes, now) {
                Ok(wait) if wait.is_zero() => {}
                Ok(wait) => return (count, wait),
                Err(_) => return (count, Duration::ZERO),
            }
        }
        (100_000, Duration::ZERO)
    }

    #[test]
    fn each_kind_has_its_measure() {
        let event = Payload::CollectionEvent(CollectionEventPayload::default());
        let event = message::message("events.process.procmond", event);
        let call = message::request("requests.query", RpcRequestPayload::default());
        let heartbeat = message::heartbeat(1);
        let unit = Duration::from_secs(1) / WORK.1;
        let table = [
            ("events are for their credit to bound", &event, 1 << 20, (100_000, Duration::ZERO)),
            ("work is slowed down", &call, 100, (WORK.0, unit)),
            ("also by its bytes", &call, 4 << 20, (WORK.0 / 256, 256 * unit)),
            ("control ends", &heartbeat, 10, (CONTROL.0, Duration::ZERO)),
            ("also by its bytes", &heartbeat, 1 << 20, (1, Duration::ZERO)),
        ];
        for (what, message, bytes, expected) in table {
            assert_eq!(taken(message, bytes), expected, "{what}");
        }
    }

    #[test]
    fn whoever_keeps_to_the_rate_goes_on_for_ever() {
        let (mut now, heartbeat) = (Instant::now(), message::heartbeat(1));
        let mut allowance = Allowance::new(now);
        for _ in 0..CONTROL.0 {
            assert!(allowance.charge(&heartbeat, 10, now).is_ok());
        }
        for _ in 0..10_000 {
            now += Duration::from_secs(1) / CONTROL.1;
            assert!(allowance.charge(&heartbeat, 10, now).is_ok());
        }
        assert!(allowance.charge(&heartbeat, 10, now).is_err());
    }
}
