//! From bytes to a fuzzy hash.

use super::{LENGTH, Rolling, SMALLEST};

/// So many block sizes there are: enough for 192 GiB.
const LEVELS: usize = 31;
const HALF: usize = LENGTH / 2;
const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The hash of a piece: FNV-like, of which only the last six bits are ever looked at; so only they are kept.
#[derive(Clone, Copy)]
struct Piece(u8);

impl Piece {
    const START: Self = Self(0x27);

    fn add(&mut self, byte: u8) {
        self.0 = (self.0.wrapping_mul(0x13) ^ byte) & 63;
    }

    fn character(self) -> u8 {
        CHARACTERS[usize::from(self.0 & 63)]
    }
}

/// The pieces of one block size.
#[derive(Clone)]
struct Level {
    /// The piece that is going on.
    piece: Piece,
    /// The same where the half of all pieces are one: the last of the shorter form of the hash.
    half: Piece,
    ended: [u8; LENGTH],
    /// How many have ended; the last of all goes on to the end of the file.
    count: usize,
    /// The characters that the last pieces had when a piece of the file's last ended.
    last: Option<u8>,
    last_half: Option<u8>,
}

impl Level {
    fn new(piece: Piece, half: Piece) -> Self {
        Self { piece, half, ended: [0; LENGTH], count: 0, last: None, last_half: None }
    }

    /// A piece ends here; false when there were so many that the last one goes on.
    fn end(&mut self) -> bool {
        let (character, half) = (self.piece.character(), self.half.character());
        if self.count == LENGTH - 1 {
            (self.last, self.last_half) = (Some(character), Some(half));
            return false;
        }
        self.ended[self.count] = character;
        self.count += 1;
        self.piece = Piece::START;
        if self.count < HALF {
            (self.half, self.last_half) = (Piece::START, None);
        } else {
            self.last_half = Some(half);
        }
        true
    }
}

/// A fuzzy hash in the making, of a file whose size is known.
pub(in crate::hashing) struct Pieces {
    rolling: Rolling,
    /// The levels of all block sizes that can still be chosen; `first` is the number of the smallest.
    levels: Vec<Level>,
    first: usize,
    /// The bits that are zero behind every end of a piece.
    mask: u32,
    size: u64,
    read: u64,
}

impl Pieces {
    /// For a file of this size; `None` for one that is too large to be hashed so.
    pub(in crate::hashing) fn new(size: u64) -> Option<Self> {
        let fits = size <= block_size(LEVELS - 1) * LENGTH as u64;
        let levels = vec![Level::new(Piece::START, Piece::START)];
        fits.then(|| Self { rolling: Rolling::default(), levels, first: 0, mask: 0, size, read: 0 })
    }

    /// Adds what was read.
    pub(in crate::hashing) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let rolled = self.rolling.add(*byte);
            for level in &mut self.levels {
                level.piece.add(*byte);
                level.half.add(*byte);
            }
            // Where a piece of a block size ends, one of the half of it ends too: so the smallest decides. Cheap for most bytes.
            let next = rolled.wrapping_add(1);
            if next & self.mask == 0 && next.is_multiple_of(SMALLEST as u32) {
                self.end(rolled);
            }
        }
        self.read += bytes.len() as u64;
    }

    fn end(&mut self, rolled: u32) {
        let mut index = 0;
        while let Some(level) = self.levels.get_mut(index) {
            let block = block_size(self.first + index);
            if u64::from(rolled) % block != block - 1 {
                break;
            }
            // The next larger size begins when this one has its first end.
            let next = (level.count == 0).then(|| Level::new(level.piece, level.half));
            let went_on = !level.end();
            if let Some(next) = next.filter(|_| self.first + self.levels.len() < LEVELS) {
                self.levels.push(next);
            }
            if went_on && index == 0 && self.first_is_too_small() {
                self.levels.remove(0);
                self.first += 1;
                self.mask = (1 << self.first) - 1;
            } else {
                index += 1;
            }
        }
    }

    /// Whether the smallest block size can no longer be chosen.
    fn first_is_too_small(&self) -> bool {
        let enough = self.levels.get(1).is_some_and(|next| next.count >= HALF);
        enough && block_size(self.first) * (LENGTH as u64) < self.size
    }

    /// The hash; `None` where the file was not of the size that it was said to have.
    pub(in crate::hashing) fn finish(self) -> Option<String> {
        if self.read != self.size {
            return None;
        }
        let wanted = (0..LEVELS).find(|level| block_size(*level) * LENGTH as u64 >= self.size)?;
        let mut index = wanted.saturating_sub(self.first).min(self.levels.len() - 1);
        while index > 0 && self.levels[index].count < HALF {
            index -= 1;
        }
        let (level, next) = (&self.levels[index], self.levels.get(index + 1));
        let rolled = self.rolling.value();
        let mut hash = format!("{}:", block_size(self.first + index)).into_bytes();
        hash.extend(&level.ended[..level.count]);
        hash.extend(if rolled == 0 { level.last } else { Some(level.piece.character()) });
        hash.push(b':');
        match next {
            Some(next) => {
                hash.extend(&next.ended[..next.count.min(HALF - 1)]);
                hash.extend(if rolled == 0 { next.last_half } else { Some(next.half.character()) });
            }
            None if rolled != 0 => hash.push(level.piece.character()),
            None => {}
        }
        String::from_utf8(hash).ok()
    }
}

fn block_size(level: usize) -> u64 {
    SMALLEST << level
}
