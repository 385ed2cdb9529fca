//! What a query would read, told without reading it.

use super::lower::{Parameters, lower_query};
use super::query::{Queries, QueryError};
use super::session;
use super::source::{TableSource, Touched, provider};
use super::{error::Refusal, lower::Lowered};
use crate::models::catalog::Table;
use crate::models::condition::Survey;
use crate::models::time;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use std::sync::Arc;

/// What a query would read, and how.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explained {
    /// Each reading of a table.
    pub reads: Vec<Read>,
    /// The plan, a step on each line, indented below the step that it feeds.
    pub plan: Vec<String>,
}

/// One reading of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// Which table.
    pub table: Option<Table>,
    /// Its name.
    pub name: String,
    /// The columns that are read.
    pub columns: Vec<String>,
    /// Conditions by which whole blocks are left out before they are read.
    pub pushed_down: Vec<String>,
    /// From when; nothing where it has no such bound.
    pub from: Option<i64>,
    /// Until when; nothing where it has no such bound.
    pub to: Option<i64>,
    /// How much of the table that is, where its owner can tell.
    pub survey: Option<Survey>,
}

impl Queries {
    /// Plans a query and tells what it would read.
    ///
    /// # Errors
    /// When it is refused or cannot be planned, or the source cannot be asked.
    pub async fn explain(
        &self,
        sql: &str,
        parameters: &Parameters,
        source: Arc<dyn TableSource>,
    ) -> Result<Explained, QueryError> {
        let lowered = lower_query(sql, parameters, time::now_ns())?;
        let touched = Touched::default();
        let failed = |error: DataFusionError| QueryError::Failed(error.to_string());
        let state = session::with_tables(self.base(), |table| provider(table, &source, &touched)).map_err(failed)?;
        let plan = session::plan(&state, &lowered).await?;
        let refused = |error: DataFusionError| refused(&lowered, &error);
        let plan = state.optimize(&plan).map_err(refused)?;
        let mut reads = Vec::new();
        collect(&plan, &mut reads).map_err(refused)?;
        // The stretches of time are known when the tables are asked.
        state.create_physical_plan(&plan).await.map_err(refused)?;
        let mut touched = touched.wanted();
        for read in &mut reads {
            if let Some(index) = touched.iter().position(|(table, _)| Some(*table) == read.table) {
                let (table, wanted) = touched.remove(index);
                read.from = Some(wanted.from).filter(|ns| *ns > i64::MIN);
                read.to = Some(wanted.to).filter(|ns| *ns < i64::MAX);
                read.survey = source.survey(table, &wanted).map_err(|error| QueryError::Failed(error.to_string()))?;
            }
        }
        let plan = plan.display_indent().to_string().lines().map(str::to_owned).collect();
        Ok(Explained { reads, plan })
    }
}

fn refused(lowered: &Lowered, error: &DataFusionError) -> QueryError {
    QueryError::Refused(lowered.place(Refusal::from_planner(error)))
}

fn collect(plan: &LogicalPlan, reads: &mut Vec<Read>) -> Result<(), DataFusionError> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            reads.push(read(scan));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn read(scan: &TableScan) -> Read {
    let name = match scan.table_name.schema() {
        Some(schema) => format!("{schema}.{}", scan.table_name.table()),
        None => scan.table_name.table().to_owned(),
    };
    Read {
        table: Table::find(&name),
        name,
        columns: scan.projected_schema.fields().iter().map(|field| field.name().clone()).collect(),
        pushed_down: scan.filters.iter().map(Expr::to_string).collect(),
        from: None,
        to: None,
        survey: None,
    }
}
