//! What is not a sound store of this format is refused, named, and left as it is.

use crate::fixture::{MIDNIGHT, Take as _, arrived, process, seen, store};
use daemoneye_lib::storage::{OpenError, Opened, Store};
use redb::{Database, TableDefinition};
use std::fs;
use std::path::{Path, PathBuf};

/// A store with rows, closed.
fn closed() -> (tempfile::TempDir, PathBuf) {
    let (directory, store) = store();
    for first in 0..4 {
        let items = (0..800).map(|at| seen(MIDNIGHT + at, process(1, "x"))).collect();
        let appended = store.take(&[arrived(1, 1 + first * 800, items)], 0).unwrap();
        store.commit_alerts(&[], &[], appended.next_row).unwrap();
    }
    let path = store.path().to_owned();
    (directory, path)
}

/// Opening fails, says where, and changes nothing.
fn refused(path: &Path) -> OpenError {
    let before = fs::read(path).unwrap();
    let error = Store::open(path).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(fs::read(path).unwrap(), before, "the file was changed: {error}");
    error
}

#[test]
fn a_missing_store_is_made_and_then_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.redb");
    assert_eq!(Store::open(&path).unwrap().1, Opened::Created);
    assert_eq!(Store::open(&path).unwrap().1, Opened::Existing);
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["events.redb"], "nothing else is left");
}

#[test]
fn a_creation_that_was_interrupted_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.redb");
    fs::write(directory.path().join("events.redb.new"), b"half").unwrap();
    assert_eq!(Store::open(&path).unwrap().1, Opened::Created);
}

#[test]
fn a_directory_that_is_missing_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nowhere/events.redb");
    let error = Store::open(&path).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("nowhere/events.redb"), "{error}");
}

#[test]
fn an_empty_file_is_not_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.redb");
    fs::write(&path, b"").unwrap();
    let error = refused(&path);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("move it aside"), "{error}");
}

#[test]
fn a_truncated_store_is_refused_at_any_length() {
    let (directory, path) = closed();
    let whole = fs::read(&path).unwrap();
    let cut = directory.path().join("cut.redb");
    let lengths = (0..40).map(|part| whole.len() * part / 40).chain([1, 8, 9, 63, 319, 320, 4_095, 4_096, 8_192]);
    for length in lengths.chain([whole.len() - 4_096, whole.len() - 1]) {
        fs::write(&cut, &whole[..length]).unwrap();
        let error = refused(&cut);
        assert!(matches!(error, OpenError::Damaged { .. }), "{length} of {}: {error:?}", whole.len());
    }
}

#[test]
fn noise_is_refused() {
    let (directory, path) = closed();
    let noise = |length: usize| (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8).collect::<Vec<_>>();
    let other = directory.path().join("noise.redb");
    for length in [1, 512, 4_096, 1 << 20] {
        fs::write(&other, noise(length)).unwrap();
        assert!(matches!(refused(&other), OpenError::Damaged { .. }), "{length} bytes of noise");
    }
    // The header is sound, what it points to is not.
    let mut bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[4_096..].copy_from_slice(&noise(length - 4_096));
    fs::write(&other, &bytes).unwrap();
    assert!(matches!(refused(&other), OpenError::Damaged { .. }), "noise behind the header");
}

#[test]
fn a_database_of_another_kind_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.redb");
    let other: TableDefinition<'_, &str, u64> = TableDefinition::new("spool");
    let database = Database::create(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(other).unwrap().insert("x", 1).unwrap();
    write.commit().unwrap();
    drop(database);
    assert!(matches!(refused(&path), OpenError::Damaged { .. }));
}

#[test]
fn another_format_is_refused_by_its_number() {
    let (_directory, path) = closed();
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let database = Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(meta).unwrap().insert("format", 1).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = refused(&path);
    assert!(matches!(error, OpenError::OtherVersion { found: 1, expected: 4, .. }), "{error:?}");
}

#[test]
fn a_store_is_open_once() {
    let (_directory, store) = store();
    let error = Store::open(store.path()).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
}
