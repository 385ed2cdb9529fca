//! The way from the source's thread to the run loop's task.
//!
//! One bounded queue of encoded items: at most [`MAX_QUEUED_ITEMS`], or what the operator says, and [`MAX_QUEUED_BYTES`]. When it is full the
//! source waits; nothing is dropped here. The queue also carries the word to stop, in two steps: *stopping* asks the
//! source to end and still takes what it emits, *closed* takes nothing any more.

use crate::orders::{Orders, Settings};
use crate::reported::Reported;
use crate::source::SourceStatus;
use daemoneye_lib::models::domain::{Domain, Domains};
use daemoneye_lib::models::event::Epoch;
use daemoneye_lib::proto::ipc::{CollectedItem, Instructions};
use prost::Message;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::sleep_until;

/// The largest encoded item, in bytes, that a frame of the bus can carry together with its envelope.
pub const MAX_ITEM: usize = 3_584 * 1024;
pub(crate) const MAX_QUEUED_ITEMS: usize = 1024;
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;
/// How long the first item that waits may wait for others, unless the queue is full before.
const BREATH: Duration = Duration::from_millis(2);

/// The collector is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the collector is stopping")]
pub struct Stopped;

/// Why an item was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The collector has stopped and takes nothing more.
    #[error("the collector is stopping")]
    Stopped,
    /// The item cannot travel; the source can go on, and should tell a gap in its place.
    #[error("an item of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// The encoded item's size.
        bytes: usize,
        /// What is possible: [`MAX_ITEM`], or a quarter of the spool's bound where that is less.
        limit: usize,
    },
    /// The item says nothing.
    #[error("an item without content")]
    Empty,
    /// The source's description does not name the item's domain: the agent would not take it.
    #[error("an item of the domain \"{domain}\", which the source does not declare among its capabilities")]
    Undeclared {
        /// To which the item belongs.
        domain: Domain,
    },
}

/// Why a flush was not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The collector has stopped.
    #[error("the collector is stopping")]
    Stopped,
    /// The spool's disk refuses writes, so that a crash now would lose emitted items: persist no state that relies on
    /// them, and try again at the next occasion.
    #[error("emitted items wait for the spool's disk")]
    Unwritten,
}

/// Where a source tells what it sees; clones tell the same queue.
#[derive(Debug, Clone)]
pub struct Sink(Arc<Handoff>);

impl Sink {
    /// Hands over an item, in the order in which things came about; waits while the queue is full, while the collector is
    /// paused, and, while the process has more in memory than it may, for the queue to be empty.
    ///
    /// While the collector is stopping it still takes what is emitted, for about a second.
    ///
    /// # Errors
    /// An item that is too large, empty, or of a domain that the source does not declare is refused, and the source can go
    /// on.
    pub fn emit(&self, item: impl Into<CollectedItem>) -> Result<(), EmitError> {
        let item = item.into();
        if let Some(domain) = item.item.as_ref().and_then(Domain::of).filter(|own| !self.0.domains.contains(*own)) {
            return Err(EmitError::Undeclared { domain });
        }
        let bytes = item.encoded_len();
        if bytes == 0 {
            return Err(EmitError::Empty);
        }
        if bytes > self.0.max_item {
            return Err(EmitError::TooLarge { bytes, limit: self.0.max_item });
        }
        let encoded = item.encode_to_vec();
        let mut state = self.0.wait_while(|state| state.phase != Phase::Closed && !state.takes(bytes));
        if state.phase == Phase::Closed {
            return Err(EmitError::Stopped);
        }
        let is_first = state.items.is_empty();
        if is_first {
            state.waits_since = Instant::now();
        }
        state.items.push_back(encoded);
        state.bytes += bytes;
        state.accepted += 1;
        let is_full = state.is_full();
        drop(state);
        if is_first || is_full {
            self.0.arrived.notify_one();
        }
        Ok(())
    }

    /// Sleeps, and wakes at once when the collector is stopping or the source's settings are new. While the collector is
    /// paused it does not return.
    ///
    /// # Errors
    /// [`Stopped`] when the collector is stopping.
    pub fn pause(&self, duration: Duration) -> Result<(), Stopped> {
        let began = Instant::now();
        let mut state = self.0.lock();
        loop {
            let left = duration.saturating_sub(began.elapsed());
            if state.phase != Phase::Open {
                return Err(Stopped);
            }
            state = if state.orders.paused() {
                self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else if left.is_zero() || state.orders.is_news() {
                return Ok(());
            } else {
                self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// The newest settings. A source that asks for them answers each version with [`Sink::settled`].
    pub fn settings(&self) -> Settings {
        self.0.lock().orders.look()
    }

    /// Says that the settings of this version are in force, or why they are not and what was before still is.
    pub fn settled(&self, version: u64, taken: Result<(), String>) {
        self.0.lock().orders.answer(version, taken.err().unwrap_or_default());
    }

    /// Whether the process has more in memory than `memory_budget_bytes`: a source that keeps what it can do without gives
    /// it up now.
    pub fn is_over_budget(&self) -> bool {
        self.0.lock().orders.over_budget
    }

    /// Whether more than half of the spool is full of what waits for the agent: a source that tells what can be done without
    /// leaves it out now, so that it does not push out what cannot.
    pub fn is_crowded(&self) -> bool {
        self.0.lock().crowded
    }

    /// Whether the source shall end.
    pub fn stopped(&self) -> bool {
        self.0.lock().phase != Phase::Open
    }

    /// The epoch that what is emitted from now on belongs to, or a later one.
    ///
    /// Whoever has all of an epoch must need nothing from before. So a source that tells only what is new keeps this
    /// beside its state, and tells everything anew when it is no longer the same: the agent, or the spool, may have lost
    /// what was told earlier.
    pub fn epoch(&self) -> Epoch {
        self.0.lock().epoch
    }

    /// Reports the source's state; the latest report counts. A mode or features that are news are told the agent at once.
    pub fn report(&self, status: SourceStatus) {
        if self.0.lock().reported.take(status) {
            self.0.arrived.notify_one();
        }
    }

    /// Returns when all that was emitted before is in the spool, so that state that relies on it may be persisted.
    ///
    /// # Errors
    /// [`FlushError::Unwritten`] when the spool's disk refuses it at present.
    pub fn flush(&self) -> Result<(), FlushError> {
        let target = self.0.lock().accepted;
        let state = self.0.wait_while(|state| state.phase != Phase::Closed && state.settled < target);
        match state.settled >= target {
            true if state.behind => Err(FlushError::Unwritten),
            true => Ok(()),
            false => Err(FlushError::Stopped),
        }
    }
}

/// The run loop's end of the queue; the source is told to stop when it is dropped.
#[derive(Debug)]
pub(crate) struct Intake(Arc<Handoff>);

/// A queue of at most `max_items`, each of at most `max_item` bytes and of these domains, for a source and a run loop, which
/// begins in this epoch.
pub(crate) fn queue(max_item: usize, max_items: usize, epoch: Epoch, domains: Domains) -> (Sink, Intake) {
    let state = Mutex::new(State::new(epoch, max_items));
    let handoff = Arc::new(Handoff { max_item, domains, state, changed: Condvar::new(), arrived: Notify::new() });
    (Sink(Arc::clone(&handoff)), Intake(handoff))
}

impl Intake {
    /// Resolves when something has waited in the queue for a moment (what a source tells in one breath is spooled and sent
    /// together), or the source observes otherwise than before. Cancelling it loses nothing.
    pub(crate) async fn ready(&self) {
        loop {
            let until = {
                let state = self.0.lock();
                if state.reported.is_news() {
                    return;
                }
                match state.items.is_empty() {
                    true => None,
                    false if state.is_full() => return,
                    false => Some(state.waits_since + BREATH),
                }
            };
            let Some(until) = until else {
                self.0.arrived.notified().await;
                continue;
            };
            tokio::select! {
                () = self.0.arrived.notified() => {}
                () = sleep_until(until.into()) => return,
            }
        }
    }

    /// Whether the source observes otherwise than when this was last asked.
    pub(crate) fn take_news(&self) -> bool {
        self.0.lock().reported.take_news()
    }

    /// Takes what waits; each item taken is to be settled.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        let mut state = self.0.lock();
        state.bytes = 0;
        let items = state.items.drain(..).collect();
        drop(state);
        self.0.changed.notify_all();
        items
    }

    /// The spool has `items` more; `behind` says that some of what it was given is not on its disk.
    pub(crate) fn settle(&self, items: usize, behind: bool) {
        let mut state = self.0.lock();
        state.settled += items as u64;
        state.behind = behind;
        drop(state);
        self.0.changed.notify_all();
    }

    /// What is taken from now on goes into this epoch.
    pub(crate) fn begin(&self, epoch: Epoch) {
        self.0.lock().epoch = epoch;
    }

    /// Takes new instructions; returns what they change of being paused.
    pub(crate) fn instruct(&self, wanted: Instructions) -> Option<bool> {
        let changed = self.0.lock().orders.instruct(wanted);
        self.0.changed.notify_all();
        changed
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.0.lock().orders.paused()
    }

    pub(crate) fn memory_budget(&self) -> Option<u64> {
        self.0.lock().orders.memory_budget()
    }

    pub(crate) fn over_budget(&self, over: bool) {
        self.0.lock().orders.over_budget = over;
        self.0.changed.notify_all();
    }

    pub(crate) fn crowded(&self, crowded: bool) {
        self.0.lock().crowded = crowded;
    }

    /// The version of the settings that were taken or refused, and the refusal.
    pub(crate) fn answered_settings(&self) -> (u64, String) {
        self.0.lock().orders.answered()
    }

    /// The newest report of the source, as [`Reported::now`].
    pub(crate) fn status(&self) -> (SourceStatus, i64) {
        self.0.lock().reported.now()
    }

    /// The items that wait, the most that may, and those that were emitted so far.
    pub(crate) fn queued(&self) -> (u64, u64, u64) {
        let state = self.0.lock();
        (state.items.len() as u64, state.max_items as u64, state.accepted)
    }

    /// Asks the source to end; what it still emits is taken.
    pub(crate) fn stop(&self) {
        let mut state = self.0.lock();
        state.phase = state.phase.max(Phase::Stopping);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Takes nothing more from the source; what waits can still be taken here.
    pub(crate) fn close(&self) {
        self.0.lock().phase = Phase::Closed;
        self.0.changed.notify_all();
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Debug)]
struct Handoff {
    max_item: usize,
    /// What the source declares.
    domains: Domains,
    state: Mutex<State>,
    /// For the source: room, a flush that is done, the word to stop.
    changed: Condvar,
    /// For the run loop: an item waits, or news of the source.
    arrived: Notify,
}

#[derive(Debug)]
struct State {
    epoch: Epoch,
    max_items: usize,
    items: VecDeque<Vec<u8>>,
    /// When the first of them came.
    waits_since: Instant,
    bytes: usize,
    accepted: u64,
    settled: u64,
    behind: bool,
    crowded: bool,
    phase: Phase,
    reported: Reported,
    orders: Orders,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Stopping,
    Closed,
}

impl State {
    fn new(epoch: Epoch, max_items: usize) -> Self {
        Self {
            epoch,
            max_items,
            items: VecDeque::new(),
            waits_since: Instant::now(),
            bytes: 0,
            accepted: 0,
            settled: 0,
            behind: false,
            crowded: false,
            phase: Phase::Open,
            reported: Reported::default(),
            orders: Orders::default(),
        }
    }

    /// Whether an item of so many bytes may come in now. One that comes while stopping is the last there is to tell.
    fn takes(&self, bytes: usize) -> bool {
        let held = self.phase == Phase::Open && self.orders.paused();
        !held && self.has_room(bytes) && (self.items.is_empty() || !self.orders.over_budget)
    }

    /// Whether there is no room, or soon none.
    fn is_full(&self) -> bool {
        self.items.len() >= self.max_items || self.bytes > MAX_QUEUED_BYTES / 2
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.items.len() < self.max_items && self.bytes + bytes <= MAX_QUEUED_BYTES
    }
}

impl Handoff {
    // No code that can panic runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, mut condition: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        let state = self.lock();
        self.changed.wait_while(state, |state| condition(state)).unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::CollectionEvent;
    use daemoneye_lib::proto::common::NetworkEvent;
    use daemoneye_lib::proto::ipc::{Gap, ScanSummary, TriggerRequest, collected_item::Item};
    use std::thread;

    const EPOCH: Epoch = Epoch([1; 16]);

    fn item(reason_bytes: usize) -> CollectedItem {
        CollectedItem { item: Some(Item::Gap(Gap { reason: "x".repeat(reason_bytes), ..Gap::default() })) }
    }

    #[test]
    fn a_full_queue_makes_the_source_wait() {
        let (sink, intake) = queue(MAX_ITEM, MAX_QUEUED_ITEMS, EPOCH, Domains::default());
        let emitting = thread::spawn(move || (0..3000).try_for_each(|_| sink.emit(item(10))));
        let mut taken = 0;
        while taken < 3000 {
            thread::sleep(Duration::from_millis(5));
            let items = intake.take();
            assert!(items.len() <= MAX_QUEUED_ITEMS);
            taken += items.len();
        }
        emitting.join().unwrap().unwrap();
        assert_eq!(taken, 3000);
    }

    #[test]
    fn a_queue_holds_as_many_as_the_operator_says() {
        let (sink, intake) = queue(MAX_ITEM, 2, EPOCH, Domains::default());
        let emitting = thread::spawn(move || (0..5).try_for_each(|_| sink.emit(item(1))));
        let mut taken = 0;
        while taken < 5 {
            thread::sleep(Duration::from_millis(5));
            assert!(intake.queued().0 <= 2);
            let items = intake.take();
            assert!(items.len() <= 2);
            taken += items.len();
        }
        emitting.join().unwrap().unwrap();
        assert_eq!(intake.queued(), (0, 2, 5));
    }

    #[test]
    fn the_queue_is_bounded_in_bytes() {
        let (sink, intake) = queue(MAX_ITEM, MAX_QUEUED_ITEMS, EPOCH, Domains::default());
        let emitting = thread::spawn(move || (0..5).try_for_each(|_| sink.emit(item(MAX_ITEM - 100))));
        let mut taken = 0;
        while taken < 5 {
            thread::sleep(Duration::from_millis(5));
            let items = intake.take();
            assert!(items.len() <= 1, "two of these are over the bound");
            taken += items.len();
        }
        emitting.join().unwrap().unwrap();
    }

    #[test]
    fn what_cannot_travel_is_refused() {
        let (sink, intake) = queue(1000, MAX_QUEUED_ITEMS, EPOCH, Domains::default());
        assert!(matches!(sink.emit(item(1000)), Err(EmitError::TooLarge { bytes: 1001.., limit: 1000 })));
        assert_eq!(sink.emit(CollectedItem { item: None }), Err(EmitError::Empty));
        assert!(intake.take().is_empty());
    }

    #[test]
    fn what_is_of_a_domain_that_was_not_declared_is_refused() {
        let network = [Domain::Network].into_iter().collect();
        let (sink, intake) = queue(MAX_ITEM, MAX_QUEUED_ITEMS, EPOCH, network);
        let event = || NetworkEvent { protocol: Some("tcp".into()), ..NetworkEvent::default() };
        assert_eq!(sink.emit(CollectionEvent::Network(event())), Ok(()));
        assert_eq!(sink.emit(item(1)), Ok(()), "everybody may tell of a gap");
        let scan = CollectedItem { item: Some(Item::Scan(ScanSummary::default())) };
        assert_eq!(sink.emit(scan), Err(EmitError::Undeclared { domain: Domain::Process }));
        let trigger = CollectionEvent::Trigger(TriggerRequest::default());
        assert!(sink.emit(trigger).unwrap_err().to_string().contains("\"trigger\""));
        assert_eq!(intake.take().len(), 2);
    }

    #[test]
    fn stopping_wakes_a_pause_and_still_takes_items() {
        let (sink, intake) = queue(MAX_ITEM, MAX_QUEUED_ITEMS, EPOCH, Domains::default());
        assert_eq!(sink.pause(Duration::from_millis(1)), Ok(()));
        let started = Instant::now();
        let pausing = thread::spawn({
            let sink = sink.clone();
            move || sink.pause(Duration::from_secs(60))
        });
        intake.stop();
        assert_eq!(pausing.join().unwrap(), Err(Stopped));
        assert!(started.elapsed() < Duration::from_secs(30));
        assert!(sink.stopped());
        assert_eq!(sink.emit(item(1)), Ok(()));
        intake.close();
        assert_eq!(sink.emit(item(1)), Err(EmitError::Stopped));
        assert_eq!(intake.take().len(), 1);
    }

    #[test]
    fn a_paused_collector_neither_sleeps_on_nor_takes_items() {
        let (sink, intake) = queue(MAX_ITEM, MAX_QUEUED_ITEMS, EPOCH, Domains::default());
        let paused = |paused| Instructions { paused, ..Instructions::default() };
        assert_eq!(intake.instruct(paused(true)), Some(true));
        let working = thread::spawn(move || {
            sink.pause(Duration::ZERO).unwrap();
            sink.emit(item(1))
        });
        thread::sleep(Duration::from_millis(20));
        assert!(!working.is_finished());
        assert_eq!(intake.instruct(paused(false)), Some(false));
        working.join().unwrap().unwrap();
        assert_eq!(intake.take().len(), 1);
    }

    #[test]
    fn new_settings_wake_a_source_that_asked_for_them() {
        let (sink, intake) = queue(MAX_ITEM, MAX_QUEUED_ITEMS, EPOCH, Domains::default());
        assert_eq!(sink.settings().version, 0);
        let waiting = thread::spawn({
            let sink = sink.clone();
            move || sink.pause(Duration::from_secs(600)).map(|()| sink.settings())
        });
        intake.instruct(Instructions { version: 1, settings: "{\"a\":1}".into(), ..Instructions::default() });
        let settings = waiting.join().unwrap().unwrap();
        assert_eq!((settings.version, settings.json.as_str()), (1, "{\"a\":1}"));
        sink.settled(1, Err("no a".into()));
        assert_eq!(intake.answered_settings(), (1, "no a".to_owned()));
    }

    #[test]
    fn over_its_budget_a_source_yields_until_the_queue_is_empty() {
        let (sink, intake) = queue(MAX_ITEM, MAX_QUEUED_ITEMS, EPOCH, Domains::default());
        intake.over_budget(true);
        assert!(sink.is_over_budget());
        sink.emit(item(1)).unwrap();
        let emitting = thread::spawn(move || sink.emit(item(1)));
        thread::sleep(Duration::from_millis(20));
        assert!(!emitting.is_finished());
        assert_eq!(intake.take().len(), 1);
        emitting.join().unwrap().unwrap();
        assert_eq!(intake.take().len(), 1);
    }

    #[test]
    fn a_flush_waits_for_the_spool_and_says_when_its_disk_refuses() {
        let (sink, intake) = queue(MAX_ITEM, MAX_QUEUED_ITEMS, EPOCH, Domains::default());
        assert_eq!(sink.flush(), Ok(()), "nothing emitted");
        sink.emit(item(1)).unwrap();
        let flushing = thread::spawn({
            let sink = sink.clone();
            move || sink.flush()
        });
        thread::sleep(Duration::from_millis(20));
        assert!(!flushing.is_finished());
        let taken = intake.take().len();
        intake.settle(taken, true);
        assert_eq!(flushing.join().unwrap(), Err(FlushError::Unwritten));
        intake.settle(0, false);
        assert_eq!(sink.flush(), Ok(()));
        sink.emit(item(1)).unwrap();
        drop(intake);
        assert_eq!(sink.flush(), Err(FlushError::Stopped));
    }
}
