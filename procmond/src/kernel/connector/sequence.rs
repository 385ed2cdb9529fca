//! What is missing, from the numbers that each CPU gives its messages.

use super::Message;
use std::collections::HashMap;

/// More CPUs than a kernel can be built for; of further ones nothing is known.
const MAX_CPUS: usize = 16 * 1024;
/// What an old kernel's acknowledgements have in the place of a CPU.
const NO_CPU: u32 = u32::MAX;

/// Messages of one CPU that did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) cpu: u32,
    pub(crate) count: u32,
    /// When the last message before them and the first one after them were made, by the clock of [`Message::at`].
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// The last message of each CPU.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    last: HashMap<u32, (u32, u64)>,
}

impl Sequences {
    /// Takes note of a message; what is missing before it.
    ///
    /// Before Linux 4.9 messages of one CPU could change places. One that comes late was counted as lost by then, so that
    /// what is told is never too little.
    pub(super) fn note(&mut self, message: &Message) -> Option<Loss> {
        let Message { sequence, cpu, at, .. } = *message;
        if cpu == NO_CPU || (self.last.len() >= MAX_CPUS && !self.last.contains_key(&cpu)) {
            return None;
        }
        let Some((last, from)) = self.last.get_mut(&cpu) else {
            self.last.insert(cpu, (sequence, at));
            return None;
        };
        let step = sequence.wrapping_sub(*last);
        if step == 0 || step > u32::MAX / 2 {
            return None;
        }
        let loss = (step > 1).then(|| Loss { cpu, count: step - 1, from: *from, to: at });
        (*last, *from) = (sequence, at);
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::connector::ConnectorEvent;

    fn message(cpu: u32, sequence: u32) -> Message {
        let at = u64::from(sequence) + 1000;
        Message { sequence, cpu, at, event: ConnectorEvent::Exec { pid: 1, tgid: 1 } }
    }

    fn lost(messages: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let mut sequences = Sequences::default();
        let note = |(cpu, sequence): &(u32, u32)| sequences.note(&message(*cpu, *sequence));
        messages.iter().filter_map(note).map(|loss| (loss.cpu, loss.count)).collect()
    }

    #[test]
    fn each_cpu_counts_for_itself() {
        assert_eq!(lost(&[(0, 5), (1, 90), (0, 6), (1, 91), (0, 7)]), []);
        assert_eq!(lost(&[(0, 5), (1, 90), (0, 9), (1, 92)]), [(0, 3), (1, 1)]);
        assert_eq!(lost(&[(0, u32::MAX - 1), (0, 1)]), [(0, 2)], "numbers wrap around");
        assert_eq!(lost(&[(0, u32::MAX), (0, 0)]), []);
    }

    #[test]
    fn what_comes_late_or_from_no_cpu_is_no_loss() {
        assert_eq!(lost(&[(0, 5), (0, 7), (0, 6), (0, 8)]), [(0, 1)]);
        assert_eq!(lost(&[(0, 5), (0, 5), (0, 6)]), []);
        assert_eq!(lost(&[(NO_CPU, 5), (NO_CPU, 50)]), []);
    }

    #[test]
    fn a_loss_has_its_time() {
        let mut sequences = Sequences::default();
        sequences.note(&message(2, 10));
        assert_eq!(sequences.note(&message(2, 20)), Some(Loss { cpu: 2, count: 9, from: 1010, to: 1020 }));
    }

    #[test]
    fn cpus_that_cannot_be_are_not_remembered() {
        let mut sequences = Sequences::default();
        for cpu in 0..40_000 {
            sequences.note(&message(cpu, 0));
        }
        assert_eq!(sequences.last.len(), MAX_CPUS);
        assert!(sequences.note(&message(5, 2)).is_some());
    }
}
