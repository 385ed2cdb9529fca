//! The tables that a query sees: the store's, and what the agent knows of itself.

use crate::answering::completeness::{self, CutQueries};
use crate::collecting::collectors::Collectors;
use daemoneye_lib::detection::source::{Batches, SourceError, TableSource, Wanted};
use daemoneye_lib::detection::standing::DetectionRecord;
use daemoneye_lib::models::batch::batch_of;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::columns::Column;
use daemoneye_lib::models::condition::Survey;
use daemoneye_lib::models::rows::{COLLECTOR, GAP, RULE, RUN};
use daemoneye_lib::storage::{Snapshot, TimeRange};

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
            Table::Gaps => {
                let mut gaps = completeness::gaps(&self.snapshot, &self.collectors)?;
                gaps.extend(self.cut_queries.row());
                known(table, GAP, columns, &gaps)
            }
            Table::Collectors => known(table, COLLECTOR, columns, &self.collectors.rows()),
            Table::Rules => known(table, RULE, columns, &self.detection.rules()),
            Table::Runs => known(table, RUN, columns, &self.detection.runs()),
            stored => {
                let range = TimeRange { from: wanted.from, to: wanted.to };
                let rows = self.snapshot.rows(stored, columns, range, &wanted.conditions)?;
                let rows = rows.ok_or_else(|| format!("nobody keeps the table {stored:?}"))?;
                Ok(Box::new(rows.map(|batch| batch.map_err(SourceError::from))))
            }
        }
    }

    fn survey(&self, table: Table, wanted: &Wanted) -> Result<Option<Survey>, SourceError> {
        let range = TimeRange { from: wanted.from, to: wanted.to };
        Ok(self.snapshot.survey(table, range, &wanted.conditions)?)
    }
}

fn known<R>(table: Table, columns: &[Column<R>], projection: &[usize], rows: &[R]) -> Result<Batches, SourceError> {
    let batch = batch_of(table, columns, projection, rows.iter())?;
    Ok(Box::new(std::iter::once(Ok(batch))))
}
