//! The tables of the store by their names: the rows of each, and what reading them would take.

use super::error::{InStore, StoreError};
use super::read::Blocks;
use super::series::{self, Series};
use super::snapshot::{Rows, Snapshot, TimeRange};
use super::tables::{CURRENT, META};
use crate::models::catalog::Table;
use crate::models::condition::{Condition, Survey};
use redb::ReadableTableMetadata as _;

impl Snapshot {
    /// Some columns of the rows of a table; rows that are of no such time or do not meet the conditions may be left out.
    /// Nothing where the store does not have the table.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn rows(
        &self,
        table: Table,
        projection: &[usize],
        range: TimeRange,
        conditions: &[Condition],
    ) -> Result<Option<Rows>, StoreError> {
        match table {
            Table::Processes => self.processes_where(projection, conditions),
            Table::ProcessEvents
            | Table::NetworkConnections
            | Table::FilesystemEvents
            | Table::PerformanceSamples
            | Table::SecurityEvents => self.events_where(table, projection, range, conditions),
            Table::Snapshots => self.snapshots_where(projection, range, conditions),
            Table::Ancestors => self.ancestors_where(projection, conditions),
            Table::Triggers => self.triggers(projection),
            Table::Scans => self.scans(projection),
            Table::Alerts => self.alerts(projection),
            Table::Deliveries => self.deliveries(projection),
            Table::Gaps | Table::Collectors | Table::Rules | Table::Runs => return Ok(None),
        }
        .map(Some)
    }

    /// What that would read, of a table that is kept in blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn survey(
        &self,
        table: Table,
        range: TimeRange,
        conditions: &[Condition],
    ) -> Result<Option<Survey>, StoreError> {
        let path = &self.path;
        let (series, range, fresh) = match table {
            Table::Processes => (Series::Ended, TimeRange::ALL, self.open(CURRENT)?.len().in_store(path)?),
            Table::Snapshots => (Series::Snapshots, range, self.fresh_snapshots()?),
            events => {
                let Some(names) = series::of_events(events) else { return Ok(None) };
                let fresh = self.open(META)?.get(names.fresh).in_store(path)?.map_or(0, |fresh| fresh.value());
                (names.series, range, fresh)
            }
        };
        let sealed = Blocks::of(&self.read, path, series, (range.from, range.to), conditions.to_vec())?.survey()?;
        Ok(Some(Survey { rows_at_most: sealed.rows_at_most + fresh, ..sealed }))
    }
}
