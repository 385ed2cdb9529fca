//! The collector's side: a source that follows a script, and a run of it.

use crate::agent::{NAME, Site, soon};
use collector_core::{
    CollectedItem, CollectionCapabilities, CollectorConfig, CollectorError, DataDirLock, Ended, EventSource, Sink,
    SourceCaps, SourceDescription, SourceError, run,
};
use daemoneye_eventbus::Token;
use daemoneye_lib::proto::ipc::{Gap, collected_item::Item};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Script = Box<dyn FnOnce(Sink) -> Result<(), SourceError> + Send>;

/// A source that does what a closure says.
pub(crate) struct Scripted(Option<Script>);

impl Scripted {
    /// Ends at once.
    pub(crate) fn idle() -> Self {
        Self(None)
    }
}

impl EventSource for Scripted {
    fn describe(&self) -> SourceDescription {
        SourceDescription {
            mode: "scripted".into(),
            mode_reason: "a test".into(),
            caps: SourceCaps::PROCESS,
            capabilities: CollectionCapabilities { domains: vec!["process".into()], ..Default::default() },
            limitations: vec!["sees nothing real".into()],
            ..Default::default()
        }
    }

    fn run(mut self: Box<Self>, sink: Sink) -> Result<(), SourceError> {
        self.0.take().map_or(Ok(()), |script| script(sink))
    }
}

/// A collector on a task.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Ended, CollectorError>>,
}

pub(crate) fn config(site: &Site, token: Option<Token>) -> CollectorConfig {
    CollectorConfig {
        name: NAME.into(),
        version: "1.2.3".into(),
        data_dir: site.collector_dir(),
        socket: site.socket(),
        bus_keys: None,
        spool_max_bytes: 64 * 1024 * 1024,
        orphan_timeout: None,
        token,
        boot_id: "a boot".into(),
        variables: Default::default(),
    }
}

pub(crate) fn start(
    config: CollectorConfig,
    script: impl FnOnce(Sink) -> Result<(), SourceError> + Send + 'static,
) -> Running {
    start_source(config, Box::new(Scripted(Some(Box::new(script)))))
}

pub(crate) fn start_source(config: CollectorConfig, source: Box<dyn EventSource>) -> Running {
    let lock = DataDirLock::acquire(&config.data_dir).unwrap();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(run(config, lock, source, async { drop(stopped.await) }));
    Running { stop, task }
}

impl Running {
    /// Tells it to stop, and waits for its end.
    pub(crate) async fn stop(self) -> Result<Ended, CollectorError> {
        drop(self.stop);
        soon("the collector's end", self.task).await.unwrap()
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) -> Result<Ended, CollectorError> {
        let ended = soon("the collector's end", self.task).await.unwrap();
        drop(self.stop);
        ended
    }

    /// As after `kill -9`: nothing is drained.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(soon("the collector's end", self.task).await.unwrap_err().is_cancelled());
    }
}

pub(crate) fn item(number: usize, bytes: usize) -> CollectedItem {
    let reason = format!("{number}{}", " ".repeat(bytes));
    CollectedItem { item: Some(Item::Gap(Gap { reason, ..Gap::default() })) }
}

/// Emits so many items and then waits to be stopped.
pub(crate) fn emits(items: std::ops::Range<usize>) -> impl FnOnce(Sink) -> Result<(), SourceError> + Send {
    move |sink| {
        for number in items {
            sink.emit(item(number, 20))?;
        }
        waits(&sink)
    }
}

pub(crate) fn waits(sink: &Sink) -> Result<(), SourceError> {
    while !sink.stopped() {
        sink.pause(Duration::from_secs(60))?;
    }
    Ok(())
}
