//! Retention: what is too old, or too much, goes; and what went is remembered, so that answers can say so.
//!
//! Events and ended processes go by whole partitions, and by whole blocks of the one through which the limit runs; rows of
//! the head that the rules have seen go by runs. Each transaction drops a few partitions, so that what arrives meanwhile
//! does not wait long. Pages that become free are used again, and the file gets shorter where its end is free.

use super::append::decode;
use super::error::{InStore, StoreError};
use super::gaps;
use super::head::{self, events_of, run};
use super::partition::{self, Names};
use super::series::{EVENTS, EventNames, Series};
use super::snapshots;
use super::store::Store;
use super::tables::{
    ALERT_KEYS, ALERTS, BlockHeader, CURRENT, DELIVERIES, DUE, ENDED, GAPS, META, PARTITIONS, PartitionRow,
    REMOVED_SNAPSHOTS, REVIVED, SCANS, SNAPSHOTS,
};
use crate::proto::common::{Alert, ProcessRecord};
use prost::Message as _;
use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _, WriteTransaction};
use std::collections::BTreeSet;

/// Partitions that one transaction drops.
const AT_ONCE: usize = 8;
/// Alerts that are kept at most, the newest.
const MAX_ALERTS: u64 = 100_000;

/// What may stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Events, ended processes, scans and closed gaps from this time on.
    pub since: Option<i64>,
    /// Alerts that were last seen from this time on.
    pub alerts_since: Option<i64>,
    /// At most so many bytes, as far as dropping whole partitions reaches: the newest of each kind stays.
    pub bytes: Option<u64>,
}

/// What went, or would go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Rows of the tables of events: `processes.events`, `network.connections`, ….
    pub events: u64,
    /// Rows of `processes`.
    pub processes: u64,
    /// Rows of `processes.snapshots`.
    pub snapshots: u64,
    /// Rows of `system.scans`.
    pub scans: u64,
    /// Rows of `system.gaps`.
    pub gaps: u64,
    /// Rows of `alerts`.
    pub alerts: u64,
    /// Bytes of the blocks that went.
    pub bytes: u64,
}

impl Removed {
    /// Whether anything went.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What a run of retention has in mind for partitions.
#[derive(Default)]
struct Plan {
    /// To be dropped whole.
    whole: Vec<(u64, PartitionRow)>,
    /// Of which the oldest blocks go.
    partly: Vec<(u64, PartitionRow)>,
    /// Keys of processes that are not in a block.
    ended: Vec<String>,
    /// Ids of alerts.
    alerts: Vec<String>,
    /// Whether runs of the head, scans or gaps go.
    others: bool,
}

impl Plan {
    fn is_nothing(&self) -> bool {
        let Self { whole, partly, ended, alerts, others } = self;
        whole.is_empty() && partly.is_empty() && ended.is_empty() && alerts.is_empty() && !others
    }
}

/// An `Alert` without what its removal need not know.
#[derive(Clone, PartialEq, prost::Message)]
struct AlertAge {
    #[prost(string, tag = "1")]
    alert_id: String,
    #[prost(int64, tag = "7")]
    last_seen: i64,
}

impl Store {
    /// Removes what is not to be kept, or only says what that would be.
    ///
    /// # Errors
    /// When the store cannot be read or written; what went before that is gone.
    pub fn prune(&self, keep: Keep, dry_run: bool) -> Result<Removed, StoreError> {
        let mut plan = self.plan(keep)?;
        let mut removed = Removed::default();
        if plan.is_nothing() {
            return Ok(removed);
        }
        while !dry_run && plan.whole.len() > AT_ONCE {
            let now: Vec<_> = plan.whole.drain(..AT_ONCE).collect();
            self.write(|write| now.iter().try_for_each(|part| self.drop_partition(write, part, &mut removed)))?;
        }
        let rest = |write: &WriteTransaction| {
            let mut removed = Removed::default();
            plan.whole.iter().try_for_each(|part| self.drop_partition(write, part, &mut removed))?;
            if let Some(since) = keep.since {
                for (number, row) in &plan.partly {
                    self.drop_blocks(write, *number, row.clone(), since, &mut removed)?;
                }
                for series in &EVENTS {
                    self.drop_runs(write, series, since, &mut removed)?;
                }
                self.drop_parts(write, since, &mut removed)?;
                self.drop_ended(write, &plan.ended, since, &mut removed)?;
                self.drop_scans_and_gaps(write, since, &mut removed)?;
            }
            self.drop_alerts(write, &plan.alerts, keep.alerts_since, &mut removed)?;
            Ok(removed)
        };
        let last = if dry_run { self.try_out(rest)? } else { self.write(rest)? };
        Ok(Removed {
            events: removed.events + last.events,
            processes: removed.processes + last.processes,
            snapshots: removed.snapshots + last.snapshots,
            bytes: removed.bytes + last.bytes,
            ..last
        })
    }

    /// Finds out what is to go without holding up what arrives.
    fn plan(&self, keep: Keep) -> Result<Plan, StoreError> {
        let read = self.database()?.begin_read().in_store(&self.path)?;
        let mut plan = self.plan_partitions(&read, keep)?;
        if let Some(since) = keep.since {
            let path = &self.path;
            for (number, row) in std::mem::take(&mut plan.partly) {
                let blocks = read.open_table(Names::of(number).blocks()).in_store(path)?;
                let oldest = blocks.iter().in_store(path)?.map(|entry| -> Result<i64, StoreError> {
                    Ok(decode::<BlockHeader>(path, "a block's header", entry.in_store(path)?.1.value())?.max_time)
                });
                if oldest.collect::<Result<Vec<_>, _>>()?.into_iter().any(|newest| newest < since) {
                    plan.partly.push((number, row));
                }
            }
            plan.ended = self.old_processes(&read, since)?;
            let evaluated = read.open_table(META).in_store(path)?.get("evaluated").in_store(path)?;
            let evaluated = evaluated.map_or(0, |row| row.value());
            let scans = read.open_table(SCANS).in_store(path)?;
            for series in &EVENTS {
                let head = read.open_table(series.head).in_store(path)?;
                plan.others |= !self.old_runs(&head, evaluated, since)?.is_empty();
            }
            plan.others |= !snapshots::old(&read.open_table(SNAPSHOTS).in_store(path)?, path, since)?.is_empty();
            plan.others |= scans.first().in_store(path)?.is_some_and(|(key, _)| key.value().0 < since)
                || !gaps::old(&read.open_table(GAPS).in_store(path)?, path, since)?.is_empty();
        }
        plan.alerts = self.old_alerts(&read, keep.alerts_since)?;
        Ok(plan)
    }

    fn plan_partitions(&self, read: &ReadTransaction, keep: Keep) -> Result<Plan, StoreError> {
        let table = read.open_table(PARTITIONS).in_store(&self.path)?;
        let mut plan = Plan::default();
        let mut kept = Vec::new();
        let mut newest = BTreeSet::new();
        for series in Series::ALL {
            let partitions = partition::list(&table, &self.path, series)?;
            newest.extend(partitions.last().map(|(number, _)| *number));
            for (number, row) in partitions {
                match keep.since {
                    Some(since) if row.max_time < since => plan.whole.push((number, row)),
                    Some(since) if row.min_time < since => plan.partly.push((number, row)),
                    _ => kept.push((number, row)),
                }
            }
        }
        let Some(most) = keep.bytes else { return Ok(plan) };
        kept.append(&mut plan.partly.clone());
        kept.sort_by_key(|(_, row)| row.max_time);
        let mut bytes =
            kept.iter().map(|(_, row)| row.bytes).sum::<u64>() + self.snapshot()?.bytes_outside_of_blocks()?;
        for (number, row) in kept {
            if bytes > most && !newest.contains(&number) {
                bytes = bytes.saturating_sub(row.bytes);
                plan.partly.retain(|(partly, _)| *partly != number);
                plan.whole.push((number, row));
            }
        }
        Ok(plan)
    }

    fn drop_partition(
        &self,
        write: &WriteTransaction,
        (number, row): &(u64, PartitionRow),
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        partition::drop_whole(write, &self.path, *number)?;
        removed.bytes += row.bytes;
        self.gone(write, row.series, row.rows, row.max_time, removed)
    }

    /// Counts rows of a series that went, and keeps in mind until when something is missing.
    fn gone(
        &self,
        write: &WriteTransaction,
        series: u32,
        rows: u64,
        newest: i64,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        match EVENTS.iter().find(|own| own.series.number() == series) {
            Some(own) => {
                removed.events += rows;
                self.remember(write, own.removed, newest)
            }
            None if series == Series::Snapshots.number() => {
                removed.snapshots += rows;
                self.remember(write, REMOVED_SNAPSHOTS, newest)
            }
            None => {
                removed.processes += rows;
                Ok(())
            }
        }
    }

    /// Keeps in mind until when something is missing.
    fn remember(&self, write: &WriteTransaction, what: &str, until: i64) -> Result<(), StoreError> {
        let mut meta = write.open_table(META).in_store(&self.path)?;
        let known = meta.get(what).in_store(&self.path)?.map_or(i64::MIN, |bits| bits.value().cast_signed());
        meta.insert(what, known.max(until).cast_unsigned()).in_store(&self.path)?;
        Ok(())
    }

    /// Drops the blocks of a partition that hold nothing from `since` on.
    fn drop_blocks(
        &self,
        write: &WriteTransaction,
        number: u64,
        mut row: PartitionRow,
        since: i64,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        let path = &self.path;
        let names = Names::of(number);
        let mut blocks = write.open_table(names.blocks()).in_store(path)?;
        let mut old = BTreeSet::new();
        let mut rest: Option<(i64, i64)> = None;
        let (mut rows, mut newest) = (0, i64::MIN);
        for entry in blocks.iter().in_store(path)? {
            let (first, header) = entry.in_store(path)?;
            let header: BlockHeader = decode(path, "a block's header", header.value())?;
            if header.max_time < since {
                old.insert(first.value());
                rows += u64::from(header.rows);
                newest = newest.max(header.max_time);
            } else {
                let (from, to) = rest.unwrap_or((header.min_time, header.max_time));
                rest = Some((from.min(header.min_time), to.max(header.max_time)));
            }
        }
        let (Some((min_time, max_time)), false) = (rest, old.is_empty()) else { return Ok(()) };
        let mut bytes = 0;
        blocks
            .retain(|first, header| {
                let goes = old.contains(&first);
                bytes += if goes { header.len() } else { 0 };
                !goes
            })
            .in_store(path)?;
        let mut columns = write.open_table(names.columns()).in_store(path)?;
        columns
            .retain(|(first, ..), piece| {
                let goes = old.contains(&first);
                bytes += if goes { piece.len() } else { 0 };
                !goes
            })
            .in_store(path)?;
        let mut filters = write.open_table(names.filters()).in_store(path)?;
        filters
            .retain(|(_, first), filter| {
                let goes = old.contains(&first);
                bytes += if goes { filter.len() } else { 0 };
                !goes
            })
            .in_store(path)?;
        let bytes = bytes as u64;
        row.rows = row.rows.saturating_sub(rows);
        row.blocks = row.blocks.saturating_sub(old.len() as u64);
        row.bytes = row.bytes.saturating_sub(bytes);
        (row.min_time, row.max_time) = (min_time, max_time);
        let mut table = write.open_table(PARTITIONS).in_store(path)?;
        table.insert(number, row.encode_to_vec().as_slice()).in_store(path)?;
        removed.bytes += bytes;
        self.gone(write, row.series, rows, newest, removed)
    }

    /// Runs of a head, oldest first, that the rules have seen and that hold nothing from `since` on: first row, rows, newest
    /// time.
    fn old_runs(
        &self,
        head: &impl ReadableTable<u64, &'static [u8]>,
        evaluated: u64,
        since: i64,
    ) -> Result<Vec<(u64, u64, i64)>, StoreError> {
        let path = &self.path;
        let mut old = Vec::new();
        for entry in head.iter().in_store(path)? {
            let (first, value) = entry.in_store(path)?;
            let events = events_of(path, run(path, value.value())?)?;
            let newest = events.iter().map(|event| event.event.time()).max().unwrap_or(i64::MAX);
            if newest >= since || first.value() + events.len() as u64 > evaluated {
                break;
            }
            old.push((first.value(), events.len() as u64, newest));
        }
        Ok(old)
    }

    fn drop_runs(
        &self,
        write: &WriteTransaction,
        series: &EventNames,
        since: i64,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        let path = &self.path;
        let meta = write.open_table(META).in_store(path)?;
        let evaluated = meta.get("evaluated").in_store(path)?.map_or(0, |row| row.value());
        drop(meta);
        let mut head = write.open_table(series.head).in_store(path)?;
        for (first, rows, newest) in self.old_runs(&head, evaluated, since)? {
            head.remove(first).in_store(path)?;
            head::count(write, path, series, |fresh| fresh.saturating_sub(rows))?;
            self.gone(write, series.series.number(), rows, newest, removed)?;
        }
        Ok(())
    }

    fn drop_parts(&self, write: &WriteTransaction, since: i64, removed: &mut Removed) -> Result<(), StoreError> {
        let path = &self.path;
        let mut table = write.open_table(SNAPSHOTS).in_store(path)?;
        for (first, rows, newest) in snapshots::old(&table, path, since)? {
            table.remove(first).in_store(path)?;
            self.gone(write, Series::Snapshots.number(), rows, newest, removed)?;
        }
        Ok(())
    }

    /// Processes that ended before `since` and are not in a block. They ended in about the order in which their ends are kept:
    /// while the first of these is young enough, the others are not looked at, unless some were heard of again.
    fn old_processes(&self, read: &ReadTransaction, since: i64) -> Result<Vec<String>, StoreError> {
        let path = &self.path;
        let current = read.open_table(CURRENT).in_store(path)?;
        let mut due = !read.open_table(REVIVED).in_store(path)?.is_empty().in_store(path)?;
        for entry in read.open_table(ENDED).in_store(path)?.iter().in_store(path)? {
            let (_, key) = entry.in_store(path)?;
            if let Some(record) = current.get(key.value()).in_store(path)? {
                let record: ProcessRecord = decode(path, "a process", record.value())?;
                due |= record.end_time.is_some_and(|end| end < since);
                break;
            }
        }
        let mut old = Vec::new();
        if due {
            for entry in current.iter().in_store(path)? {
                let record: ProcessRecord = decode(path, "a process", entry.in_store(path)?.1.value())?;
                if record.end_time.is_some_and(|end| end < since) {
                    old.push(record.process_key);
                }
            }
        }
        Ok(old)
    }

    fn drop_ended(
        &self,
        write: &WriteTransaction,
        keys: &[String],
        since: i64,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        let path = &self.path;
        let mut table = write.open_table(CURRENT).in_store(path)?;
        let mut revived = write.open_table(REVIVED).in_store(path)?;
        for key in keys {
            let record = table.get(key.as_str()).in_store(path)?;
            let record: Option<ProcessRecord> =
                record.map(|record| decode(path, "a process", record.value())).transpose()?;
            // It may have been heard of since.
            if record.is_some_and(|record| record.end_time.is_some_and(|end| end < since)) {
                table.remove(key.as_str()).in_store(path)?;
                revived.remove(key.as_str()).in_store(path)?;
                removed.processes += 1;
            }
        }
        Ok(())
    }

    fn drop_scans_and_gaps(
        &self,
        write: &WriteTransaction,
        since: i64,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        let path = &self.path;
        let mut scans = write.open_table(SCANS).in_store(path)?;
        let before = scans.len().in_store(path)?;
        scans.retain_in(..(since, ""), |_, _| false).in_store(path)?;
        removed.scans += before - scans.len().in_store(path)?;
        removed.gaps += gaps::drop_old(write, path, since)?;
        Ok(())
    }

    /// Alerts that were last seen before `since`, and the oldest of too many.
    fn old_alerts(&self, read: &ReadTransaction, since: Option<i64>) -> Result<Vec<String>, StoreError> {
        let path = &self.path;
        let table = read.open_table(ALERTS).in_store(path)?;
        let count = table.len().in_store(path)?;
        if since.is_none() && count <= MAX_ALERTS {
            return Ok(Vec::new());
        }
        let mut ages = Vec::new();
        for entry in table.iter().in_store(path)? {
            let AlertAge { alert_id, last_seen } = decode(path, "an alert", entry.in_store(path)?.1.value())?;
            ages.push((last_seen, alert_id));
        }
        ages.sort_unstable();
        let too_many = usize::try_from(count.saturating_sub(MAX_ALERTS)).unwrap_or(usize::MAX);
        let too_old = ages.iter().take_while(|(seen, _)| since.is_some_and(|since| *seen < since)).count();
        Ok(ages.into_iter().take(too_many.max(too_old)).map(|(_, id)| id).collect())
    }

    /// Drops alerts with all that belongs to them.
    fn drop_alerts(
        &self,
        write: &WriteTransaction,
        ids: &[String],
        since: Option<i64>,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        let path = &self.path;
        let mut table = write.open_table(ALERTS).in_store(path)?;
        let mut keys = write.open_table(ALERT_KEYS).in_store(path)?;
        let mut deliveries = write.open_table(DELIVERIES).in_store(path)?;
        let mut due = write.open_table(DUE).in_store(path)?;
        for id in ids.iter().map(String::as_str) {
            let alert = table.get(id).in_store(path)?;
            let alert: Option<Alert> = alert.map(|alert| decode(path, "an alert", alert.value())).transpose()?;
            // It may have been seen since.
            let too_many = table.len().in_store(path)? > MAX_ALERTS;
            let goes = |alert: &Alert| too_many || since.is_some_and(|since| alert.last_seen < since);
            let Some(alert) = alert.filter(goes) else { continue };
            table.remove(id).in_store(path)?;
            let key = (alert.rule_id.as_str(), alert.dedup_key.as_str());
            if keys.get(key).in_store(path)?.is_some_and(|newest| newest.value() == id) {
                keys.remove(key).in_store(path)?;
            }
            deliveries.retain_in((id, "")..=(id, "\u{10ffff}"), |_, _| false).in_store(path)?;
            due.retain_in((id, "")..=(id, "\u{10ffff}"), |_, ()| false).in_store(path)?;
            removed.alerts += 1;
            self.remember(write, "removed_alerts", alert.last_seen)?;
        }
        Ok(())
    }
}
