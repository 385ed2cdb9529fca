//! Names of users by uid, from `/etc/passwd` alone: asking anything else could block, or leave the host.
//!
//! The names are those of the host, also for a process in a container. The file is read again when it has changed.

use super::number;
use daemoneye_lib::models::text::escape_bytes;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// At most so much of the file is read; users beyond have no name.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Identity and change time of a file's content.
type Version = (u64, i64, i64, u64);

/// The users of a passwd file.
pub(crate) struct Users {
    path: PathBuf,
    version: Option<Version>,
    names: HashMap<u32, Box<str>>,
}

impl Users {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), version: None, names: HashMap::new() }
    }

    /// Reads the file if it is another than before; one that cannot be read leaves the names as they were.
    pub(crate) fn refresh(&mut self) {
        let Ok(found) = std::fs::metadata(&self.path) else { return };
        let version = Some((found.ino(), found.mtime(), found.mtime_nsec(), found.size()));
        if version == self.version {
            return;
        }
        let mut bytes = Vec::new();
        if File::open(&self.path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)).is_ok() {
            self.names = parse(&bytes);
            self.version = version;
        }
    }

    /// The user's name.
    pub(crate) fn name(&self, uid: u32) -> Option<&str> {
        self.names.get(&uid).map(AsRef::as_ref)
    }
}

/// Of several names for one uid the first counts, as for getpwuid(3).
fn parse(file: &[u8]) -> HashMap<u32, Box<str>> {
    let mut names = HashMap::new();
    for line in file.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        if let (Some(name), Some(uid)) = (fields.next(), fields.nth(1).and_then(number)) {
            names.entry(uid).or_insert_with(|| escape_bytes(name).into_boxed_str());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_follow_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwd");
        let mut users = Users::new(&path);
        users.refresh();
        assert_eq!(users.name(0), None, "no file, no names");
        std::fs::write(&path, "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nbroken\n+::\n").unwrap();
        users.refresh();
        assert_eq!(users.name(0), Some("root"));
        assert_eq!(users.name(1), None);
        std::fs::write(&path, "root:x:0:0:root:/root:/bin/sh\nnew:x:1:1::/:/bin/sh\n").unwrap();
        users.refresh();
        assert_eq!(users.name(1), Some("new"));
        std::fs::remove_file(&path).unwrap();
        users.refresh();
        assert_eq!(users.name(1), Some("new"), "a file that is gone takes no names with it");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
