//! Fuzzy hashes (context triggered piecewise hashing), by which similar files are found: those of `ssdeep` 2.14.
//!
//! The method is Jesse Kornblum's, "Identifying almost identical files using context triggered piecewise hashing"
//! (Digital Investigation 3S, 2006), after Andrew Tridgell's `spamsum`. A rolling sum over seven bytes decides where a
//! piece ends, so that an insertion moves the ends with it; each piece becomes one of 64 characters. The pieces of a file
//! are about `block size` bytes long, and the block size is chosen so that there are 32 to 64 of them; the hash has them once
//! for this size and once for its double, so that files of unlike lengths can be compared.
//!
//! It is written here because the crates that there are either come under the GPL (`ffuzzy`, `ssdeep`) or hold unsafe code,
//! overflow beyond 3 GiB and panic on a malformed hash (`fuzzyhash`). Tests compare it with `ssdeep` itself.
//!
//! What is chosen to be similar can be made so: it is a hint for whoever looks, not a proof.

mod likeness;
mod pieces;

pub(crate) use likeness::similarity;
pub(super) use pieces::Pieces;

/// How many pieces a hash has at the most.
const LENGTH: usize = 64;
/// How many bytes decide about the end of a piece, and how long a common part must be for two hashes to be alike.
const WINDOW: usize = 7;
/// The smallest block size; the others are doubled from it.
const SMALLEST: u64 = 3;

/// The sum of the last bytes.
#[derive(Clone, Default)]
struct Rolling {
    sum: u32,
    weighted: u32,
    shifted: u32,
    window: [u8; WINDOW],
    at: usize,
}

impl Rolling {
    fn add(&mut self, byte: u8) -> u32 {
        let new = u32::from(byte);
        let old = std::mem::replace(&mut self.window[self.at], byte);
        self.at = (self.at + 1) % WINDOW;
        self.weighted = self.weighted.wrapping_sub(self.sum).wrapping_add(WINDOW as u32 * new);
        self.sum = self.sum.wrapping_add(new).wrapping_sub(u32::from(old));
        self.shifted = (self.shifted << 5) ^ new;
        self.value()
    }

    fn value(&self) -> u32 {
        self.sum.wrapping_add(self.weighted).wrapping_add(self.shifted)
    }
}

#[cfg(test)]
mod tests;
