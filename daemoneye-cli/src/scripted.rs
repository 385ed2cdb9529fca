//! The agent's double: it answers every question with the same script and remembers what it was asked.

use crate::executor::{OnPage, Query, QueryExecutor};
use crate::failure::{Failure, Kind};
use crate::output::{Outcome, Screen};
use daemoneye_lib::proto::ipc::{
    Cell, ColumnKind, Completeness, HealthReport, QueryPage, QueryParameter, ResultColumn, ResultRow, cell,
};
use std::cell::RefCell;

pub(crate) struct Script {
    columns: Vec<ResultColumn>,
    rows: Vec<ResultRow>,
    completeness: Option<Completeness>,
    broken: bool,
    pub(crate) health: HealthReport,
    pub(crate) metrics: String,
    pub(crate) asked: RefCell<Vec<(String, Vec<QueryParameter>)>>,
}

impl Script {
    pub(crate) fn new(columns: &[(&str, ColumnKind)]) -> Self {
        let column =
            |(name, kind): &(&str, ColumnKind)| ResultColumn { name: (*name).to_owned(), kind: (*kind).into() };
        Self {
            columns: columns.iter().map(column).collect(),
            rows: Vec::new(),
            completeness: Some(Completeness::default()),
            broken: false,
            health: HealthReport::default(),
            metrics: String::new(),
            asked: RefCell::default(),
        }
    }

    pub(crate) fn row(mut self, cells: impl Into<Vec<Option<cell::Value>>>) -> Self {
        self.rows.push(ResultRow { cells: cells.into().into_iter().map(|value| Cell { value }).collect() });
        self
    }

    pub(crate) fn degraded(mut self, reason: &str) -> Self {
        self.completeness = Some(Completeness { degraded: true, reasons: vec![reason.to_owned()] });
        self
    }

    /// The last page never comes.
    pub(crate) fn cut_off(mut self) -> Self {
        self.completeness = None;
        self
    }

    /// An error comes in place of the last page.
    pub(crate) fn broken(mut self) -> Self {
        self.broken = true;
        self
    }
}

impl QueryExecutor for Script {
    async fn execute_query(
        &self,
        query: &Query,
        parameters: Vec<QueryParameter>,
        on_page: OnPage<'_>,
    ) -> Result<(), Failure> {
        self.asked.borrow_mut().push((query.sql.clone(), parameters));
        // A page for each row, as small as pages can be.
        on_page(QueryPage { columns: self.columns.clone(), ..QueryPage::default() })?;
        for row in &self.rows {
            on_page(QueryPage { rows: vec![row.clone()], ..QueryPage::default() })?;
        }
        if self.broken {
            return Err(Failure::new(Kind::Failed, "the connection is gone"));
        }
        on_page(QueryPage { completeness: self.completeness.clone(), ..QueryPage::default() })
    }

    async fn export_data(
        &self,
        query: &Query,
        parameters: Vec<QueryParameter>,
        on_page: OnPage<'_>,
    ) -> Result<(), Failure> {
        self.execute_query(query, parameters, on_page).await
    }

    async fn health(&self) -> Result<HealthReport, Failure> {
        Ok(self.health.clone())
    }

    async fn metrics(&self) -> Result<String, Failure> {
        Ok(self.metrics.clone())
    }
}

pub(crate) fn text(text: &str) -> Option<cell::Value> {
    Some(cell::Value::Text(text.to_owned()))
}

pub(crate) fn integer(number: i64) -> Option<cell::Value> {
    Some(cell::Value::Integer(number))
}

pub(crate) fn real(number: f64) -> Option<cell::Value> {
    Some(cell::Value::Real(number))
}

/// What a command writes to stdout and stderr on a screen of this width, and its exit code.
pub(crate) fn shown(
    width: usize,
    command: impl AsyncFnOnce(&mut Screen<'_>) -> Result<Outcome, Failure>,
) -> (String, String, u8) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut screen = Screen { out: &mut out, err: &mut err, width, terminal: false, colours: false };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let code = match runtime.block_on(command(&mut screen)) {
        Ok(outcome) => outcome as u8,
        Err(failure) => {
            failure.print(screen.err);
            failure.kind as u8
        }
    };
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), code)
}
