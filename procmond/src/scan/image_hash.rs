//! What a record says of the hashes of its image: the hashes and where they come from, or why there are none, and whether the
//! image is unlike the one that was at its path before.

use super::{Predecessors, UNLIKE};
use crate::hashing::{self, Answer, Hashed, Hashes, Outcome, Source, Version};
use crate::provenance as why;
use daemoneye_lib::proto::common::ProcessRecord;
use std::sync::{Arc, Mutex, PoisonError};

const COLUMNS: [&str; 2] = ["executable_hash", "hash_algorithm"];
const FUZZY: &str = "fuzzy_hash";

/// The hashes, and the images that were at their paths before.
pub(crate) struct ImageHashes {
    pub(crate) hashes: Hashes,
    pub(crate) predecessors: Arc<Mutex<Predecessors>>,
}

impl ImageHashes {
    /// Puts what is known of the image, named as the kernel's structures do, into its record; whether more will be known.
    pub(crate) fn put(
        &self,
        image: Version,
        path: &[u8],
        source: impl FnOnce() -> Source,
        record: &mut ProcessRecord,
    ) -> bool {
        let (answer, version) = self.hashes.ask_for_image(image, source);
        put(&answer, version, path, &self.hashes, Some(&self.predecessors), record);
        answer == Answer::Waits
    }

    /// Puts what came of hashing the image into a record that says nothing else of it, if it is known by now.
    pub(crate) fn put_late(&self, image: Version, record: &mut ProcessRecord) {
        if let Some(outcome) = self.hashes.outcome_of_image(image) {
            put(&Answer::Known(outcome), image, &[], &self.hashes, None, record);
        }
    }
}

/// Notes why there is no hash; of fuzzy ones, only where they are wanted.
pub(crate) fn absent(reason: &str, hashes: Option<&Hashes>, record: &mut ProcessRecord) {
    why::absent(record, &COLUMNS, reason);
    if hashes.is_some_and(Hashes::is_fuzzy) {
        why::absent(record, &[FUZZY], reason);
    }
}

/// Puts what was answered about the image at the path into its record, which says already whether it is still there.
pub(super) fn put(
    answer: &Answer,
    version: Version,
    path: &[u8],
    hashes: &Hashes,
    predecessors: Option<&Mutex<Predecessors>>,
    record: &mut ProcessRecord,
) {
    let reason = match answer {
        Answer::Known(Outcome::Hash(hashed)) => return hash(hashed, version, path, predecessors, record),
        Answer::Known(outcome) | Answer::Again(outcome) => why_not(outcome),
        Answer::Waits => why::HASH_WAITS,
        Answer::Full => why::HASH_QUEUE_FULL,
        Answer::Off => why::HASHING_OFF,
        Answer::Broken => why::HASHING_BROKEN,
    };
    absent(reason, Some(hashes), record);
}

fn why_not(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::TooLarge => why::HASH_TOO_LARGE,
        Outcome::Denied => why::HASH_DENIED,
        Outcome::NotRegular => why::HASH_NOT_REGULAR,
        Outcome::Changed => why::HASH_UNSTABLE,
        Outcome::Gone | Outcome::Failed => why::HASH_OUT_OF_REACH,
        Outcome::Hash(_) | Outcome::GivenUp => why::HASH_WAITS,
    }
}

fn hash(
    hashed: &Hashed,
    version: Version,
    path: &[u8],
    predecessors: Option<&Mutex<Predecessors>>,
    record: &mut ProcessRecord,
) {
    record.executable_hash = Some(hashing::hex(&hashed.sha256));
    record.hash_algorithm = Some(hashing::ALGORITHM.to_owned());
    let origin = match (record.image_mismatch, record.file_exists) {
        (Some(true), Some(false)) => why::HASH_DELETED,
        (Some(true), _) => why::HASH_REPLACED,
        // That nobody may look at its name is told by `image_mismatch` itself.
        (Some(false) | None, _) => why::HASH_STABLE,
    };
    for column in COLUMNS {
        record.provenance.remove(column);
    }
    why::from(record, COLUMNS[0], origin);
    let Some(fuzzy) = &hashed.fuzzy else { return };
    record.provenance.remove(FUZZY);
    record.fuzzy_hash = Some(fuzzy.to_string());
    // An image that was replaced is none that has come to its path.
    let Some(predecessors) = predecessors.filter(|_| record.image_mismatch == Some(false)) else { return };
    // Nothing that can panic runs under the lock.
    let mut predecessors = predecessors.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(unlike) = predecessors.note(version, path, fuzzy) {
        let notes = [(UNLIKE[0], unlike.similarity.to_string()), (UNLIKE[1], unlike.previous.to_string())];
        record.platform_data.extend(notes.map(|(note, value)| (note.to_owned(), value)));
    }
}
