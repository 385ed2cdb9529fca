//! The engine, locked down: our functions and tables and nothing else, bounded memory, no files, one partition.

use super::error::Refusal;
use super::functions;
use super::lower::Lowered;
use super::source::Provider;
use crate::models::catalog::Table;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider, TableProvider,
};
use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::functions_aggregate::{average, count, min_max, string_agg, sum};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use std::sync::Arc;

const CATALOG: &str = "daemoneye";
/// Rows that flow through the engine at once.
const BATCH_ROWS: usize = 2_048;

/// Everything but the tables.
pub(super) fn base(memory_bytes: usize) -> Result<SessionState, DataFusionError> {
    let mut config = SessionConfig::new()
        .with_batch_size(BATCH_ROWS)
        .with_target_partitions(1)
        .with_default_catalog_and_schema(CATALOG, "processes")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false);
    let options = config.options_mut();
    "nulls_min".clone_into(&mut options.sql_parser.default_null_ordering);
    options.sql_parser.map_string_types_to_utf8view = false;
    options.execution.enable_recursive_ctes = false;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    Ok(SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_scalar_functions(functions::all())
        .with_aggregate_functions(vec![
            average::avg_udaf(),
            count::count_udaf(),
            min_max::max_udaf(),
            min_max::min_udaf(),
            string_agg::string_agg_udaf(),
            sum::sum_udaf(),
        ])
        .build())
}

/// The base with tables.
pub(super) fn with_tables(
    base: &SessionState,
    provider: impl Fn(Table) -> Provider,
) -> Result<SessionState, DataFusionError> {
    let catalog = MemoryCatalogProvider::new();
    for table in Table::ALL {
        let (schema_name, name) = table.qualified_name();
        let schema = match catalog.schema(schema_name) {
            Some(schema) => schema,
            None => {
                let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                catalog.register_schema(schema_name, Arc::clone(&schema))?;
                schema
            }
        };
        let provider: Arc<dyn TableProvider> = Arc::new(provider(table));
        schema.register_table(name.to_owned(), provider)?;
    }
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    Ok(SessionStateBuilder::new_from_existing(base.clone()).with_catalog_list(Arc::new(catalogs)).build())
}

/// The logical plan of a lowered statement.
pub(super) async fn plan(state: &SessionState, lowered: &Lowered) -> Result<LogicalPlan, Refusal> {
    let statement = Statement::Statement(Box::new(lowered.statement.clone()));
    state.statement_to_plan(statement).await.map_err(|error| lowered.place(Refusal::from_planner(&error)))
}
