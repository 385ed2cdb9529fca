//! What the programs tell of themselves: how their logs name one thing on its way, and what a process uses.
//!
//! A batch has the same name in the logs of the collector that publishes it and of the agent that stores it
//! ([`batch_id`]); an event's id (`EPOCH-SEQUENCE`) tells its batch. A request has the same name in the logs of the
//! program that asks and of the agent that answers ([`request_id`]).
//!
//! Nothing here counts: counters are made where a program is wired and handed to whoever counts.

mod usage;

pub use usage::Usage;

use crate::models::event::Epoch;

/// The name of a batch: its collector, its epoch and the sequences of its first and last item.
pub fn batch_id(collector: &str, epoch: Epoch, first: u64, items: usize) -> String {
    let last = first.saturating_add((items as u64).saturating_sub(1));
    format!("{collector}/{epoch}/{first}-{last}")
}

/// The name of a request.
pub fn request_id(id: u64) -> String {
    format!("{id:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_names_the_range_of_its_sequences() {
        let epoch = Epoch([0xab; 16]);
        assert_eq!(batch_id("procmond", epoch, 7, 3), format!("procmond/{}/7-9", "ab".repeat(16)));
        assert_eq!(batch_id("p", epoch, u64::MAX, 3), format!("p/{}/{max}-{max}", "ab".repeat(16), max = u64::MAX));
        assert_eq!(request_id(255), "00000000000000ff");
    }
}
