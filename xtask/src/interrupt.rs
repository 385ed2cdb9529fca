//! Ctrl-C and SIGTERM while a command runs: remembered instead of deadly, so that it can clean up behind itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use testkit::{Failure, poll};
use tokio::signal::unix::{SignalKind, signal};

/// Whether this program has been asked to end.
#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on the two signals are remembered. The thread that waits for them ends with the process.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let asked = Self(Arc::new(AtomicBool::new(false)));
        let told = asked.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(cannot)?;
        let (mut interrupt, mut terminate) = {
            let _context = runtime.enter();
            (signal(SignalKind::interrupt()).map_err(cannot)?, signal(SignalKind::terminate()).map_err(cannot)?)
        };
        std::thread::spawn(move || {
            runtime.block_on(async move {
                tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
            });
            told.0.store(true, Ordering::Relaxed);
        });
        Ok(asked)
    }

    /// A failure once this program has been asked to end.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::new("interrupted")) } else { Ok(()) }
    }

    /// Asks until the answer is there; a failure when it is not there within the limit.
    pub(crate) fn wait<T>(
        &self,
        limit: Duration,
        mut ask: impl FnMut() -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let answer = poll(limit, || self.check().and_then(|()| ask()).transpose());
        answer.unwrap_or_else(|| Err(Failure::new(format!("not within {limit:?}"))))
    }

    /// Lets time pass.
    pub(crate) fn idle(&self, duration: Duration) -> Result<(), Failure> {
        poll(duration, || self.check().err()).map_or(Ok(()), Err)
    }
}

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("cannot watch for signals: {error}"))
}
