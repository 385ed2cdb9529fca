//! Ctrl-C and SIGTERM while the demo runs: remembered instead of deadly, so that the demo can clean up behind itself.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::Failure;
use tokio::signal::unix::{SignalKind, signal};

/// Whether the demo has been asked to end.
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

    /// A failure once the demo has been asked to end.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::new("interrupted")) } else { Ok(()) }
    }
}

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("cannot watch for signals: {error}"))
}
