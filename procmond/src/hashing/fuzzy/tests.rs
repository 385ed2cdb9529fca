//! Fuzzy hashes, compared with those of `ssdeep`.

use super::*;
use proptest::prelude::*;
use std::path::Path;
use std::process::Command;

fn hash(bytes: &[u8]) -> String {
    let mut pieces = Pieces::new(bytes.len() as u64).unwrap();
    for chunk in bytes.chunks(1000) {
        pieces.add(chunk);
    }
    pieces.finish().unwrap()
}

/// Bytes that look like chance and are always the same.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Contents of all kinds of lengths and regularity, and changed ones.
fn samples() -> Vec<Vec<u8>> {
    let mut samples = vec![b"Hello there!".to_vec(), vec![0; 5000], vec![b'a'; 100_000]];
    for length in [1, 2, 6, 7, 8, 100, 191, 192, 193, 500, 4096, 30_000, 100_001, 1_000_000] {
        samples.push(noise(length as u64, length));
        // With an end of zeros, where the rolling sum is zero at the end.
        samples.push([noise(7, length), vec![0; 50]].concat());
        samples.push(b"lorem ipsum dolor sit amet, ".iter().copied().cycle().take(length).collect());
    }
    let base = noise(42, 60_000);
    for (at, length) in [(0, 1), (100, 1), (30_000, 10), (30_000, 5000), (59_000, 1000), (10_000, 40_000)] {
        samples.push([&base[..at], &noise(at as u64, length), &base[at..]].concat());
        samples.push([&base[..at], &base[at + length..]].concat());
        samples.push([&base[..at], &noise(at as u64, length), &base[at + length..]].concat());
    }
    samples.push([&base[..], &base].concat());
    samples.push([&base[..], &base, &base, &base].concat());
    samples.push(base);
    samples
}

/// What `ssdeep` prints of the files in a directory: hash, and path.
fn ssdeep(arguments: &[&str], dir: &Path) -> Option<Vec<String>> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let output = Command::new("ssdeep").args(arguments).args(files).output().ok()?;
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[test]
fn hashes_and_similarities_are_those_of_ssdeep() {
    let dir = tempfile::tempdir().unwrap();
    let samples = samples();
    for (number, sample) in samples.iter().enumerate() {
        std::fs::write(dir.path().join(format!("{number:03}")), sample).unwrap();
    }
    let printed = ssdeep(&["-b"], dir.path());
    if !testkit::require("ssdeep", printed.is_some(), "is what fuzzy hashes are compared with") {
        return;
    }
    let hashes: Vec<String> = samples.iter().map(|sample| hash(sample)).collect();
    let theirs: Vec<_> =
        printed.unwrap().iter().filter_map(|line| Some(line.split_once(",\"")?.0.to_owned())).collect();
    assert_eq!(hashes, theirs);

    // Every pair that has something in common, as `"a","b",score`.
    let pairs = ssdeep(&["-b", "-d", "-a", "-c"], dir.path()).unwrap();
    let mut compared = 0;
    for line in &pairs {
        let [one, other, score] = line.split(',').map(|word| word.trim_matches('"')).collect::<Vec<_>>()[..] else {
            continue;
        };
        let at = |name: &str| &hashes[name.parse::<usize>().unwrap()];
        assert_eq!(similarity(at(one), at(other)), Some(score.parse().unwrap()), "{} and {}", at(one), at(other));
        compared += 1;
    }
    assert!(compared > samples.len(), "{pairs:?}");
}

#[test]
fn hashes_are_those_that_ssdeep_has_given() {
    assert_eq!(hash(b""), "3::");
    assert_eq!(hash(b"Hello there!"), "3:aNRn:aNRn");
    assert_eq!(hash(&[0; 5000]), "3::");
    for (seed, length, expected, changed, alike) in [
        (
            1,
            300,
            "6:Ijp8k+Ey7sP7r9bXaTDXb6CJg/lV13wzWfwObniIJkKQfalO7H:upH+Ey7sRuDr6Cu/lHAVilOj",
            "6:Ijp8k+Ey7sP7r9dYjgV13wzWfwObniIJkKQfalO7H:upH+Ey7sDHAVilOj",
            82,
        ),
        (
            2,
            20_000,
            "384:NHsXXk+qywJWg9w679p7/T535oGucAY6kjdhQMdZC1NQR5QZ5o8mhJecn:NHsXXsySjjrVAcUNUqZ5iZ",
            "384:NHsXXk+qywJWg9w6ocAY6kjdhQMdZC1NQR5QZ5o8mhJecn:NHsXXsyShVAcUNUqZ5iZ",
            91,
        ),
        (
            3,
            700_000,
            "12288:hTVIqKef8GM49hps0zz7bBZDccQScToKaojy1DMRyy5MNzTRHVMAHM/gfLTue7JZ:\
             NVIqv8r8fsIPbXQcQ64jy1DMRyKMNzFh",
            "12288:hTVIqKef8GM49hps0z7ojy1DMRyy5MNzTRHVMAHM/gfLTue7JVFm9pc:NVIqv8r8fsIkjy1DMRyKMNzFNHM/KLCO",
            83,
        ),
    ] {
        let whole = noise(seed, length);
        assert_eq!(hash(&whole), expected);
        assert_eq!(hash(&[&whole[..length / 3], b"something else", &whole[length / 2..]].concat()), changed);
        assert_eq!(similarity(expected, changed), Some(alike));
        assert_eq!(similarity(changed, expected), Some(alike));
    }
}

#[test]
fn what_is_no_fuzzy_hash_is_like_nothing() {
    let good = "6:Ijp8k+Ey7sP7r9bXaTDXb6CJg:upH+Ey7sRuDr6Cu";
    assert_eq!(similarity(good, good), Some(100));
    assert_eq!(
        similarity(good, "96:Ijp8k+Ey7sP7r9bXaTDXb6CJg:upH+Ey7sRuDr6Cu"),
        Some(0),
        "of other lengths altogether"
    );
    let long = format!("6:{}:", "abcdefgh".repeat(9));
    for bad in ["", ":", "6:a", "6:a:b:c", "x:a:b", "0:a:b", "-3:a:b", "99999999999:a:b", &long] {
        assert_eq!(similarity(good, bad), None, "{bad}");
        assert_eq!(similarity(bad, good), None, "{bad}");
    }
}

#[test]
fn a_file_of_another_size_than_it_said_has_none() {
    let mut pieces = Pieces::new(10).unwrap();
    pieces.add(b"123456789");
    assert_eq!(pieces.finish(), None);
    assert!(Pieces::new(u64::MAX).is_none() && Pieces::new(192 << 30).is_some());
}

proptest! {
    #[test]
    fn any_bytes_have_a_hash_that_is_like_itself(bytes: Vec<u8>, copies in 1..60usize) {
        let hash = hash(&bytes.repeat(copies));
        prop_assert!(hash.len() <= 2 * LENGTH + 20);
        prop_assert_eq!(similarity(&hash, &hash), Some(100));
    }

    #[test]
    fn any_texts_are_compared(one in "[0-9]{0,3}:[A-Ca:]{0,70}:?[A-C]{0,70}", other in "[0-9]{0,3}:[A-Ca]{0,70}:[A-C]{0,70}") {
        let score = similarity(&one, &other);
        prop_assert!(score.is_none_or(|score| score <= 100));
        prop_assert_eq!(score, similarity(&other, &one));
    }
}
