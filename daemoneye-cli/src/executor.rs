//! The edge to the agent: what commands ask of it.

use crate::failure::{Failure, Kind};
use crate::output::Sheet;
use daemoneye_lib::proto::ipc::{Completeness, HealthReport, QueryPage, QueryParameter};
use std::time::Duration;

/// SQL, and how much may be spent on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) sql: String,
    /// The agent's own limit when none.
    pub(crate) max_rows: Option<u64>,
    /// The agent's own limit when none.
    pub(crate) timeout: Option<Duration>,
    /// Ask what would be read, and read nothing.
    pub(crate) explain: bool,
}

impl From<&str> for Query {
    fn from(sql: &str) -> Self {
        Self { sql: sql.to_owned(), ..Self::default() }
    }
}

/// Takes the pages of an answer as they arrive; an error ends the query.
pub(crate) type OnPage<'a> = &'a mut dyn FnMut(QueryPage) -> Result<(), Failure>;

/// Whoever answers questions: the agent, or a script in tests.
pub(crate) trait QueryExecutor {
    /// Runs a query. Values reach it as parameters, never as SQL text.
    async fn execute_query(
        &self,
        query: &Query,
        parameters: Vec<QueryParameter>,
        on_page: OnPage<'_>,
    ) -> Result<(), Failure>;

    /// Runs a query without the agent's limit of rows, for a file; what is left out is a condition of the query, and the format is
    /// that of the sheet that takes the pages.
    async fn export_data(
        &self,
        query: &Query,
        parameters: Vec<QueryParameter>,
        on_page: OnPage<'_>,
    ) -> Result<(), Failure>;

    /// Asks how the agent and its collectors are.
    async fn health(&self) -> Result<HealthReport, Failure>;

    /// Asks for the agent's metrics, in the text format of Prometheus.
    async fn metrics(&self) -> Result<String, Failure>;
}

/// Runs a query and lays its rows on a sheet as they arrive.
pub(crate) async fn fetch(
    executor: &impl QueryExecutor,
    query: &Query,
    parameters: Vec<QueryParameter>,
    sheet: &mut dyn Sheet,
) -> Result<Completeness, Failure> {
    let mut answer = Answer { sheet, width: None, completeness: None };
    executor.execute_query(query, parameters, &mut |page| answer.take(page)).await?;
    answer.end()
}

/// The same for every row there is, however many: an export.
pub(crate) async fn fetch_all(
    executor: &impl QueryExecutor,
    query: &Query,
    parameters: Vec<QueryParameter>,
    sheet: &mut dyn Sheet,
) -> Result<Completeness, Failure> {
    let mut answer = Answer { sheet, width: None, completeness: None };
    executor.export_data(query, parameters, &mut |page| answer.take(page)).await?;
    answer.end()
}

/// Lays an answer of one page on a sheet.
pub(crate) fn show(page: QueryPage, sheet: &mut dyn Sheet) -> Result<Completeness, Failure> {
    let mut answer = Answer { sheet, width: None, completeness: None };
    answer.take(page)?;
    answer.end()
}

/// An answer as far as it has come: columns in the first page, completeness in the last.
struct Answer<'a> {
    sheet: &'a mut dyn Sheet,
    width: Option<usize>,
    completeness: Option<Completeness>,
}

impl Answer<'_> {
    fn take(&mut self, page: QueryPage) -> Result<(), Failure> {
        let width = match self.width {
            Some(width) => width,
            None => {
                self.width = Some(page.columns.len());
                self.sheet.begin(&page.columns)?;
                page.columns.len()
            }
        };
        for row in page.rows {
            if row.cells.len() != width || self.completeness.is_some() {
                return Err(Failure::new(Kind::Defect, "the agent sent a row that does not fit its answer"));
            }
            self.sheet.row(row.cells)?;
        }
        self.completeness = self.completeness.take().or(page.completeness);
        Ok(())
    }

    /// An answer without its last page is cut off: the sheet is not ended, so that nobody takes it for a whole one.
    fn end(self) -> Result<Completeness, Failure> {
        let completeness = self
            .completeness
            .ok_or_else(|| Failure::new(Kind::Failed, "the agent's answer ended before it was complete"))?;
        self.sheet.end(&completeness)?;
        Ok(completeness)
    }
}
