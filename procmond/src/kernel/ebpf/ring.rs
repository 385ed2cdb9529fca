//! A ring of records with its counters, and the programs that fill it.

use super::LoadError;
use aya::Ebpf;
use aya::maps::{Array, MapData, MapError, RingBuf};
use std::ops::ControlFlow;

/// The first of `enum counter` in the sources of the acts' programs: records that the ring had no room for.
pub(crate) const LOST: u32 = 0;

/// A ring, and what fills it.
pub(crate) struct Ring {
    /// Holds the programs and their links.
    pub(super) programs: Ebpf,
    ring: RingBuf<MapData>,
    counters: Array<MapData, u64>,
    /// What each counter was when it was asked for last.
    counted: Vec<u64>,
}

impl Ring {
    /// The ring and the counters of these programs.
    pub(super) fn of(mut programs: Ebpf, ring: &'static str, counters: &'static str) -> Result<Self, LoadError> {
        let taken = programs.take_map(ring).ok_or(LoadError::Missing(ring))?;
        let taken_counters = programs.take_map(counters).ok_or(LoadError::Missing(counters))?;
        let ring = RingBuf::try_from(taken).map_err(|source| LoadError::Map { map: ring, source })?;
        let counters = Array::try_from(taken_counters).map_err(|source| LoadError::Map { map: counters, source })?;
        let counted = vec![0; counters.len() as usize];
        Ok(Self { programs, ring, counters, counted })
    }

    /// Gives the records that there are, until the taker has enough.
    pub(crate) fn take(&mut self, mut take: impl FnMut(&[u8]) -> ControlFlow<()>) {
        while let Some(record) = self.ring.next() {
            if take(&record).is_break() {
                return;
            }
        }
    }

    /// What a counter is now.
    ///
    /// # Errors
    /// Where the kernel does not let it be read.
    pub(super) fn count(&self, counter: u32) -> Result<u64, MapError> {
        self.counters.get(&counter, 0)
    }

    /// By how much it has grown since the last call.
    ///
    /// # Errors
    /// As [`count`](Self::count).
    pub(crate) fn growth(&mut self, counter: u32) -> Result<u64, MapError> {
        let count = self.count(counter)?;
        let Some(counted) = self.counted.get_mut(counter as usize) else { return Ok(0) };
        Ok(count - std::mem::replace(counted, count).min(count))
    }
}
