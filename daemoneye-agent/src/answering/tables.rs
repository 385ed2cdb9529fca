//! The tables that a query sees: the store's, and what the agent knows of itself.

use crate::answering::completeness::{self, CutQueries};
use crate::collecting::collectors::Collectors;
use daemoneye_lib::detection::source::{Batches, SourceError, Survey, TableSource, Wanted};
use daemoneye_lib::detection::standing::DetectionRecord;
use daemoneye_lib::models::batch::batch_of;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::columns::Column;
use daemoneye_lib::models::rows::{COLLECTOR, GAP, RULE, RUN};
use daemoneye_lib::storage::{self, Rows, Snapshot, TimeRange};

/// Everything as it was when a query began.
pub(crate) struct Tables {
    pub(crate) snapshot: Snapshot,
    pub(crate) collectors: Collectors,
    pub(crate) detection: DetectionRecord,
    pub(crate) cut_queries: CutQueries,
}

impl TableSource for Tables {
    fn scan(&self, table: Table, wanted: &Wanted) -> Result<Batches, SourceError> {
        let columns = wanted.projection.as_slice();
        match table {
            Table::Processes => self.snapshot.processes_where(columns, &wanted.conditions).map(stored),
            Table::ProcessEvents | Table::NetworkConnections | Table::FilesystemEvents | Table::PerformanceSamples => {
                let range = TimeRange { from: wanted.from, to: wanted.to };
                self.snapshot.events_where(table, columns, range, &wanted.conditions).map(stored)
            }
            Table::Triggers => self.snapshot.triggers(columns).map(stored),
            Table::Snapshots => {
                let range = TimeRange { from: wanted.from, to: wanted.to };
                self.snapshot.snapshots_where(columns, range, &wanted.conditions).map(stored)
            }
            Table::Ancestors => self.snapshot.ancestors_where(columns, &wanted.conditions).map(stored),
            Table::Scans => self.snapshot.scans(columns).map(stored),
            Table::Alerts => self.snapshot.alerts(columns).map(stored),
            Table::Deliveries => self.snapshot.deliveries(columns).map(stored),
            Table::Gaps => {
                let mut gaps = completeness::gaps(&self.snapshot, &self.collectors)?;
                gaps.extend(self.cut_queries.row());
                return known(table, GAP, columns, &gaps);
            }
            Table::Collectors => return known(table, COLLECTOR, columns, &self.collectors.rows()),
            Table::Rules => return known(table, RULE, columns, &self.detection.rules()),
            Table::Runs => return known(table, RUN, columns, &self.detection.runs()),
        }
        .map_err(Into::into)
    }

    fn survey(&self, table: Table, wanted: &Wanted) -> Result<Option<Survey>, SourceError> {
        let range = TimeRange { from: wanted.from, to: wanted.to };
        let survey = match table {
            Table::Processes => self.snapshot.survey_processes(&wanted.conditions)?,
            Table::Snapshots => self.snapshot.survey_snapshots(range, &wanted.conditions)?,
            events if events.is_of_events() => self.snapshot.survey_events(events, range, &wanted.conditions)?,
            _ => return Ok(None),
        };
        let storage::Survey { blocks, blocks_read, rows_at_most } = survey;
        Ok(Some(Survey { blocks, blocks_read, rows_at_most }))
    }
}

fn stored(rows: Rows) -> Batches {
    Box::new(rows.map(|batch| batch.map_err(SourceError::from)))
}

fn known<R>(table: Table, columns: &[Column<R>], projection: &[usize], rows: &[R]) -> Result<Batches, SourceError> {
    let batch = batch_of(table, columns, projection, rows.iter())?;
    Ok(Box::new(std::iter::once(Ok(batch))))
}
