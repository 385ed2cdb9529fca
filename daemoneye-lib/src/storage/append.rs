//! Taking in what collectors sent: exactly once, in order, with every hole made a gap.

use super::error::{InStore, StoreError};
use super::store::Store;
use super::tables::{
    BLOCKS, BlockHeader, COLLECTORS, COMMITTED, CURRENT, CollectorMemory, GAPS, HEAD, HeadRow, META, SCANS,
};
use crate::models::event::{Epoch, IdentifiedEvent, event_id};
use crate::models::rows::{GapRow, ScanRow};
use crate::proto::common::{EventType, ProcessEvent, ProcessRecord};
use crate::proto::ipc::{CollectedItem, Gap, ScanSummary, collected_item::Item};
use prost::Message as _;
use redb::{ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};
use std::collections::BTreeMap;
use std::path::Path;

/// Scans are told once a second; a day's worth is kept.
const MAX_SCANS: u64 = 100_000;

/// A batch as it came from a collector.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    /// Which collector, as the bus authenticated it.
    pub collector: String,
    /// Its spool's epoch.
    pub epoch: Epoch,
    /// The sequence of the first item.
    pub first_sequence: u64,
    /// Encoded `CollectedItem`s: hostile bytes until they are decoded.
    pub items: Vec<Vec<u8>>,
}

/// What a group of batches became.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Appended {
    /// The new events, in order.
    pub events: Vec<IdentifiedEvent>,
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
    /// Items that were there already.
    pub duplicates: u64,
}

impl Store {
    /// Commits a group of batches durably, together with the mark that everything before row `evaluated` has been through
    /// the rules.
    ///
    /// # Errors
    /// When the store cannot take them: none of them is in it then.
    pub fn append(&self, batches: &[Arrived], evaluated: u64) -> Result<Appended, StoreError> {
        self.write(|write| {
            let mut appending = Appending::begin(write, &self.path)?;
            for batch in batches {
                appending.batch(batch)?;
            }
            appending.finish(evaluated)
        })
    }

    /// Records a stretch of blindness that the agent itself knows of. While one of the same kind is open for the collector,
    /// nothing is added.
    ///
    /// # Errors
    /// When the store cannot take it.
    pub fn open_gap(&self, collector: &str, gap: Gap) -> Result<(), StoreError> {
        self.write(|write| {
            let mut open = false;
            for entry in write.open_table(GAPS).in_store(&self.path)?.iter().in_store(&self.path)? {
                let row = decode::<GapRow>(&self.path, "a gap", entry.in_store(&self.path)?.1.value())?;
                open |= row.collector == collector && row.gap.kind == gap.kind && row.gap.to.is_none();
            }
            if !open {
                insert_gap(write, &self.path, collector, gap)?;
            }
            Ok(())
        })
    }
}

impl Store {
    /// Ends every open gap of this kind.
    ///
    /// # Errors
    /// When the store cannot take it.
    pub fn close_gaps(&self, kind: &str, to: i64) -> Result<(), StoreError> {
        self.write(|write| {
            let mut table = write.open_table(GAPS).in_store(&self.path)?;
            let mut open = Vec::new();
            for entry in table.iter().in_store(&self.path)? {
                let row = decode::<GapRow>(&self.path, "a gap", entry.in_store(&self.path)?.1.value())?;
                if row.gap.kind == kind && row.gap.to.is_none() {
                    open.push(row);
                }
            }
            for mut row in open {
                row.gap.to = Some(to.max(row.gap.from));
                table.insert(row.gap_id, row.encode_to_vec().as_slice()).in_store(&self.path)?;
            }
            Ok(())
        })
    }
}

/// One transaction's worth of appending.
struct Appending<'t> {
    write: &'t WriteTransaction,
    path: &'t Path,
    done: Appended,
}

impl<'t> Appending<'t> {
    fn begin(write: &'t WriteTransaction, path: &'t Path) -> Result<Self, StoreError> {
        let done = Appended { next_row: next_row(write, path)?, ..Appended::default() };
        Ok(Self { write, path, done })
    }

    fn finish(mut self, evaluated: u64) -> Result<Appended, StoreError> {
        self.done.committed.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0 && later.1 == earlier.1;
            if same {
                earlier.2 = later.2;
            }
            same
        });
        let mut meta = self.write.open_table(META).in_store(self.path)?;
        meta.insert("next_row", self.done.next_row).in_store(self.path)?;
        meta.insert("evaluated", evaluated).in_store(self.path)?;
        Ok(self.done)
    }

    fn batch(&mut self, batch: &Arrived) -> Result<(), StoreError> {
        let (committed, knows_collector) = self.committed(batch)?;
        let through = committed.unwrap_or(0);
        let skip = usize::try_from((through + 1).saturating_sub(batch.first_sequence)).unwrap_or(usize::MAX);
        self.done.duplicates += skip.min(batch.items.len()) as u64;
        let Some(last) = last_sequence(batch).filter(|last| *last > through) else {
            self.done.committed.push((batch.collector.clone(), batch.epoch, through));
            return Ok(());
        };
        let items: Vec<Result<CollectedItem, String>> =
            batch.items.iter().skip(skip).map(|bytes| understand(bytes)).collect();
        let first_time = items.iter().flatten().find_map(time_of);
        let mut memory = self.memory(&batch.collector)?;
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
        for (sequence, item) in (first..).zip(items) {
            match item.map(|item| (time_of(&item), item.item)) {
                Ok((time, Some(item))) => {
                    self.item(batch, sequence, item)?;
                    memory.observed_until = memory.observed_until.max(time);
                }
                Ok((_, None)) => {
                    self.undecodable(batch, &memory, first_time, "an item of a kind that this version does not know")?;
                }
                Err(why) => self.undecodable(batch, &memory, first_time, &why)?,
            }
        }
        if let Some(until) = memory.observed_until {
            self.done.observed.insert(batch.collector.clone(), until);
        }
        self.write
            .open_table(COLLECTORS)
            .in_store(self.path)?
            .insert(batch.collector.as_str(), memory.encode_to_vec().as_slice())
            .in_store(self.path)?;
        self.write
            .open_table(COMMITTED)
            .in_store(self.path)?
            .insert((batch.collector.as_str(), batch.epoch.0), last)
            .in_store(self.path)?;
        self.done.committed.push((batch.collector.clone(), batch.epoch, last));
        Ok(())
    }

    /// What is committed of the batch's epoch, and whether the collector has been heard before.
    fn committed(&self, batch: &Arrived) -> Result<(Option<u64>, bool), StoreError> {
        let table = self.write.open_table(COMMITTED).in_store(self.path)?;
        let own =
            table.get((batch.collector.as_str(), batch.epoch.0)).in_store(self.path)?.map(|sequence| sequence.value());
        let from = (batch.collector.as_str(), [0; 16]);
        let to = (batch.collector.as_str(), [u8::MAX; 16]);
        let known = table.range(from..=to).in_store(self.path)?.next().is_some();
        Ok((own, known))
    }

    fn memory(&self, collector: &str) -> Result<CollectorMemory, StoreError> {
        let table = self.write.open_table(COLLECTORS).in_store(self.path)?;
        table
            .get(collector)
            .in_store(self.path)?
            .map_or(Ok(CollectorMemory::default()), |bytes| decode(self.path, "a collector", bytes.value()))
    }

    fn item(&mut self, batch: &Arrived, sequence: u64, item: Item) -> Result<(), StoreError> {
        match item {
            Item::Process(event) => self.event(batch, sequence, event),
            Item::Scan(scan) => self.scan(&batch.collector, scan),
            Item::Gap(gap) => self.gap(&batch.collector, gap),
            // No table holds them.
            Item::Snapshot(_) => Ok(()),
        }
    }

    fn event(&mut self, batch: &Arrived, sequence: u64, event: ProcessEvent) -> Result<(), StoreError> {
        let row = HeadRow { event_id: event_id(batch.epoch, sequence), event };
        self.write
            .open_table(HEAD)
            .in_store(self.path)?
            .insert(self.done.next_row, row.encode_to_vec().as_slice())
            .in_store(self.path)?;
        self.done.next_row += 1;
        if let Some(process) = &row.event.process {
            self.current(&row.event, process)?;
        }
        self.done.events.push(IdentifiedEvent { event_id: row.event_id, event: row.event });
        Ok(())
    }

    /// Brings the process's present state up to date.
    fn current(&self, event: &ProcessEvent, process: &ProcessRecord) -> Result<(), StoreError> {
        let mut table = self.write.open_table(CURRENT).in_store(self.path)?;
        let key = process.process_key.as_str();
        let known = table
            .get(key)
            .in_store(self.path)?
            .map(|bytes| decode::<ProcessRecord>(self.path, "a process", bytes.value()))
            .transpose()?;
        let latest = match (event.event_type(), known) {
            // An end says little of what the process was.
            (EventType::Exit, known) => ended(known.unwrap_or_else(|| process.clone()), process, event.event_time),
            _ => process.clone(),
        };
        table.insert(key, latest.encode_to_vec().as_slice()).in_store(self.path)?;
        Ok(())
    }

    fn scan(&mut self, collector: &str, scan: ScanSummary) -> Result<(), StoreError> {
        if scan.full {
            self.end_unannounced(&scan)?;
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

    /// After a scan that knew nothing before it: what it did not announce has ended at a time that nobody saw.
    fn end_unannounced(&self, scan: &ScanSummary) -> Result<(), StoreError> {
        let mut table = self.write.open_table(CURRENT).in_store(self.path)?;
        let mut gone = Vec::new();
        for entry in table.iter().in_store(self.path)? {
            let record: ProcessRecord = decode(self.path, "a process", entry.in_store(self.path)?.1.value())?;
            if record.end_time.is_none() && record.collection_time < scan.started {
                gone.push(record);
            }
        }
        for mut record in gone {
            record.end_time = Some(scan.started);
            record.provenance.insert("end_time".to_owned(), "inferred".to_owned());
            table.insert(record.process_key.as_str(), record.encode_to_vec().as_slice()).in_store(self.path)?;
        }
        Ok(())
    }

    fn gap(&mut self, collector: &str, gap: Gap) -> Result<(), StoreError> {
        let row = insert_gap(self.write, self.path, collector, gap)?;
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
        let to = until.unwrap_or_else(crate::models::time::now_ns);
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

fn insert_gap(write: &WriteTransaction, path: &Path, collector: &str, gap: Gap) -> Result<GapRow, StoreError> {
    let mut table = write.open_table(GAPS).in_store(path)?;
    let gap_id = table.last().in_store(path)?.map_or(1, |(last, _)| last.value() + 1);
    let row = GapRow { gap_id, collector: collector.to_owned(), gap };
    table.insert(gap_id, row.encode_to_vec().as_slice()).in_store(path)?;
    Ok(row)
}

/// The row number that the next event gets.
fn next_row(write: &WriteTransaction, path: &Path) -> Result<u64, StoreError> {
    let stored = write.open_table(META).in_store(path)?.get("next_row").in_store(path)?.map(|row| row.value());
    if let Some(row) = stored {
        return Ok(row);
    }
    let blocks = write.open_table(BLOCKS).in_store(path)?;
    let Some((first, header)) = blocks.last().in_store(path)? else { return Ok(0) };
    let header: BlockHeader = decode(path, "a block's header", header.value())?;
    Ok(first.value() + u64::from(header.rows))
}

/// The process with what its end told of it; when it was not told, it was noticed at `noticed`.
fn ended(mut known: ProcessRecord, end: &ProcessRecord, noticed: i64) -> ProcessRecord {
    known.end_time = end.end_time.or(Some(noticed));
    known.exit_code = end.exit_code;
    known.exit_signal = end.exit_signal;
    known.cpu_time_ns = end.cpu_time_ns.or(known.cpu_time_ns);
    known.max_rss = end.max_rss.or(known.max_rss);
    known.status.clone_from(&end.status);
    known.collection_time = end.collection_time;
    for column in ["end_time", "exit_code", "exit_signal", "cpu_time_ns", "max_rss"] {
        if let Some(origin) = end.provenance.get(column) {
            known.provenance.insert(column.to_owned(), origin.clone());
        }
    }
    known
}

/// The sequence of the batch's last item: sequences begin at 1, and none comes near the largest number.
fn last_sequence(batch: &Arrived) -> Option<u64> {
    let last = batch.first_sequence.checked_sub(1)?.checked_add(batch.items.len() as u64)?;
    (!batch.items.is_empty() && last < u64::MAX).then_some(last)
}

/// Decodes an item and checks what everything behind relies on.
fn understand(bytes: &[u8]) -> Result<CollectedItem, String> {
    let item = CollectedItem::decode(bytes).map_err(|error| format!("an item that cannot be decoded: {error}"))?;
    if let Some(Item::Process(event)) = &item.item {
        let key = event.process.as_ref().map_or("", |process| process.process_key.as_str());
        let is_key = key.len() == 32 && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_key {
            return Err("an event without a process key".to_owned());
        }
    }
    Ok(item)
}

fn time_of(item: &CollectedItem) -> Option<i64> {
    match item.item.as_ref()? {
        Item::Process(event) => Some(event.event_time),
        Item::Scan(scan) => Some(scan.finished),
        Item::Gap(gap) => gap.to,
        Item::Snapshot(part) => part.processes.last().map(|process| process.collection_time),
    }
}

pub(super) fn decode<M: prost::Message + Default>(path: &Path, what: &str, bytes: &[u8]) -> Result<M, StoreError> {
    M::decode(bytes).map_err(|error| StoreError::damaged(path, format!("{what} cannot be decoded: {error}")))
}
