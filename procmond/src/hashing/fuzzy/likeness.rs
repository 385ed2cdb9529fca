//! How alike two files are, by their fuzzy hashes.

use super::{LENGTH, SMALLEST, WINDOW};
use std::collections::HashSet;

/// From this block size on, a short common part is no accident.
const LARGE: u64 = (99 + WINDOW as u64) / WINDOW as u64 * SMALLEST;

/// A fuzzy hash in its parts.
struct Parts {
    block: u64,
    /// The pieces of that size, and those of the double.
    pieces: [Vec<u8>; 2],
}

/// From 0 for files that have nothing in common to 100, as `ssdeep` counts; `None` when one of the two is no fuzzy hash.
pub(crate) fn similarity(one: &str, other: &str) -> Option<u8> {
    let (one, other) = (parts(one)?, parts(other)?);
    if one.block == other.block {
        if one.pieces == other.pieces {
            return Some(100);
        }
        let [single, double] = [0, 1].map(|at| score(&one.pieces[at], &other.pieces[at], one.block << at));
        Some(single.max(double))
    } else if one.block.checked_mul(2) == Some(other.block) {
        Some(score(&one.pieces[1], &other.pieces[0], other.block))
    } else if other.block.checked_mul(2) == Some(one.block) {
        Some(score(&one.pieces[0], &other.pieces[1], one.block))
    } else {
        Some(0)
    }
}

fn parts(hash: &str) -> Option<Parts> {
    let mut parts = hash.split(':');
    let block: u64 = parts.next()?.parse().ok().filter(|block| (SMALLEST..=u64::from(u32::MAX)).contains(block))?;
    let pieces = [parts.next()?, parts.next()?].map(|pieces| without_runs(pieces.as_bytes()));
    (parts.next().is_none() && pieces.iter().all(|pieces| pieces.len() <= LENGTH)).then_some(Parts { block, pieces })
}

/// A run of one character says little: of each, three stay.
fn without_runs(pieces: &[u8]) -> Vec<u8> {
    let mut kept: Vec<u8> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        if !kept.ends_with(&[*piece; 3]) {
            kept.push(*piece);
        }
    }
    kept
}

fn score(one: &[u8], other: &[u8], block: u64) -> u8 {
    if !have_a_part_in_common(one, other) {
        return 0;
    }
    let length = LENGTH as u64;
    let different = distance(one, other) * length / (one.len() + other.len()) as u64;
    let alike = 100u64.saturating_sub(100 * different / length);
    // Small files have few pieces, so that little in common is worth little.
    let most = if block >= LARGE { 100 } else { block / SMALLEST * one.len().min(other.len()) as u64 };
    u8::try_from(alike.min(most)).unwrap_or(100)
}

fn have_a_part_in_common(one: &[u8], other: &[u8]) -> bool {
    let parts: HashSet<&[u8]> = one.windows(WINDOW).collect();
    other.windows(WINDOW).any(|part| parts.contains(part))
}

/// How many characters are to be inserted and removed to make one of the other.
fn distance(one: &[u8], other: &[u8]) -> u64 {
    let mut row: Vec<u64> = (0..=other.len() as u64).collect();
    for (removed, left) in (1..).zip(one) {
        let mut diagonal = std::mem::replace(&mut row[0], removed);
        for (at, right) in other.iter().enumerate() {
            let both = diagonal + if left == right { 0 } else { 2 };
            diagonal = row[at + 1];
            row[at + 1] = both.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}
