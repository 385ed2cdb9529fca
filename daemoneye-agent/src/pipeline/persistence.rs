//! The store, and patience with the disk below it.

use super::Progress;
use daemoneye_lib::storage::{OpenError, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::block_in_place;
use tokio::time::sleep;

const REOPEN_FIRST: Duration = Duration::from_millis(200);
const REOPEN_LAST: Duration = Duration::from_secs(5);

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PipelineError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Reopen(#[from] OpenError),
}

/// The store, and patience with the disk below it.
pub(crate) struct Persistence {
    pub(crate) store: Arc<Store>,
    pub(crate) progress: Progress,
}

impl Persistence {
    /// Does something with the store, however long the disk refuses. Damage is another matter: it ends the agent.
    pub(super) async fn insist<T>(&self, work: impl Fn(&Store) -> Result<T, StoreError>) -> Result<T, PipelineError> {
        let mut wait = REOPEN_FIRST;
        loop {
            let error = match block_in_place(|| work(&self.store)) {
                Ok(done) => {
                    self.progress.note(|state| state.store_trouble = None);
                    return Ok(done);
                }
                Err(error @ (StoreError::Io { .. } | StoreError::Closed { .. })) => error,
                Err(error) => return Err(error.into()),
            };
            tracing::error!(%error, "nothing is stored or acknowledged until the disk takes it again");
            self.progress.note(|state| state.store_trouble = Some(error.to_string()));
            sleep(wait).await;
            wait = (wait * 2).min(REOPEN_LAST);
            match block_in_place(|| self.store.reopen()) {
                Ok(()) | Err(OpenError::Io { .. } | OpenError::InUse { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
