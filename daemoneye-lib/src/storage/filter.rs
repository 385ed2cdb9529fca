//! Which values a column of a block may have: a Bloom filter.
//!
//! 12 bits for each different value, at least 64, six of them set for each: a value that is not there is taken to be there
//! three times in a thousand. The bits are those of `h + i·d` modulo their number for i = 0 … 5, where h is the low half of a
//! 64-bit hash and d its high half with the lowest bit set. The hash is FNV-1a over the text's bytes, or over the eight
//! bytes of a number, little-endian, mixed by the finaliser of SplitMix64.

use std::collections::HashSet;

const BITS_PER_VALUE: usize = 12;
const PROBES: u64 = 6;

/// The hash of a text.
pub(super) fn hash_text(text: &str) -> u64 {
    hash(text.as_bytes())
}

/// The hash of a number.
pub(super) fn hash_number(number: i64) -> u64 {
    hash(&number.to_le_bytes())
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

fn places(hash: u64, bits: u64) -> impl Iterator<Item = (usize, u8)> {
    let (start, step) = (hash & 0xffff_ffff, (hash >> 32) | 1);
    (0..PROBES).filter_map(move |probe| {
        let bit = (start + probe * step).checked_rem(bits)?;
        Some((usize::try_from(bit / 8).ok()?, 1 << (bit % 8)))
    })
}

/// The filter that has these hashes.
pub(super) fn build(hashes: &HashSet<u64>) -> Vec<u8> {
    let mut filter = vec![0_u8; (hashes.len() * BITS_PER_VALUE).max(64).div_ceil(8)];
    let bits = filter.len() as u64 * 8;
    for (byte, bit) in hashes.iter().flat_map(|hash| places(*hash, bits)) {
        if let Some(byte) = filter.get_mut(byte) {
            *byte |= bit;
        }
    }
    filter
}

/// Whether the filter may have this hash; what is no filter may have everything.
pub(super) fn may_have(filter: &[u8], hash: u64) -> bool {
    let bits = filter.len() as u64 * 8;
    places(hash, bits).all(|(byte, bit)| filter.get(byte).is_none_or(|byte| byte & bit != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_values_that_are_not_there_seem_to_be() {
        let filter = build(&(0..2_000).map(hash_number).collect());
        assert!((0..2_000).all(|number| may_have(&filter, hash_number(number))));
        let wrong = (2_000..102_000).filter(|number| may_have(&filter, hash_number(*number))).count();
        assert!(wrong < 600, "{wrong} of 100,000");
    }

    #[test]
    fn the_hash_is_that_of_the_specification() {
        // Files have it: it never changes.
        assert_eq!(hash_text(""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash_number(1), hash(&[1, 0, 0, 0, 0, 0, 0, 0]));
    }

    proptest! {
        #[test]
        fn what_is_there_is_never_denied(texts: Vec<String>, noise: Vec<u8>) {
            let hashes: HashSet<u64> = texts.iter().map(|text| hash_text(text)).collect();
            let filter = build(&hashes);
            prop_assert!(hashes.iter().all(|hash| may_have(&filter, *hash)));
            let _ = may_have(&noise, hash_text("x"));
        }
    }
}
