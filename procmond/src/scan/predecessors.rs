//! The images that were last seen at a path, and how unlike them a new one is.
//!
//! A program that is updated stays like itself; one that somebody puts in the place of another does not. What is known
//! lives in memory alone: after a restart, the first image at a path is the one to compare with.
//!
//! A path counts within its file system, so that containers with file systems of their own are not compared with each
//! other. Where two trees share one, their images may take turns at a path: each of a few versions is new there only once.

use crate::hashing::{Cache, Version, similarity};
use std::sync::{Arc, Mutex};

/// Of so many paths the image is known.
const MAX_PATHS: usize = 4096;
/// What is longer is not remembered: so all of them together take no more than a few megabytes.
const MAX_PATH: usize = 1024;
/// So many versions at a path are known to have been there.
const MAX_VERSIONS: usize = 4;

/// Device, and path on it as far as we can see.
type Place = ((u32, u32), Vec<u8>);

struct Image {
    fuzzy: Arc<str>,
    /// The newest last.
    versions: Vec<Version>,
}

/// What was at the place of an image before it, and is unlike it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unlike {
    /// From 0 to 100.
    pub(super) similarity: u8,
    /// The fuzzy hash of the image before.
    pub(super) previous: Arc<str>,
}

/// The images that were last seen, by path.
pub(crate) struct Predecessors {
    images: Cache<Place, Image>,
    /// Images with a similarity under this are unlike.
    threshold: u8,
}

impl Predecessors {
    /// For the scanner and for who tells events.
    pub(crate) fn shared(threshold: u8) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self::new(threshold)))
    }

    fn new(threshold: u8) -> Self {
        Self { images: Cache::new(MAX_PATHS), threshold }
    }

    /// Takes note of the image that is at the path; what was there before, if it is new and unlike that.
    pub(super) fn note(&mut self, version: Version, path: &[u8], fuzzy: &Arc<str>) -> Option<Unlike> {
        if path.len() > MAX_PATH {
            return None;
        }
        let place = (version.device, path.to_vec());
        let Some(last) = self.images.get(&place) else {
            self.images.put(place, Image { fuzzy: Arc::clone(fuzzy), versions: vec![version] });
            return None;
        };
        let previous = std::mem::replace(&mut last.fuzzy, Arc::clone(fuzzy));
        if last.versions.contains(&version) {
            return None;
        }
        if last.versions.len() == MAX_VERSIONS {
            last.versions.remove(0);
        }
        last.versions.push(version);
        let similarity = similarity(&previous, fuzzy).filter(|similarity| *similarity < self.threshold)?;
        Some(Unlike { similarity, previous })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::FileId;
    use crate::reader::fake::file;

    const ONE: &str = "384:NHsXXk+qywJWg9w679p7/T535oGucAY6kjdhQMdZC1NQR5QZ5o8mhJecn:NHsXXsySjjrVAcUNUqZ5iZ";
    const LIKE_IT: &str = "384:NHsXXk+qywJWg9w6ocAY6kjdhQMdZC1NQR5QZ5o8mhJecn:NHsXXsyShVAcUNUqZ5iZ";
    const OTHER: &str = "384:bniIJkKQfalO7HIjp8k+Ey7sP7r9bXaTDXb6CJglV13wzWfwO:upHEy7sRuDr6CulHAVilOj";

    fn noted(predecessors: &mut Predecessors, inode: u64, path: &str, fuzzy: &str) -> Option<u8> {
        predecessors.note(Version::from(&file(inode)), path.as_bytes(), &fuzzy.into()).map(|unlike| unlike.similarity)
    }

    #[test]
    fn a_new_image_that_is_unlike_the_last_one_is_told_once() {
        let mut seen = Predecessors::new(50);
        assert_eq!(noted(&mut seen, 1, "/a", ONE), None, "the first");
        assert_eq!(noted(&mut seen, 1, "/a", ONE), None, "the same");
        assert_eq!(noted(&mut seen, 2, "/a", LIKE_IT), None, "an update");
        let unlike = seen.note(Version::from(&file(3)), b"/a", &OTHER.into());
        assert_eq!(unlike, Some(Unlike { similarity: 0, previous: LIKE_IT.into() }));
        assert_eq!(noted(&mut seen, 3, "/a", OTHER), None);
        assert_eq!(noted(&mut seen, 2, "/a", LIKE_IT), None, "taking turns with one that is known");
        assert_eq!(noted(&mut seen, 3, "/a", OTHER), None);
        assert_eq!(noted(&mut seen, 4, "/a", LIKE_IT), Some(0), "the same content in a new file");
        assert_eq!(noted(&mut seen, 9, "/b", ONE), None, "another path");
        let elsewhere = FileId { device: (0, 77), ..file(5) };
        assert_eq!(seen.note(Version::from(&elsewhere), b"/a", &ONE.into()), None, "another file system");
    }

    #[test]
    fn the_threshold_decides() {
        for (threshold, expected) in [(0, None), (91, None), (92, Some(91)), (100, Some(91))] {
            let mut seen = Predecessors::new(threshold);
            noted(&mut seen, 1, "/a", ONE);
            assert_eq!(noted(&mut seen, 2, "/a", LIKE_IT), expected, "{threshold}");
        }
    }

    #[test]
    fn paths_and_versions_are_bounded() {
        let mut seen = Predecessors::new(50);
        let long = format!("/{}", "x".repeat(MAX_PATH));
        assert_eq!((noted(&mut seen, 1, &long, ONE), noted(&mut seen, 2, &long, OTHER)), (None, None));
        for number in 0..10_000 {
            noted(&mut seen, number, &format!("/{number}"), ONE);
            noted(&mut seen, number, "/many", ONE);
            assert!(seen.images.len() <= MAX_PATHS);
        }
        let many = seen.images.get(&(file(1).device, b"/many".to_vec())).unwrap();
        assert_eq!(many.versions.len(), MAX_VERSIONS);
        assert_eq!(noted(&mut seen, 1, "/9999", OTHER), Some(0), "what was met last is known");
        assert_eq!(noted(&mut seen, 1, "/0", OTHER), None, "what was met first is forgotten");
    }
}
