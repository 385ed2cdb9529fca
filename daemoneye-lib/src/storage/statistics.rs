//! What the store holds, table by table, and whether it is what it says.

use super::append::decode;
use super::codec::Decoder;
use super::error::{InStore, StoreError};
use super::head::{events_of, run};
use super::partition::{self, Tables};
use super::series::{self, EVENTS, EventNames, Series};
use super::snapshot::Snapshot;
use super::tables::{
    ALERTS, BlockHeader, COLLECTORS, COMMITTED, CURRENT, DELIVERIES, ENDED, GAPS, META, PARTITIONS, PartitionRow,
    REMOVED_SNAPSHOTS, SCANS, SNAPSHOTS, TRIGGERS,
};
use crate::models::catalog::Table;
use redb::{Key, ReadableTable as _, ReadableTableMetadata as _, TableDefinition, Value};
use std::collections::BTreeSet;

/// How much there is of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSize {
    /// The table's name in SQL, with what part of it this is.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
    /// Its blocks; nothing for what is kept row by row.
    pub blocks: Option<u64>,
    /// Partitions of these.
    pub partitions: Option<u64>,
    /// Bytes of its keys and values.
    pub bytes: u64,
    /// The oldest time, where rows are ordered by time.
    pub oldest: Option<i64>,
    /// The newest.
    pub newest: Option<i64>,
}

/// What a check of the store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Partitions whose directory entry was compared with what they hold.
    pub partitions: u64,
    /// Blocks that were read.
    pub blocks: u64,
    /// Columns whose checksum and values were checked.
    pub columns: u64,
    /// Rows of the head that were decoded.
    pub head_rows: u64,
    /// What is wrong, at most a hundred.
    pub problems: Vec<String>,
}

const MAX_PROBLEMS: usize = 100;

/// How much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The directory of partitions, the marks, and the newest block of each kind: what a start can wait for.
    Newest,
    /// Every column of every block.
    All,
}

impl Snapshot {
    /// How much there is, table by table.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn sizes(&self) -> Result<Vec<TableSize>, StoreError> {
        let mut sizes = Vec::new();
        for series in &EVENTS {
            sizes.push(self.sealed(series.series, series.sealed_part)?);
            sizes.push(self.fresh(series)?);
        }
        sizes.push(self.sealed(Series::Ended, "processes, ended")?);
        sizes.push(self.size("processes, present", CURRENT)?);
        sizes.push(self.sealed(Series::Snapshots, "processes.snapshots, sealed")?);
        sizes.push(self.size("processes.snapshots, fresh parts", SNAPSHOTS)?);
        let mut scans = self.size("system.scans", SCANS)?;
        let all = self.open(SCANS)?;
        scans.oldest = all.first().in_store(&self.path)?.map(|(key, _)| key.value().0);
        scans.newest = all.last().in_store(&self.path)?.map(|(key, _)| key.value().0);
        sizes.push(scans);
        sizes.push(self.size("system.gaps", GAPS)?);
        sizes.push(self.size("system.triggers", TRIGGERS)?);
        sizes.push(self.size("alerts", ALERTS)?);
        sizes.push(self.size("alerts.deliveries", DELIVERIES)?);
        Ok(sizes)
    }

    fn sealed(&self, series: Series, table: &'static str) -> Result<TableSize, StoreError> {
        let partitions = self.open(PARTITIONS)?;
        let rows: Vec<PartitionRow> =
            partition::list(&partitions, &self.path, series)?.into_iter().map(|(_, row)| row).collect();
        Ok(TableSize {
            table,
            rows: rows.iter().map(|row| row.rows).sum(),
            blocks: Some(rows.iter().map(|row| row.blocks).sum()),
            partitions: Some(rows.len() as u64),
            bytes: rows.iter().map(|row| row.bytes).sum(),
            oldest: rows.iter().map(|row| row.min_time).min(),
            newest: rows.iter().map(|row| row.max_time).max(),
        })
    }

    fn fresh(&self, series: &EventNames) -> Result<TableSize, StoreError> {
        let mut fresh = TableSize { rows: 0, ..self.size(series.fresh_part, series.head)? };
        for entry in self.open(series.head)?.iter().in_store(&self.path)? {
            let value = entry.in_store(&self.path)?.1;
            let events = events_of(&self.path, run(&self.path, value.value())?)?;
            let times = || events.iter().map(|event| event.event.time());
            fresh.rows += events.len() as u64;
            fresh.oldest = fresh.oldest.into_iter().chain(times().min()).min();
            fresh.newest = fresh.newest.into_iter().chain(times().max()).max();
        }
        Ok(fresh)
    }

    /// Bytes that retention by partitions does not reach.
    pub(super) fn bytes_outside_of_blocks(&self) -> Result<u64, StoreError> {
        Ok(self.sizes()?.iter().filter(|size| size.blocks.is_none()).map(|size| size.bytes).sum())
    }

    fn size<K: Key + 'static, V: Value + 'static>(
        &self,
        table: &'static str,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<TableSize, StoreError> {
        let own = self.open(definition)?;
        let stats = own.stats().in_store(&self.path)?;
        let rows = own.len().in_store(&self.path)?;
        Ok(TableSize { table, rows, bytes: stats.stored_bytes(), ..TableSize::default() })
    }

    /// Until when rows of a table of events, or alerts, have been removed by retention; of other tables nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn removed_until(&self, table: Table) -> Result<Option<i64>, StoreError> {
        let name = match table {
            Table::Alerts => Some("removed_alerts"),
            Table::Snapshots => Some(REMOVED_SNAPSHOTS),
            events => series::of_events(events).map(|series| series.removed),
        };
        let meta = self.open(META)?;
        let bits = name.map(|name| meta.get(name)).transpose().in_store(&self.path)?.flatten();
        Ok(bits.map(|bits| bits.value().cast_signed()))
    }

    /// Checks that the store is what it says. What is wrong with it is part of the answer.
    ///
    /// # Errors
    /// When the store cannot be read at all.
    pub fn verify(&self, extent: Extent) -> Result<Verified, StoreError> {
        let mut verified = Verified::default();
        let table = self.open(PARTITIONS)?;
        let mut decoder = Decoder::new().map_err(|source| StoreError::Io { path: self.path.clone(), source })?;
        for series in Series::ALL {
            let partitions = partition::list(&table, &self.path, series)?;
            let newest = partitions.last().map(|(number, _)| *number);
            for (number, row) in partitions {
                let checked = self.partition(series, (number, &row), extent, newest, &mut decoder, &mut verified);
                verified.note(checked.err().map(|error| error.to_string()));
            }
        }
        let checked = self.head_and_marks(&mut verified);
        verified.note(checked.err().map(|error| error.to_string()));
        if extent == Extent::All {
            let checked = self.records_decode();
            verified.note(checked.err().map(|error| error.to_string()));
        }
        Ok(verified)
    }

    fn partition(
        &self,
        series: Series,
        (number, row): (u64, &PartitionRow),
        extent: Extent,
        newest: Option<u64>,
        decoder: &mut Decoder,
        verified: &mut Verified,
    ) -> Result<(), StoreError> {
        let path = &self.path;
        let tables = Tables::open(&self.read, path, number)?;
        verified.partitions += 1;
        let blocks = tables.blocks.len().in_store(path)?;
        if blocks != row.blocks {
            verified.note(Some(format!("partition {number} has {blocks} blocks and says {}", row.blocks)));
        }
        let last = tables.blocks.last().in_store(path)?.map(|(first, _)| first.value());
        let columns = series::columns(series).len();
        let mut rows = 0;
        for entry in tables.blocks.iter().in_store(path)? {
            let (first, header) = entry.in_store(path)?;
            let header: BlockHeader = decode(path, "a block's header", header.value())?;
            rows += u64::from(header.rows);
            let is_newest = newest == Some(number) && last == Some(first.value());
            if extent == Extent::Newest && !is_newest {
                continue;
            }
            verified.blocks += 1;
            for column in 0..u16::try_from(columns).unwrap_or(u16::MAX) {
                let Some(bytes) = partition::get_pieces(&tables.columns, path, first.value(), column)? else {
                    continue;
                };
                let decoded = decoder.decode(&bytes, usize::try_from(header.rows).unwrap_or(0));
                verified.columns += 1;
                let place = || format!("block {} of {}, column {column}", first.value(), series.name());
                verified.note(decoded.err().map(|what| format!("{}: {what}", place())));
            }
        }
        if rows != row.rows {
            verified.note(Some(format!("partition {number} has {rows} rows and says {}", row.rows)));
        }
        Ok(())
    }

    fn head_and_marks(&self, verified: &mut Verified) -> Result<(), StoreError> {
        let meta = self.open(META)?;
        let mark = |name: &str| -> Result<u64, StoreError> {
            Ok(meta.get(name).in_store(&self.path)?.map_or(0, |row| row.value()))
        };
        let (next_row, evaluated) = (mark("next_row")?, mark("evaluated")?);
        if evaluated > next_row {
            verified.note(Some(format!("the rules have seen row {evaluated}, and there are {next_row}")));
        }
        let mut runs = Vec::new();
        for series in &EVENTS {
            let mut fresh = 0;
            for entry in self.open(series.head)?.iter().in_store(&self.path)? {
                let (first, value) = entry.in_store(&self.path)?;
                let events = events_of(&self.path, run(&self.path, value.value())?)?.len() as u64;
                fresh += events;
                runs.push((first.value(), first.value() + events));
            }
            verified.head_rows += fresh;
            let said = mark(series.fresh)?;
            if said != fresh {
                verified.note(Some(format!("the head of {} has {fresh} rows and says {said}", series.series.name())));
            }
        }
        // What the rules have seen leaves the heads, of one series sooner than of another; the rest must be there.
        runs.sort_unstable();
        let mut expected = evaluated;
        for (first, end) in runs.into_iter().filter(|(_, end)| *end > evaluated) {
            if first > expected {
                verified.note(Some(format!("rows before row {first} are missing from the head")));
            }
            expected = end;
        }
        if expected < next_row {
            verified.note(Some(format!("the head does not end at row {next_row}")));
        }
        Ok(())
    }

    /// Reads every table that is kept row by row.
    fn records_decode(&self) -> Result<(), StoreError> {
        let columns = [0_usize];
        for rows in [
            self.records_of_current(&columns)?,
            self.scans(&columns)?,
            self.alerts(&columns)?,
            self.deliveries(&columns)?,
            self.triggers(&columns)?,
        ] {
            for batch in rows {
                batch?;
            }
        }
        self.gaps()?;
        let collectors: BTreeSet<String> = self
            .open(COLLECTORS)?
            .iter()
            .in_store(&self.path)?
            .map(|entry| Ok(entry.in_store(&self.path)?.0.value().to_owned()))
            .collect::<Result<_, StoreError>>()?;
        for collector in collectors {
            self.observed_until(&collector)?;
        }
        self.open(COMMITTED)?.len().in_store(&self.path)?;
        self.open(ENDED)?.len().in_store(&self.path)?;
        Ok(())
    }
}

impl Verified {
    fn note(&mut self, problem: Option<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.extend(problem);
        }
    }
}
