//! Taking in what collectors sent: exactly once, in order, with every hole made a gap.

use super::current::Current;
use super::error::{InStore, StoreError};
use super::gaps;
use super::head::Runs;
use super::series;
use super::snapshots;
use super::store::Store;
use super::tables::{COLLECTORS, COMMITTED, CollectorMemory, META, SCANS};
use super::triggers;
use crate::models::domain::{Domain, Domains};
use crate::models::event::{Epoch, Event, IdentifiedEvent};
use crate::models::rows::{GapRow, ScanRow, TriggerRow};
use crate::models::time;
use crate::proto::ipc::{CollectedItem, Gap, ScanSummary, collected_item::Item};
use prost::Message as _;
use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

/// Scans are told once a second; a day's worth is kept.
const MAX_SCANS: u64 = 100_000;
/// Epochs of a collector whose sequences are remembered, the newest.
const MAX_EPOCHS: usize = 64;

/// A batch as it came from a collector.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    /// Which collector, as the bus authenticated it.
    pub collector: String,
    /// The domains that it has registered: an item of another one is not understood.
    pub domains: Domains,
    /// Its spool's epoch.
    pub epoch: Epoch,
    /// The sequence of the first item.
    pub first_sequence: u64,
    /// Encoded `CollectedItem`s: hostile bytes until they are decoded.
    pub items: Vec<Vec<u8>>,
}

/// A batch whose items have been decoded and checked, once for the rules and the store.
#[derive(Clone, Debug)]
pub struct Understood {
    batch: Arrived,
    /// One for each item; none where no item can have the sequence that it would have.
    kinds: Vec<Kind>,
    /// Those of the items that are events, in order.
    events: Vec<IdentifiedEvent>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// The next of the batch's events.
    Event,
    /// Anything else.
    Other(Box<Item>),
    /// Why it is not understood.
    Wrong(String),
}

impl From<Arrived> for Understood {
    fn from(batch: Arrived) -> Self {
        if last_sequence(&batch).is_none() {
            // Nothing of it is taken.
            return Self { batch, kinds: Vec::new(), events: Vec::new() };
        }
        let mut events = Vec::with_capacity(batch.items.len());
        let epoch = batch.epoch.to_string();
        let kinds = (batch.first_sequence..).zip(&batch.items).map(|(sequence, bytes)| {
            let item = match understand(bytes, batch.domains) {
                Ok(CollectedItem { item: Some(item) }) => item,
                Ok(_) => return Kind::Wrong("an item of a kind that this version does not know".to_owned()),
                Err(why) => return Kind::Wrong(why),
            };
            match Event::of(item) {
                Ok(event) => {
                    events.push(IdentifiedEvent { event_id: format!("{epoch}-{sequence}"), event });
                    Kind::Event
                }
                Err(other) => Kind::Other(Box::new(other)),
            }
        });
        let kinds = kinds.collect();
        Self { batch, kinds, events }
    }
}

impl Understood {
    /// As it came.
    pub const fn batch(&self) -> &Arrived {
        &self.batch
    }

    /// The bytes of its items.
    pub fn bytes(&self) -> usize {
        self.batch.items.iter().map(Vec::len).sum()
    }

    /// Its events that come after this sequence.
    pub fn events_after(&self, through: u64) -> &[IdentifiedEvent] {
        let skipped = self.kinds.iter().take(self.skip(through)).filter(|kind| matches!(kind, Kind::Event)).count();
        self.events.get(skipped..).unwrap_or_default()
    }

    /// The sequence of its last item; nothing where it has none, or none that can be.
    pub fn last_sequence(&self) -> Option<u64> {
        last_sequence(&self.batch)
    }

    /// Whether everything that it holds is an event.
    pub fn is_of_events(&self) -> bool {
        self.events.len() == self.kinds.len()
    }

    /// How many of its items are committed when everything through this sequence is.
    fn skip(&self, through: u64) -> usize {
        usize::try_from(through.saturating_add(1).saturating_sub(self.batch.first_sequence)).unwrap_or(usize::MAX)
    }
}

/// Through which row everything has been through the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluated {
    /// Everything before this row.
    Before(u64),
    /// Everything that is stored, what is committed now included.
    All,
}

/// What a group of batches became.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Appended {
    /// How many new events each batch had.
    pub stored: Vec<u64>,
    /// The row number that follows the last of them.
    pub next_row: u64,
    /// What may be acknowledged now: collector, epoch, sequence.
    pub committed: Vec<(String, Epoch, u64)>,
    /// Until when what each collector saw is committed.
    pub observed: BTreeMap<String, i64>,
    /// Holes that were found.
    pub gaps: Vec<GapRow>,
    /// Scans that were told.
    pub scans: Vec<ScanRow>,
    /// Tasks that were asked of other collectors, each for the first time.
    pub triggers: Vec<TriggerRow>,
    /// Items that were there already.
    pub duplicates: u64,
}

impl Store {
    /// Commits a group of batches durably, together with what has been through the rules.
    ///
    /// # Errors
    /// When the store cannot take them: none of them is in it then.
    pub fn append(&self, batches: &[Understood], evaluated: Evaluated) -> Result<Appended, StoreError> {
        self.write(|write| {
            let read = Arc::new(self.database()?.begin_read().in_store(&self.path)?);
            let mut appending = Appending::begin(write, &read, &self.path)?;
            for batch in batches {
                appending.batch(batch)?;
            }
            appending.finish(evaluated)
        })
    }
}

/// One transaction's worth of appending.
struct Appending<'t> {
    write: &'t WriteTransaction,
    path: &'t Path,
    head: Runs<'t>,
    current: Current<'t>,
    done: Appended,
}

impl<'t> Appending<'t> {
    fn begin(write: &'t WriteTransaction, read: &'t Arc<ReadTransaction>, path: &'t Path) -> Result<Self, StoreError> {
        let meta = write.open_table(META).in_store(path)?;
        let next_row = meta.get("next_row").in_store(path)?.map_or(0, |row| row.value());
        drop(meta);
        let head = Runs::new(write, next_row);
        let current = Current::begin(write, read, path)?;
        Ok(Self { write, path, head, current, done: Appended { next_row, ..Appended::default() } })
    }

    fn finish(mut self, evaluated: Evaluated) -> Result<Appended, StoreError> {
        self.head.flush(self.path)?;
        self.current.flush()?;
        self.done.committed.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0 && later.1 == earlier.1;
            if same {
                earlier.2 = later.2;
            }
            same
        });
        let mut meta = self.write.open_table(META).in_store(self.path)?;
        let evaluated = match evaluated {
            Evaluated::Before(row) => row,
            Evaluated::All => self.done.next_row,
        };
        meta.insert("next_row", self.done.next_row).in_store(self.path)?;
        meta.insert("evaluated", evaluated).in_store(self.path)?;
        Ok(self.done)
    }

    fn batch(&mut self, understood: &'t Understood) -> Result<(), StoreError> {
        let batch = &understood.batch;
        let (committed, knows_collector) = self.committed(batch)?;
        let through = committed.unwrap_or(0);
        let skip = understood.skip(through);
        self.done.duplicates += skip.min(batch.items.len()) as u64;
        let mut events = understood.events_after(through).iter();
        self.done.stored.push(events.len() as u64);
        let Some(last) = last_sequence(batch).filter(|last| *last > through) else {
            self.done.committed.push((batch.collector.clone(), batch.epoch, through));
            return Ok(());
        };
        let kinds = || understood.kinds.iter().skip(skip);
        let first_time = {
            let mut events = events.clone();
            kinds().find_map(|kind| match kind {
                Kind::Event => events.next().map(|event| event.event.time()),
                Kind::Other(item) => time_of(item),
                Kind::Wrong(_) => None,
            })
        };
        let mut memory = CollectorMemory { domains: batch.domains.bits(), ..self.memory(&batch.collector)? };
        if committed.is_none() && knows_collector {
            let reason =
                "the collector began a new spool: what the one before held and was not yet committed may be missing";
            self.hole(batch, &memory, first_time, "spool_replaced", None, reason)?;
        }
        if batch.first_sequence > through + 1 {
            let count = batch.first_sequence - through - 1;
            let reason = "items before this one are not in this store: the collector's spool was full or could not be written, or an earlier store took them";
            self.hole(batch, &memory, first_time, "spool_overflow", Some(count), reason)?;
        }
        let first = batch.first_sequence + skip as u64;
        for ((sequence, kind), bytes) in (first..).zip(kinds()).zip(batch.items.iter().skip(skip)) {
            let time = match kind {
                Kind::Event => match events.next() {
                    Some(event) => {
                        self.event(batch, sequence, &event.event, bytes)?;
                        Some(event.event.time())
                    }
                    None => None,
                },
                Kind::Other(item) => {
                    self.item(batch, item)?;
                    time_of(item)
                }
                Kind::Wrong(why) => {
                    self.undecodable(batch, &memory, first_time, why)?;
                    None
                }
            };
            memory.observed_until = memory.observed_until.max(time);
        }
        if let Some(until) = memory.observed_until {
            self.done.observed.insert(batch.collector.clone(), until);
        }
        self.write
            .open_table(COLLECTORS)
            .in_store(self.path)?
            .insert(batch.collector.as_str(), memory.encode_to_vec().as_slice())
            .in_store(self.path)?;
        self.commit_through(batch, last, committed.is_none())?;
        self.done.committed.push((batch.collector.clone(), batch.epoch, last));
        Ok(())
    }

    /// What is committed of the batch's epoch, and whether the collector has been heard before.
    fn committed(&self, batch: &Arrived) -> Result<(Option<u64>, bool), StoreError> {
        let table = self.write.open_table(COMMITTED).in_store(self.path)?;
        let own =
            table.get((batch.collector.as_str(), batch.epoch.0)).in_store(self.path)?.map(|entry| entry.value().0);
        let known = table.range(epochs_of(&batch.collector)).in_store(self.path)?.next().is_some();
        Ok((own, known))
    }

    /// Remembers how far the batch's epoch has come; of too many epochs the one that was silent longest is forgotten.
    fn commit_through(&self, batch: &Arrived, last: u64, is_new: bool) -> Result<(), StoreError> {
        let mut table = self.write.open_table(COMMITTED).in_store(self.path)?;
        table.insert((batch.collector.as_str(), batch.epoch.0), (last, time::now_ns())).in_store(self.path)?;
        if !is_new {
            return Ok(());
        }
        let mut epochs = Vec::new();
        for entry in table.range(epochs_of(&batch.collector)).in_store(self.path)? {
            let (key, value) = entry.in_store(self.path)?;
            epochs.push((value.value().1, key.value().1));
        }
        epochs.sort_unstable();
        for (_, epoch) in epochs.iter().take(epochs.len().saturating_sub(MAX_EPOCHS)) {
            table.remove((batch.collector.as_str(), *epoch)).in_store(self.path)?;
        }
        Ok(())
    }

    fn memory(&self, collector: &str) -> Result<CollectorMemory, StoreError> {
        let table = self.write.open_table(COLLECTORS).in_store(self.path)?;
        table
            .get(collector)
            .in_store(self.path)?
            .map_or(Ok(CollectorMemory::default()), |bytes| decode(self.path, "a collector", bytes.value()))
    }

    fn item(&mut self, batch: &'t Arrived, item: &Item) -> Result<(), StoreError> {
        match item.clone() {
            Item::Scan(scan) => self.scan(&batch.collector, scan),
            Item::Gap(gap) => self.gap(&batch.collector, gap),
            Item::Snapshot(part) => snapshots::insert(self.write, self.path, &batch.collector, part),
            Item::Trigger(trigger) => {
                let row = triggers::insert(self.write, self.path, &batch.collector, trigger)?;
                self.done.triggers.extend(row);
                Ok(())
            }
            Item::Process(_) | Item::Network(_) | Item::Filesystem(_) | Item::Performance(_) | Item::Security(_) => {
                Ok(())
            }
        }
    }

    fn event(&mut self, batch: &'t Arrived, sequence: u64, event: &'t Event, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(series) = series::of_events(event.table()) else { return Ok(()) };
        self.done.next_row = self.head.add(self.path, series, batch.epoch, sequence, bytes)?;
        if let Event::Process(event) = event
            && let Some(process) = &event.process
        {
            self.current.event(&batch.collector, event, process)?;
        }
        Ok(())
    }

    fn scan(&mut self, collector: &'t str, scan: ScanSummary) -> Result<(), StoreError> {
        if scan.full {
            self.current.end_unannounced(collector, &scan)?;
        }
        let row = ScanRow { collector: collector.to_owned(), scan };
        let mut table = self.write.open_table(SCANS).in_store(self.path)?;
        table.insert((row.scan.finished, collector), row.encode_to_vec().as_slice()).in_store(self.path)?;
        while table.len().in_store(self.path)? > MAX_SCANS {
            table.pop_first().in_store(self.path)?;
        }
        self.done.scans.push(row);
        Ok(())
    }

    fn gap(&mut self, collector: &str, gap: Gap) -> Result<(), StoreError> {
        let row = GapRow { collector: collector.to_owned(), gap, ..GapRow::default() };
        let row = gaps::insert(self.write, self.path, row)?;
        self.done.gaps.push(row);
        Ok(())
    }

    fn hole(
        &mut self,
        batch: &Arrived,
        memory: &CollectorMemory,
        until: Option<i64>,
        kind: &str,
        count: Option<u64>,
        reason: &str,
    ) -> Result<(), StoreError> {
        let to = until.unwrap_or_else(time::now_ns);
        let from = memory.observed_until.unwrap_or(to).min(to);
        self.gap(&batch.collector, Gap { kind: kind.to_owned(), from, to: Some(to), count, reason: reason.to_owned() })
    }

    fn undecodable(
        &mut self,
        batch: &Arrived,
        memory: &CollectorMemory,
        until: Option<i64>,
        why: &str,
    ) -> Result<(), StoreError> {
        self.hole(batch, memory, until, "undecodable", Some(1), &format!("the collector sent {why}"))
    }
}

/// The keys of a collector's epochs.
pub(super) fn epochs_of(collector: &str) -> RangeInclusive<(&str, [u8; 16])> {
    (collector, [0; 16])..=(collector, [u8::MAX; 16])
}

/// The sequence of the batch's last item: sequences begin at 1, and none comes near the largest number.
fn last_sequence(batch: &Arrived) -> Option<u64> {
    let last = batch.first_sequence.checked_sub(1)?.checked_add(batch.items.len() as u64)?;
    (!batch.items.is_empty() && last < u64::MAX).then_some(last)
}

/// Decodes an item and checks what everything behind relies on.
fn understand(bytes: &[u8], domains: Domains) -> Result<CollectedItem, String> {
    let mut item = CollectedItem::decode(bytes).map_err(|error| format!("an item that cannot be decoded: {error}"))?;
    let Some(kind) = item.item.take() else { return Ok(item) };
    if !domains.allow(&kind) {
        let domain = Domain::of(&kind).map_or("unknown", Domain::name);
        return Err(format!("an item of the domain \"{domain}\", which it has not registered"));
    }
    if let Item::Trigger(trigger) = &kind {
        triggers::check(trigger)?;
    }
    let is_key = |key: &str| key.len() == 32 && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if let Item::Snapshot(part) = &kind
        && !part.processes.iter().all(|process| is_key(&process.process_key))
    {
        return Err("a snapshot of a process without a process key".to_owned());
    }
    if let Item::Security(event) = &kind
        && !event.target_process_key.as_deref().is_none_or(is_key)
    {
        return Err("an event whose target has a process key that is none".to_owned());
    }
    let key = match &kind {
        Item::Process(event) => Some(event.process.as_ref().map_or("", |process| process.process_key.as_str())),
        Item::Network(event) => event.process_key.as_deref(),
        Item::Filesystem(event) => event.process_key.as_deref(),
        Item::Performance(sample) => sample.process_key.as_deref(),
        Item::Security(event) => event.process_key.as_deref(),
        Item::Scan(_) | Item::Gap(_) | Item::Trigger(_) | Item::Snapshot(_) => None,
    };
    match key {
        Some("") => Err("an event without a process key".to_owned()),
        Some(key) if !is_key(key) => Err("an event with a process key that is none".to_owned()),
        _ => Ok(CollectedItem { item: Some(kind) }),
    }
}

/// Of an item that is no event.
fn time_of(item: &Item) -> Option<i64> {
    match item {
        Item::Scan(scan) => Some(scan.finished),
        Item::Gap(gap) => gap.to,
        Item::Trigger(trigger) => Some(trigger.requested_at),
        Item::Snapshot(part) => part.processes.last().map(|process| process.collection_time),
        Item::Process(_) | Item::Network(_) | Item::Filesystem(_) | Item::Performance(_) | Item::Security(_) => None,
    }
}

pub(super) fn decode<M: prost::Message + Default>(path: &Path, what: &str, bytes: &[u8]) -> Result<M, StoreError> {
    M::decode(bytes).map_err(|error| StoreError::damaged(path, format!("{what} cannot be decoded: {error}")))
}
