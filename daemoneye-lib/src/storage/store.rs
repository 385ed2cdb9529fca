//! Opening the store, and reopening it after the disk refused.

use super::damage::{Damage, said};
use super::directory::sync_directory_of;
use super::error::{InStore, OpenError, StoreError};
use super::seal::seal;
use super::series::EVENTS;
use super::snapshot::Snapshot;
use super::statistics::{Extent, Verified};
use super::tables::{
    ALERT_KEYS, ALERTS, COLLECTORS, COMMITTED, CURRENT, DELIVERIES, DUE, ENDED, FORMAT, GAPS, META, PARTITIONS,
    REVIVED, SCANS, SNAPSHOTS, TRIGGER_IDS, TRIGGERS,
};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable as _, StorageError, WriteTransaction};
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// redb's page cache: more bought no speed and cost its size in memory.
const CACHE_BYTES: usize = 8 << 20;

/// The event store, open for this process alone.
#[derive(Debug)]
pub struct Store {
    pub(super) path: PathBuf,
    /// Absent after the disk refused, until [`Store::reopen`].
    database: RwLock<Option<Arc<Database>>>,
    damage: Damage,
}

/// What opening found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// There was none; it was made.
    Created,
    /// There was one, and it is sound as far as can be told without reading all of it.
    Existing,
}

impl Store {
    /// Opens the store at `path`, making it where nothing is.
    ///
    /// A new store is made beside its place and moved there whole, so that a file at `path` is a store or is damaged:
    /// it is never filled anew.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is changed then.
    pub fn open(path: &Path) -> Result<(Self, Opened), OpenError> {
        let exists = path.try_exists().map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let opened = if exists {
            Opened::Existing
        } else {
            create(path)?;
            Opened::Created
        };
        let database = open_existing(path)?;
        Ok((
            Self { path: path.to_owned(), database: RwLock::new(Some(Arc::new(database))), damage: Damage::default() },
            opened,
        ))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file again after [`StoreError::Io`] or [`StoreError::Closed`].
    ///
    /// # Errors
    /// As [`Store::open`]; `InUse` as long as a snapshot of before the failure is still held.
    pub fn reopen(&self) -> Result<(), OpenError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // The old handle holds the file's lock.
        *database = None;
        *database = Some(Arc::new(open_existing(&self.path)?));
        Ok(())
    }

    /// A view of what is committed now.
    ///
    /// # Errors
    /// When the disk refuses, or did before.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let read = self.database()?.begin_read().in_store(&self.path)?;
        Ok(Snapshot::new(read, self.path.clone(), self.damage.clone()))
    }

    /// The first damage that was met since the store was opened.
    pub fn damage(&self) -> Option<String> {
        self.damage.first()
    }

    /// Checks that the store is what it says; what is wrong with it stays known as its [`Store::damage`].
    ///
    /// # Errors
    /// When the store cannot be read at all.
    pub fn verify(&self, extent: Extent) -> Result<Verified, StoreError> {
        let verified = self.damage.noticed(&self.path, || self.snapshot()?.verify(extent))?;
        if let Some(problem) = verified.problems.first() {
            self.damage.note(&StoreError::damaged(&self.path, problem.as_str()));
        }
        Ok(verified)
    }

    /// The bytes of its file.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn file_bytes(&self) -> io::Result<u64> {
        fs::metadata(&self.path).map(|file| file.len())
    }

    pub(super) fn database(&self) -> Result<Arc<Database>, StoreError> {
        self.database
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(|| StoreError::Closed { path: self.path.clone() })
    }

    /// Runs `work` in one transaction: all of it is durable when this returns `Ok`, none of it otherwise.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.damage.noticed(&self.path, || {
            let write = self.database()?.begin_write().in_store(&self.path)?;
            let done = work(&write)?;
            seal(&write, &self.path)?;
            write.commit().in_store(&self.path)?;
            Ok(done)
        })
    }

    /// Runs `work` in a transaction of which nothing stays.
    pub(super) fn try_out<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.damage.noticed(&self.path, || {
            let write = self.database()?.begin_write().in_store(&self.path)?;
            let done = work(&write)?;
            write.abort().in_store(&self.path)?;
            Ok(done)
        })
    }
}

/// Makes an empty store and moves it to its place.
fn create(path: &Path) -> Result<(), OpenError> {
    let io = |source: io::Error| OpenError::Io { path: path.to_owned(), source };
    let new = path.with_extension("redb.new");
    // Left by a start that was interrupted before the rename: it holds nothing.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let database = builder().create(&new).map_err(|error| open_error(&new, error))?;
    initialise(&database).map_err(|error| match error {
        StoreError::Io { source, .. } => io(source),
        other => io(io::Error::other(other.to_string())),
    })?;
    drop(database);
    fs::rename(&new, path).map_err(io)?;
    // What is acknowledged later must not vanish with the name of its file.
    sync_directory_of(path).map_err(io)
}

fn initialise(database: &Database) -> Result<(), StoreError> {
    let path = Path::new("events.redb.new");
    let write = database.begin_write().in_store(path)?;
    write.open_table(META).in_store(path)?.insert("format", FORMAT).in_store(path)?;
    for series in &EVENTS {
        write.open_table(series.head).in_store(path)?;
    }
    write.open_table(PARTITIONS).in_store(path)?;
    write.open_table(CURRENT).in_store(path)?;
    write.open_table(ENDED).in_store(path)?;
    write.open_table(REVIVED).in_store(path)?;
    write.open_table(COMMITTED).in_store(path)?;
    write.open_table(COLLECTORS).in_store(path)?;
    write.open_table(GAPS).in_store(path)?;
    write.open_table(SCANS).in_store(path)?;
    write.open_table(ALERTS).in_store(path)?;
    write.open_table(ALERT_KEYS).in_store(path)?;
    write.open_table(DELIVERIES).in_store(path)?;
    write.open_table(DUE).in_store(path)?;
    write.open_table(SNAPSHOTS).in_store(path)?;
    write.open_table(TRIGGERS).in_store(path)?;
    write.open_table(TRIGGER_IDS).in_store(path)?;
    write.commit().in_store(path)
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn open_existing(path: &Path) -> Result<Database, OpenError> {
    let damaged = |detail: String| OpenError::Damaged { path: path.to_owned(), detail };
    // redb reports some kinds of damage by a panic.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        // First without writing, so that what is refused stays as it is. A store that was not closed must be repaired before
        // it can be read.
        match builder().open_read_only(path) {
            Ok(database) => check(&database, path)?,
            Err(DatabaseError::RepairAborted) => {}
            Err(error) => return Err(open_error(path, error)),
        }
        let database = builder().open(path).map_err(|error| open_error(path, error))?;
        check(&database, path)?;
        Ok(database)
    }));
    match opened {
        Ok(opened) => opened,
        Err(panic) => Err(damaged(said(panic.as_ref()))),
    }
}

/// What can be verified without reading everything: the format, that each table is there, and both ends of each large one.
fn check(database: &impl ReadableDatabase, path: &Path) -> Result<(), OpenError> {
    match format(database, path) {
        Ok(FORMAT) => Ok(()),
        Ok(found) => Err(OpenError::OtherVersion { path: path.to_owned(), found, expected: FORMAT }),
        Err(StoreError::Damaged { path, detail }) => Err(OpenError::Damaged { path, detail }),
        Err(StoreError::Io { path, source }) => Err(OpenError::Io { path, source }),
        Err(other) => Err(OpenError::Damaged { path: path.to_owned(), detail: other.to_string() }),
    }
}

fn format(database: &impl ReadableDatabase, path: &Path) -> Result<u64, StoreError> {
    let read = database.begin_read().in_store(path)?;
    let format = read.open_table(META).in_store(path)?.get("format").in_store(path)?.map(|format| format.value());
    let format = format.ok_or_else(|| StoreError::damaged(path, "it does not say its format"))?;
    if format != FORMAT {
        return Ok(format);
    }
    macro_rules! ends {
        ($($table:expr),*) => {$(
            let table = read.open_table($table).in_store(path)?;
            table.first().in_store(path)?;
            table.last().in_store(path)?;
        )*};
    }
    for series in &EVENTS {
        ends!(series.head);
    }
    ends!(
        PARTITIONS,
        CURRENT,
        ENDED,
        REVIVED,
        COMMITTED,
        COLLECTORS,
        GAPS,
        SCANS,
        ALERTS,
        ALERT_KEYS,
        DELIVERIES,
        DUE,
        SNAPSHOTS,
        TRIGGERS,
        TRIGGER_IDS
    );
    Ok(format)
}

fn open_error(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path },
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() == io::ErrorKind::InvalidData => {
            OpenError::Damaged { path, detail: source.to_string() }
        }
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() == io::ErrorKind::UnexpectedEof => {
            OpenError::Damaged { path, detail: "it is shorter than its own header says".to_owned() }
        }
        DatabaseError::Storage(StorageError::Io(source)) => OpenError::Io { path, source },
        other => OpenError::Damaged { path, detail: other.to_string() },
    }
}
