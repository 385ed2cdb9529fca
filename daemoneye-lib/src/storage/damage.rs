//! Damage that is met while the store is in use: an error for whoever met it, and known to whoever watches over the store.

use super::error::StoreError;
use super::snapshot::Rows;
use arrow::array::RecordBatch;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The first damage, shared by a store and all that reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct Damage(Arc<OnceLock<String>>);

impl Damage {
    pub(super) fn first(&self) -> Option<String> {
        self.0.get().cloned()
    }

    /// Does something with the store. redb reports some kinds of damage by a panic: it becomes an error.
    pub(super) fn noticed<T>(
        &self,
        path: &Path,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let done = catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|panic| Err(StoreError::damaged(path, said(panic.as_ref()))));
        if let Err(error @ StoreError::Damaged { .. }) = &done {
            self.note(error);
        }
        done
    }

    /// Remembers damage, unless there was some before.
    pub(super) fn note(&self, error: &StoreError) {
        // Only the first is kept.
        let _ = self.0.set(error.to_string());
    }

    /// The same for each step of reading.
    pub(super) fn watched(
        &self,
        path: &Path,
        rows: impl Iterator<Item = Result<RecordBatch, StoreError>> + Send + 'static,
    ) -> Rows {
        Box::new(Watched { damage: self.clone(), path: path.to_owned(), rows: Some(rows) })
    }
}

struct Watched<I> {
    damage: Damage,
    path: PathBuf,
    /// Gone after damage.
    rows: Option<I>,
}

impl<I: Iterator<Item = Result<RecordBatch, StoreError>>> Iterator for Watched<I> {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.rows.as_mut()?;
        let next = self.damage.noticed(&self.path, || rows.next().transpose());
        if next.is_err() {
            self.rows = None;
        }
        next.transpose()
    }
}

/// What a panic said.
pub(super) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("its pages contradict each other").to_owned()
}
