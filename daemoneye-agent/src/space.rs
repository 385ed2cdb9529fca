//! How much room a file takes and how much is left beside it.

use std::path::Path;

/// What the file system says; none where it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// The size of the file.
    pub(crate) file_bytes: Option<u64>,
    /// What this user can still write.
    pub(crate) free_bytes: Option<u64>,
}

/// That of a file now.
pub(crate) fn of(path: &Path) -> Space {
    Space {
        file_bytes: path.metadata().ok().map(|metadata| metadata.len()),
        free_bytes: daemoneye_lib::config::free_bytes(path),
    }
}

/// A size for people.
pub(crate) fn in_words(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut rest = bytes;
    while rest >= 10 * 1024 && unit + 1 < UNITS.len() {
        rest /= 1024;
        unit += 1;
    }
    format!("{rest} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_keeps_them_short() {
        let words = [0, 10_239, 10_240, 5 << 30, 100 << 40].map(in_words);
        assert_eq!(words, ["0 bytes", "10239 bytes", "10 KiB", "5120 MiB", "100 TiB"]);
    }

    #[test]
    fn a_file_that_is_missing_takes_unknown_room() {
        let dir = tempfile::tempdir().unwrap_or_else(|error| unreachable!("{error}"));
        let space = of(&dir.path().join("nothing"));
        assert_eq!(space.file_bytes, None);
        assert!(of(dir.path()).free_bytes.is_some());
    }
}
