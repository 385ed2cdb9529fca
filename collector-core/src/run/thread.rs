//! The source's thread, and how it ended.

use crate::sink::Sink;
use crate::source::{EventSource, SourceError};
use std::any::Any;
use std::io;
use std::thread::{Builder, JoinHandle};
use tokio::sync::oneshot;

/// A thread that runs a source. Dropping this leaves the thread to end by itself: its queue is closed then.
pub(super) struct SourceThread {
    result: oneshot::Receiver<Result<(), SourceError>>,
    handle: Option<JoinHandle<()>>,
}

impl SourceThread {
    pub(super) fn spawn(name: &str, source: Box<dyn EventSource>, sink: Sink) -> io::Result<Self> {
        let (send, result) = oneshot::channel();
        let handle = Builder::new().name(format!("{name}-source")).spawn(move || {
            // The receiver is gone when nobody waits for the source any more.
            let _ = send.send(source.run(sink));
        })?;
        Ok(Self { result, handle: Some(handle) })
    }

    /// Whether the end has not been told yet.
    pub(super) fn runs(&self) -> bool {
        self.handle.is_some()
    }

    /// Waits for the source's end, or its panic, and tells the reason. Only while it [runs](Self::runs).
    pub(super) async fn ended(&mut self) -> Result<(), String> {
        let result = (&mut self.result).await;
        let handle = self.handle.take();
        match result {
            Ok(Err(error)) if error.is_stop() => Ok(()),
            Ok(result) => result.map_err(|error| error.to_string()),
            // The sender was dropped by a panic, which the thread's end carries; it is at its end already.
            Err(_) => Err(match handle.map(JoinHandle::join) {
                Some(Err(panic)) => format!("its source panicked: {}", words_of(panic.as_ref())),
                _ => "its source vanished".to_owned(),
            }),
        }
    }
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
