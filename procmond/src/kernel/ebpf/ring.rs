//! A ring of records with its count of those that it had no room for, and the programs that fill it.

use super::LoadError;
use aya::Ebpf;
use aya::maps::{Array, MapData, RingBuf};

/// The first of `enum counter` in the programs' sources.
const LOST: u32 = 0;

/// A ring, and what fills it.
pub(crate) struct Ring {
    /// Holds the programs and their links.
    _programs: Ebpf,
    ring: RingBuf<MapData>,
    counters: Array<MapData, u64>,
    counted: u64,
}

impl Ring {
    /// The ring and the counters of these programs.
    pub(super) fn of(mut programs: Ebpf, ring: &'static str, counters: &'static str) -> Result<Self, LoadError> {
        let taken = programs.take_map(ring).ok_or(LoadError::Missing(ring))?;
        let taken_counters = programs.take_map(counters).ok_or(LoadError::Missing(counters))?;
        Ok(Self {
            _programs: programs,
            ring: RingBuf::try_from(taken).map_err(|source| LoadError::Map { map: ring, source })?,
            counters: Array::try_from(taken_counters).map_err(|source| LoadError::Map { map: counters, source })?,
            counted: 0,
        })
    }

    /// Gives the records that there are, up to so many.
    pub(crate) fn take(&mut self, most: usize, mut take: impl FnMut(&[u8])) {
        for _ in 0..most {
            let Some(record) = self.ring.next() else { return };
            take(&record);
        }
    }

    /// How many were lost since the last call.
    pub(crate) fn lost(&mut self) -> u64 {
        // A map that was there is there.
        let count = self.counters.get(&LOST, 0).unwrap_or(self.counted);
        count - std::mem::replace(&mut self.counted, count).min(count)
    }
}
