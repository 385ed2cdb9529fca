//! What watches processes, as a source of events for the collector's run loop: scans, and what goes on between them.

use crate::limitations::View;
use crate::memory::Keeper;
use crate::pace::{Pace, Wanted};
use crate::poller::Poller;
use crate::provenance as why;
use crate::scan::{Interrupted, ProcessCollector, ScanError};
use crate::snapshot::Due;
use crate::tasks;
use collector_core::{
    CollectedItem, CollectionCapabilities, EmitError, EventSource, FlushError, Sink, SourceCaps, SourceDescription,
    SourceError, SourceStatus, Stopped, TaskHandler,
};
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::columns;
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::proto::ipc::{ColumnSchema, Feature, Gap, TableSchema};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// An item up to this size is taken everywhere.
const SURELY_TAKEN: usize = 64 * 1024;
/// So much of a command line is told where the whole is not taken.
const SHORT_COMMAND_LINE: usize = 4096;

/// A new configuration, or a request for a snapshot, is noticed within this time, however long the interval.
const LOOK: Duration = Duration::from_secs(1);

/// What goes on between two scans.
pub(crate) trait Meanwhile<C>: Send {
    /// How processes are seen, and why in no better way.
    fn mode(&self) -> (&'static str, String);

    /// The same, where that is no longer as it was described.
    fn changed(&self) -> Option<(String, String)> {
        None
    }

    /// What it can do of its own now, where that is no longer as it was described.
    fn features(&self) -> Option<&[Feature]> {
        None
    }

    /// Whether what happens between two scans is told, so that scans only look for what is missed.
    fn hears(&self) -> bool;

    /// What is told beside processes.
    fn further(&self) -> Further {
        Further::default()
    }

    /// Whether something was told since the last time.
    fn news(&mut self) -> bool;

    /// Before the first scan, and before one that tells again what was told.
    fn begin(&mut self, poller: &mut Poller<C>);

    /// Spends so much time, or less.
    ///
    /// # Errors
    /// When the collector is stopping.
    fn spend(&mut self, poller: &mut Poller<C>, sink: &Sink, time: Duration) -> Result<(), Stopped>;
}

/// What is told beside processes.
#[derive(Default)]
pub(crate) struct Further {
    pub(crate) domains: Vec<&'static str>,
    pub(crate) caps: SourceCaps,
}

/// Watches the process table.
pub(crate) struct WatchSource<C> {
    pub(crate) poller: Poller<C>,
    pub(crate) meanwhile: Box<dyn Meanwhile<C>>,
    pub(crate) pace: Pace,
    /// What the configuration says of the pace.
    pub(crate) wanted: watch::Receiver<Wanted>,
    pub(crate) keeper: Keeper,
    pub(crate) snapshots: Due,
    pub(crate) view: View,
    /// What works here by itself, or does not.
    pub(crate) features: Vec<Feature>,
    /// What does the tasks.
    pub(crate) tasks: Option<Arc<dyn TaskHandler>>,
}

impl<C: ProcessCollector + Send + 'static> EventSource for WatchSource<C> {
    fn describe(&self) -> SourceDescription {
        let limitations = self.view.limitations();
        let mut caps = if limitations.is_empty() { SourceCaps::SYSTEM_WIDE } else { SourceCaps::empty() };
        if self.meanwhile.hears() {
            caps |= SourceCaps::REALTIME | SourceCaps::KERNEL_LEVEL;
        }
        let (mode, mode_reason) = self.meanwhile.mode();
        let further = self.meanwhile.further();
        SourceDescription {
            mode: mode.to_owned(),
            mode_reason,
            caps: caps | SourceCaps::PROCESS | further.caps,
            capabilities: CollectionCapabilities {
                domains: self.domains(),
                tasks: tasks::TYPES.map(Into::into).to_vec(),
                tables: vec![processes()],
            },
            limitations,
            features: self.features_now(),
        }
    }

    fn tasks(&mut self) -> Option<Arc<dyn TaskHandler>> {
        self.tasks.take()
    }

    fn run(mut self: Box<Self>, sink: Sink) -> Result<(), SourceError> {
        self.meanwhile.begin(&mut self.poller);
        while !sink.stopped() {
            let began = Instant::now();
            let mut last_error = None;
            if self.poller.tell_in(sink.epoch()) {
                // What was told by events is lost as well: the scan has to tell all that began until now.
                self.meanwhile.begin(&mut self.poller);
            }
            let every = self.wanted.borrow().snapshots_every;
            let snapshot = self.snapshots.begins(every, sink.is_crowded(), began, now_ns());
            match self.poller.round(snapshot, &mut |item| tell(&sink, item)) {
                Ok(round) => {
                    tracing::debug!(cpu = ?round.cpu, took = ?began.elapsed(), full = round.full, "scanned");
                    // A scan that reads everything is no measure of those that follow.
                    if !round.full {
                        self.pace.spent(round.cpu);
                    }
                    if round.news {
                        self.keeper.note_news();
                    }
                    if snapshot {
                        self.snapshot_told(&sink, round.scan);
                    }
                }
                Err(ScanError::Interrupted) => break,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "scan failed");
                    last_error = Some(error.to_string());
                }
            }
            if self.wait(&sink, began, last_error).is_err() {
                break;
            }
        }
        self.tell_left_out(&sink);
        if let Err(error) = self.remember(&sink, true) {
            tracing::warn!(error, "the next start will tell running processes again");
        }
        Ok(())
    }
}

impl<C: ProcessCollector> WatchSource<C> {
    fn domains(&self) -> Vec<String> {
        ["process"].into_iter().chain(self.meanwhile.further().domains).map(str::to_owned).collect()
    }

    fn features_now(&self) -> Vec<Feature> {
        let mut features = self.features.clone();
        for changed in self.meanwhile.features().unwrap_or_default() {
            features.iter_mut().filter(|feature| feature.name == changed.name).for_each(|it| it.clone_from(changed));
        }
        // Of a domain of which nothing at all can be told here, the agent knows that nobody looks.
        let domains = self.domains();
        let is_own = |table: &String| {
            let domain = Table::find(table).and_then(Table::domain);
            domain.is_some_and(|domain| domains.iter().any(|own| own == domain.name()))
        };
        features.iter_mut().for_each(|feature| feature.tables.retain(is_own));
        features
    }

    /// Spends the time until the next scan is due, which a new configuration can change meanwhile.
    fn wait(&mut self, sink: &Sink, began: Instant, mut last_error: Option<String>) -> Result<(), Stopped> {
        loop {
            if self.meanwhile.news() {
                self.keeper.note_news();
            }
            if self.keeper.is_due() {
                last_error = self.remember(sink, false).err().or(last_error);
            }
            let wanted = *self.wanted.borrow();
            let least = if self.meanwhile.hears() { wanted.beside_events() } else { wanted.least };
            self.pace.limit(least, wanted.max_cpu_per_cent);
            let interval = self.pace.interval();
            let scan_interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
            let (last_error, mode) = (last_error.clone(), self.meanwhile.changed());
            let features = self.meanwhile.features().map(|_| self.features_now()).unwrap_or_default();
            sink.report(SourceStatus { scan_interval_ms, last_error, mode, features });
            let left = interval.saturating_sub(began.elapsed());
            self.meanwhile.spend(&mut self.poller, sink, left.min(LOOK))?;
            if left <= LOOK || self.snapshots.is_asked_for() {
                return Ok(());
            }
        }
    }

    /// Answers who asked for the snapshot, once it is in the spool.
    fn snapshot_told(&mut self, sink: &Sink, scan: u64) {
        self.tell_left_out(sink);
        if !self.snapshots.serves() || sink.flush() != Err(FlushError::Stopped) {
            self.snapshots.done(scan);
        }
    }

    /// Tells of the snapshots before that were left out.
    fn tell_left_out(&mut self, sink: &Sink) {
        if let Some(gap) = self.snapshots.left_out(now_ns()) {
            // Who stops now tells nothing more.
            let _ = sink.emit(CollectedItem { item: Some(Item::Gap(gap)) });
        }
    }

    /// Writes down what was told, once it is in the spool: a state on disk never knows more than the spool.
    fn remember(&mut self, sink: &Sink, clean: bool) -> Result<(), String> {
        match sink.flush() {
            Ok(()) => {}
            Err(FlushError::Stopped) if !clean => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        let Some((header, table)) = self.poller.memory(clean) else { return Ok(()) };
        self.keeper.write(&header, table).map_err(|error| format!("cannot remember the processes told: {error}"))
    }
}

pub(crate) fn tell(sink: &Sink, item: Item) -> Result<(), Interrupted> {
    if sink.stopped() {
        return Err(Interrupted);
    }
    let item = CollectedItem { item: Some(item) };
    let spare = (prost::Message::encoded_len(&item) > SURELY_TAKEN).then(|| shorter(item.clone()));
    match (sink.emit(item), spare) {
        (Ok(()), _) => Ok(()),
        (Err(EmitError::TooLarge { .. }), Some(spare)) => match sink.emit(spare) {
            Err(EmitError::TooLarge { bytes, limit }) => lost(sink, bytes, limit),
            other => other.map_err(|_| Interrupted),
        },
        (Err(_), _) => Err(Interrupted),
    }
}

/// The item without most of its command line.
fn shorter(mut item: CollectedItem) -> CollectedItem {
    let Some(Item::Process(event)) = &mut item.item else { return item };
    let Some(record) = &mut event.process else { return item };
    record.argv = None;
    why::absent(record, &["argv"], why::TOO_LARGE);
    if let Some(line) = &mut record.command_line {
        record.command_line_truncated = Some(true);
        line.truncate(line.floor_char_boundary(SHORT_COMMAND_LINE));
    }
    item
}

/// Tells that an event could not be told.
fn lost(sink: &Sink, bytes: usize, limit: usize) -> Result<(), Interrupted> {
    let now = now_ns();
    let reason = format!("an event of {bytes} bytes is over the limit of {limit}");
    let gap = Gap { kind: "event_too_large".to_owned(), from: now, to: Some(now), count: Some(1), reason };
    sink.emit(CollectedItem { item: Some(Item::Gap(gap)) }).map_err(|_| Interrupted)
}

fn processes() -> TableSchema {
    let columns =
        columns::PROCESS.iter().map(|column| ColumnSchema { name: column.name.to_owned(), kind: column.kind.into() });
    TableSchema { table: "processes".to_owned(), columns: columns.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemoneye_lib::proto::common::{Arguments, ProcessEvent, ProcessRecord};

    #[test]
    fn a_shorter_event_says_that_it_is() {
        let record = ProcessRecord {
            command_line: Some("ü".repeat(100_000)),
            command_line_truncated: Some(false),
            argv: Some(Arguments { values: vec!["ü".repeat(100_000)] }),
            name: Some("x".into()),
            ..ProcessRecord::default()
        };
        let event = ProcessEvent { process: Some(record), ..ProcessEvent::default() };
        let Some(Item::Process(event)) = shorter(CollectedItem { item: Some(Item::Process(event)) }).item else {
            panic!("still an event");
        };
        let record = event.process.unwrap();
        assert_eq!(record.command_line.as_deref().map(str::len), Some(SHORT_COMMAND_LINE));
        assert_eq!((record.command_line_truncated, record.name.as_deref()), (Some(true), Some("x")));
        assert_eq!((record.argv, record.provenance["argv"].as_str()), (None, why::TOO_LARGE));
    }
}
