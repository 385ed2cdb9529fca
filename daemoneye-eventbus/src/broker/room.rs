//! How many may be there at one time, and who makes room for whom.
//!
//! Whoever comes stands on the [`Porch`] until it has said who it is, and has one of the [`Places`] from then on. Both are
//! bounded, and neither can be filled against collectors: on a full porch the oldest goes, and operators cannot have all
//! places.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::proto::Role;

/// Connections that have not said who they are.
const PORCH: usize = 16;

/// Where connections wait until they have said who they are. The accepting task owns it.
pub(super) struct Porch {
    room: Arc<Semaphore>,
    /// Oldest first.
    waiting: VecDeque<oneshot::Sender<()>>,
}

/// One connection on the porch.
pub(super) struct Waiting {
    /// Resolves when it must make room. Dropped when it has spoken: then it need not any more.
    pub(super) dismissed: oneshot::Receiver<()>,
    /// Held until it has a place, or has been turned away. Absent only when the porch is gone.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Default for Porch {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(PORCH)), waiting: VecDeque::new() }
    }
}

impl Porch {
    /// Takes one more. On a full porch the one that has been silent longest is dismissed, and this waits until somebody goes.
    pub(super) async fn enter(&mut self) -> Waiting {
        self.waiting.retain(|waiting| !waiting.is_closed());
        let room = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(room) => Some(room),
            Err(_) => {
                // One that has spoken in this moment is not there to be told, and the next is.
                while self.waiting.pop_front().is_some_and(|oldest| oldest.send(()).is_err()) {}
                Arc::clone(&self.room).acquire_owned().await.ok()
            }
        };
        let (dismiss, dismissed) = oneshot::channel();
        self.waiting.push_back(dismiss);
        Waiting { dismissed, room }
    }
}

/// The places of those who have said who they are; clones count the same places.
#[derive(Clone)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    operators: Arc<Semaphore>,
}

/// A place, given back when this is dropped.
pub(super) struct Place {
    _any: OwnedSemaphorePermit,
    _operators: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// So many places, at least two, of which a quarter is for collectors alone.
    pub(super) fn new(all: usize) -> Self {
        let all = all.clamp(2, Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(all)), operators: Arc::new(Semaphore::new(all - all.div_ceil(4))) }
    }

    /// A place for somebody of this role, or what there are too many of.
    pub(super) fn take(&self, role: Role) -> Result<Place, &'static str> {
        let operators = match role {
            Role::Operator => {
                Some(Arc::clone(&self.operators).try_acquire_owned().map_err(|_| "too many operators are connected")?)
            }
            _ => None,
        };
        let any = Arc::clone(&self.all).try_acquire_owned().map_err(|_| "too many connections")?;
        Ok(Place { _any: any, _operators: operators })
    }
}
