//! Acts that were kept back behind one like them: those that no later act tells are told here, and what cannot be told is counted.
//!
//! The programs count how many they keep back in all, and how many of each subject since the act that was told. So whatever is
//! forgotten on the way, by a map that is full or a ring, is what is missing in the end.

use super::layout::{Cursor, WHO};
use super::{LoadError, Ring};
use aya::maps::{HashMap as KernelMap, MapData, MapError};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// In `enum counter` of `bpf/security.bpf.c`.
const KEPT_BACK: u32 = 1;
/// How long acts are kept back; how often it is looked what became of them.
const SECOND: Duration = Duration::from_secs(1);
/// The acts that are remembered to be told again for those behind them; all are forgotten where there are more.
const MAX_TOLD: usize = 1024;
/// More subjects than the programs remember, which change while they are gone through.
const MAX_SUBJECTS: usize = 8192;

/// Where a record has its time, its count, its subject and the length of its text; what is behind it was not used.
const TIME: usize = 8;
const COUNT: usize = 16 + 2 * WHO;
const SUBJECT: usize = COUNT + 8 + 16;
const TEXT: usize = SUBJECT + size_of::<Subject>();

/// A `struct subject`: by whom, what, to what. Nothing but zeroes for an act that is never kept back.
type Subject = [u8; 40];
const NOTHING: Subject = [0; 40];

/// A `struct recent`.
#[derive(Clone, Copy, Debug)]
struct Recent {
    /// When the act was told, and when the last one behind it was done.
    at: u64,
    last: u64,
    kept_back: u64,
}

/// What was kept back, and what became of it.
pub(crate) struct Kept {
    recent: KernelMap<MapData, Subject, [u64; 3]>,
    ledger: Ledger,
    looked: Option<Instant>,
}

impl Kept {
    /// Of the acts that come by this ring.
    pub(super) fn of(ring: &mut Ring) -> Result<Self, LoadError> {
        let map = "RECENT";
        let taken = ring.programs.take_map(map).ok_or(LoadError::Missing(map))?;
        let recent = KernelMap::try_from(taken).map_err(|source| LoadError::Map { map, source })?;
        Ok(Self { recent, ledger: Ledger::default(), looked: None })
    }

    /// An act is told.
    pub(super) fn note(&mut self, record: &[u8]) {
        self.ledger.note(record);
    }

    /// Looks what has not been told for a second, at most once in one: the records that tell it.
    ///
    /// # Errors
    /// Where the kernel's counters cannot be read.
    pub(super) fn rest(&mut self, ring: &Ring, now: Instant, since_boot: u64) -> Result<Vec<Box<[u8]>>, MapError> {
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < SECOND) {
            return Ok(Vec::new());
        }
        self.looked = Some(now);
        let all = ring.count(KEPT_BACK)?;
        if !self.ledger.is_open(all) {
            return Ok(Vec::new());
        }
        let mut waiting = 0;
        let mut over = Vec::new();
        for entry in self.recent.iter().take(MAX_SUBJECTS) {
            let (subject, [at, last, kept_back]) = entry?;
            waiting += kept_back;
            if kept_back > 0 && u128::from(since_boot.saturating_sub(at)) >= SECOND.as_nanos() {
                over.push((subject, Recent { at, last, kept_back }));
            }
        }
        // Of one that is not there any more another act has told, or nothing can be told.
        over.retain(|(subject, _)| self.recent.remove(subject).is_ok());
        Ok(self.ledger.look(all, waiting, &over))
    }

    /// How many are missing for good, once all that was in the ring has been noted.
    pub(super) fn missing(&mut self) -> u64 {
        self.ledger.missing()
    }
}

/// The acts that were kept back, against what has told of them.
#[derive(Default)]
struct Ledger {
    /// The last record of each subject.
    told: HashMap<Subject, Box<[u8]>>,
    /// So many were told, or are known to be missing.
    accounted: u64,
    /// So many have to be, once all that was in the ring at the last look is noted.
    expected: Option<u64>,
}

impl Ledger {
    fn note(&mut self, record: &[u8]) {
        let Some((subject, count, text)) = parts(record) else { return };
        if subject == NOTHING {
            return;
        }
        self.accounted += count.saturating_sub(1);
        if self.told.len() >= MAX_TOLD && !self.told.contains_key(&subject) {
            self.told.clear();
        }
        self.told.insert(subject, record.get(..text).unwrap_or(record).into());
    }

    /// Whether some of all these are not accounted for.
    fn is_open(&mut self, all: u64) -> bool {
        // Where two told the same at once.
        self.accounted = self.accounted.min(all);
        self.accounted < all
    }

    /// Of all these so many still wait for an act that tells them, but for those that none has told in time: their records.
    fn look(&mut self, all: u64, waiting: u64, over: &[(Subject, Recent)]) -> Vec<Box<[u8]>> {
        let kept_back = over.iter().map(|(_, recent)| recent.kept_back).sum::<u64>();
        self.expected = Some(all.saturating_sub(waiting.saturating_sub(kept_back)));
        let mut records = Vec::new();
        for (subject, recent) in over {
            // Where the act itself is forgotten, those behind it are missing.
            let Some(mut record) = self.told.remove(subject) else { continue };
            self.accounted += recent.kept_back;
            for (at, number) in [(TIME, recent.last.max(recent.at)), (COUNT, recent.kept_back)] {
                if let Some(place) = record.get_mut(at..at + 8) {
                    place.copy_from_slice(&number.to_ne_bytes());
                }
            }
            records.push(record);
        }
        records
    }

    fn missing(&mut self) -> u64 {
        let Some(expected) = self.expected.take() else { return 0 };
        let missing = expected.saturating_sub(self.accounted);
        self.accounted += missing;
        missing
    }
}

/// The subject of a record, its count, and where its text ends.
fn parts(record: &[u8]) -> Option<(Subject, u64, usize)> {
    let count = Cursor(record.get(COUNT..)?).u64()?;
    let subject = record.get(SUBJECT..TEXT)?.try_into().ok()?;
    let length = Cursor(record.get(TEXT..)?).u64()?;
    Some((subject, count, (TEXT + 8).saturating_add(usize::try_from(length).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(subject: u8, count: u64) -> Vec<u8> {
        let mut record = vec![0; TEXT + 8 + 100];
        record[COUNT..COUNT + 8].copy_from_slice(&count.to_ne_bytes());
        record[SUBJECT..TEXT].fill(subject);
        record[TEXT..TEXT + 8].copy_from_slice(&5_u64.to_ne_bytes());
        record
    }

    fn recent(kept_back: u64) -> Recent {
        Recent { at: 3, last: 9, kept_back }
    }

    #[test]
    fn what_no_later_act_tells_is_told_by_the_one_before_once() {
        let mut ledger = Ledger::default();
        ledger.note(&record(0, 7));
        ledger.note(&record(1, 1));
        ledger.note(&record(1, 4));
        assert!(ledger.is_open(13) && !ledger.is_open(3), "three have been told");
        let told = ledger.look(13, 10, &[([1; 40], recent(10))]);
        let [told] = &told[..] else { panic!("{told:?}") };
        let (subject, count, end) = parts(told).unwrap();
        assert_eq!((subject, count, end), ([1; 40], 10, told.len()), "without what was not used");
        assert_eq!(told[TIME..TIME + 8], 9_u64.to_ne_bytes());
        assert_eq!((ledger.missing(), ledger.is_open(13)), (0, false));
        assert!(ledger.look(15, 2, &[([1; 40], recent(2))]).is_empty(), "it is forgotten by now");
        assert_eq!((ledger.missing(), ledger.missing()), (2, 0));
    }

    #[test]
    fn what_the_map_or_the_ring_has_forgotten_is_missing() {
        let mut ledger = Ledger::default();
        ledger.note(&record(1, 1));
        ledger.look(100, 40, &[]);
        // Told between the counter and the map, or on its way in the ring.
        ledger.note(&record(1, 21));
        assert_eq!(ledger.missing(), 40);
        assert!(ledger.is_open(100));
        ledger.note(&record(1, 41));
        assert!(!ledger.is_open(100));
        ledger.look(100, 0, &[]);
        assert_eq!(ledger.missing(), 0);
    }

    #[test]
    fn acts_that_are_remembered_are_bounded_and_any_bytes_are_taken() {
        let mut ledger = Ledger::default();
        for number in 0..3 * MAX_TOLD as u64 {
            let mut record = record(1, 1);
            record[SUBJECT..SUBJECT + 8].copy_from_slice(&number.to_ne_bytes());
            ledger.note(&record);
            assert!(ledger.told.len() <= MAX_TOLD);
        }
        let whole = record(1, 1);
        for cut in 0..TEXT + 8 {
            assert_eq!(parts(&whole[..cut]), None, "{cut}");
        }
        ledger.note(&[0xff; TEXT + 8]);
    }
}
