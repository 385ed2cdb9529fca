//! Planning within a time limit.
//!
//! Nothing can interrupt the planning of a statement, but nobody need wait for it. It runs on a thread of its own; what goes on
//! after its time keeps its place until it is done, so that few can be under way. What can be interrupted ends when nobody waits for
//! it any more.

use crate::answering::queries::failure;
use daemoneye_lib::proto::ipc::{RequestError, RequestErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

/// Places for planning.
#[derive(Clone)]
pub(crate) struct Planning(Arc<Semaphore>);

/// Why there is no outcome.
#[derive(Debug)]
pub(crate) enum Undone {
    /// The time is over.
    Late,
    /// The engine gave up.
    Defect(String),
}

/// Until when, and how long that was from the beginning.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) timeout: Duration,
}

impl Deadline {
    /// So long from now.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, timeout }
    }

    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.at
    }
}

impl Planning {
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    /// Does the work on a thread that may block, until the deadline or until the caller goes away.
    pub(crate) async fn run<T: Send + 'static, F: Future<Output = T>>(
        &self,
        deadline: Deadline,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T, Undone> {
        let place = timeout_at(deadline.at, Arc::clone(&self.0).acquire_owned()).await.map_err(|_| Undone::Late)?;
        let (waits, mut gone) = oneshot::channel::<()>();
        let working = spawn_blocking(move || {
            let done = Handle::current().block_on(async {
                tokio::select! {
                    done = timeout_at(deadline.at, work()) => done.ok(),
                    _ = &mut gone => None,
                }
            });
            drop(place);
            done
        });
        let done = timeout_at(deadline.at, working).await;
        drop(waits);
        match done {
            Ok(Ok(Some(done))) => Ok(done),
            Err(_) | Ok(Ok(None)) => Err(Undone::Late),
            Ok(Err(panic)) => Err(Undone::Defect(panic.to_string())),
        }
    }
}

impl Undone {
    /// What the operator is told who asked for this.
    pub(crate) fn told(self, what: &str, deadline: Deadline) -> RequestError {
        match self {
            Self::Late => {
                let message = format!("the {what} could not be planned within {} s", deadline.timeout.as_secs_f64());
                RequestError { hint: "ask for less at once".to_owned(), ..failure(RequestErrorKind::TimedOut, message) }
            }
            Self::Defect(panic) => {
                let message = format!("planning the {what} brought the engine down: {panic}");
                failure(RequestErrorKind::Defect, message)
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn what_cannot_be_interrupted_keeps_its_place_and_nobody_waits_for_it() {
        let planning = Planning::new(1);
        let (go_on, wait) = mpsc::channel::<()>();
        let soon = Deadline::after(Duration::from_millis(20));
        let stuck = planning
            .run(soon, move || async move {
                let _ = wait.recv();
            })
            .await;
        assert!(matches!(stuck, Err(Undone::Late)));
        let soon = Deadline::after(Duration::from_millis(20));
        assert!(matches!(planning.run(soon, || async {}).await, Err(Undone::Late)), "the place is taken");
        go_on.send(()).unwrap();
        assert!(planning.run(Deadline::after(LONG), || async {}).await.is_ok(), "it is free again");
    }

    #[tokio::test]
    async fn what_can_be_interrupted_ends_with_its_caller() {
        let planning = Planning::new(1);
        let (began, has_begun) = oneshot::channel();
        let (held, is_gone) = oneshot::channel::<()>();
        let own = planning.clone();
        let caller = tokio::spawn(async move {
            own.run(Deadline::after(LONG), move || async move {
                let _held = held;
                let _ = began.send(());
                std::future::pending::<()>().await;
            })
            .await
        });
        has_begun.await.unwrap();
        caller.abort();
        assert!(is_gone.await.is_err());
        assert!(planning.run(Deadline::after(LONG), || async {}).await.is_ok());
    }
}
