//! Care of the store: retention on a schedule, and what operators ask of it.

use crate::answering::inquiries::Answers;
use crate::answering::queries::QueryService;
use daemoneye_eventbus::Requests;
use daemoneye_lib::config::Agent;
use daemoneye_lib::detection::query::{Queries, QueryError};
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{
    Cell, ColumnKind, Completeness, DataPrune, DataRequest, QueryPage, RequestError, RequestErrorKind, ResultColumn,
    ResultRow, cell, data_request::Request as Asked,
};
use daemoneye_lib::storage::{Extent, Keep, Removed, Store, StoreError, TableSize, Verified};
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

/// Between two runs of retention.
const EVERY: Duration = Duration::from_secs(60);
/// The same in test mode.
const EVERY_IN_TESTS: Duration = Duration::from_secs(1);
/// How long an export may take.
const EXPORT_TIMEOUT_MS: u64 = 86_400_000;

/// Removes what is older than configured, or more.
pub(crate) struct Retention {
    pub(crate) store: Arc<Store>,
    pub(crate) limits: watch::Receiver<Agent>,
    pub(crate) test_mode: bool,
}

impl Retention {
    pub(crate) async fn run(self) -> String {
        let mut tick = interval(if self.test_mode { EVERY_IN_TESTS } else { EVERY });
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let (now, limits) = (time::now_ns(), self.limits.borrow().clone());
            let since = |age_s: u64| Some(now.saturating_sub_unsigned(age_s.saturating_mul(1_000_000_000)));
            let keep = Keep {
                since: since(limits.retention_s),
                alerts_since: since(limits.alert_retention_s),
                bytes: Some(limits.max_store_bytes),
            };
            let store = Arc::clone(&self.store);
            match spawn_blocking(move || store.prune(keep, false)).await {
                Ok(Ok(removed)) if removed.is_nothing() => {}
                Ok(Ok(removed)) => {
                    let Removed { events, processes, snapshots, alerts, bytes, .. } = removed;
                    tracing::info!(
                        events,
                        processes,
                        snapshots,
                        alerts,
                        bytes,
                        "retention removed what is too old or too much"
                    );
                }
                // The pipeline says so too, and opens the store again.
                Ok(Err(error)) => tracing::error!(%error, "retention could not remove anything"),
                Err(panic) => return panic.to_string(),
            }
        }
    }
}

/// Answers queries for exports: without a limit of rows, with memory of its own.
pub(crate) fn exports(queries: &QueryService) -> Result<QueryService, QueryError> {
    let limits = queries.limits.borrow().clone();
    let limits = Agent { query_max_rows: u64::MAX, query_timeout_ms: EXPORT_TIMEOUT_MS, ..limits };
    Ok(QueryService {
        engine: Arc::new(Queries::new(limits.query_memory_bytes)?),
        planning: queries.planning.clone(),
        store: Arc::clone(&queries.store),
        collectors: queries.collectors.clone(),
        detection: queries.detection.clone(),
        cut_queries: queries.cut_queries.clone(),
        limits: watch::channel(limits).1,
        metrics: queries.metrics.clone(),
    })
}

/// Answers what operators ask of the store until the bus closes. Checking or pruning is done by one at a time; how much there
/// is can be asked meanwhile.
pub(crate) struct DataServer {
    pub(crate) requests: Requests,
    pub(crate) store: Arc<Store>,
}

impl DataServer {
    pub(crate) async fn run(mut self) -> String {
        let mut answers = Answers::default();
        let slot = Arc::new(Semaphore::new(1));
        while let Some(request) = self.requests.recv().await {
            let asked = DataRequest::decode(request.body.as_slice()).ok().and_then(|request| request.request);
            if let Some(Asked::Prune(DataPrune { keep_since, max_bytes, dry_run: false })) = &asked {
                tracing::warn!(uid = request.sender.uid, ?keep_since, ?max_bytes, "an operator removes data");
            }
            let (store, slot) = (Arc::clone(&self.store), Arc::clone(&slot));
            answers.take(async move {
                let cancelled = request.cancelled();
                let slot = if matches!(asked, Some(Asked::Stats(_))) {
                    None
                } else {
                    tokio::select! {
                        slot = slot.acquire_owned() => slot.ok(),
                        () = cancelled => return,
                    }
                };
                let answered = spawn_blocking(move || {
                    let answered = answer(&store, asked);
                    drop(slot);
                    answered
                });
                match answered.await {
                    Ok(Ok(page)) => request.respond(page.encode_to_vec()).await,
                    Ok(Err(error)) => request.fail(error.encode_to_vec()).await,
                    Err(panic) => {
                        tracing::error!(%panic, "care of the store brought its thread down: a defect of DaemonEye");
                        let message = format!("it brought the agent's thread down: {panic}");
                        request.fail(failure(RequestErrorKind::Defect, message).encode_to_vec()).await;
                    }
                }
            });
        }
        "the bus has closed".to_owned()
    }
}

fn answer(store: &Store, asked: Option<Asked>) -> Result<QueryPage, RequestError> {
    let failed = |error: StoreError| failure(RequestErrorKind::FailedRequest, error.to_string());
    match asked {
        Some(Asked::Stats(_)) => {
            let sizes = store.snapshot().and_then(|snapshot| snapshot.sizes()).map_err(failed)?;
            let file = store.file_bytes().map_err(|error| {
                failure(RequestErrorKind::FailedRequest, format!("{}: {error}", store.path().display()))
            })?;
            Ok(stats(sizes, file))
        }
        Some(Asked::Prune(DataPrune { keep_since, max_bytes, dry_run })) => {
            let keep = Keep { since: keep_since, alerts_since: None, bytes: max_bytes };
            store.prune(keep, dry_run).map(pruned).map_err(failed)
        }
        Some(Asked::Verify(_)) => store.verify(Extent::All).map(verified).map_err(failed),
        None => Err(failure(RequestErrorKind::FailedRequest, "the request cannot be decoded".to_owned())),
    }
}

fn failure(kind: RequestErrorKind, message: String) -> RequestError {
    RequestError { kind: kind.into(), message, ..RequestError::default() }
}

fn stats(sizes: Vec<TableSize>, file: u64) -> QueryPage {
    let columns = [
        ("table", ColumnKind::Text),
        ("rows", ColumnKind::Integer),
        ("blocks", ColumnKind::Integer),
        ("partitions", ColumnKind::Integer),
        ("bytes", ColumnKind::Integer),
        ("oldest", ColumnKind::Time),
        ("newest", ColumnKind::Time),
    ];
    let row = |size: TableSize| {
        let shown = |ns: Option<i64>| ns.map(|ns| cell::Value::Text(time::sql_text(ns)));
        vec![
            text(size.table),
            number(size.rows),
            size.blocks.and_then(number),
            size.partitions.and_then(number),
            number(size.bytes),
            shown(size.oldest),
            shown(size.newest),
        ]
    };
    let file = TableSize { table: "the file", bytes: file, ..TableSize::default() };
    let mut rows: Vec<_> = sizes.into_iter().map(row).collect();
    let mut last = row(file);
    // A file has no rows.
    if let Some(rows) = last.get_mut(1) {
        *rows = None;
    }
    rows.push(last);
    page(&columns, rows, Vec::new())
}

fn pruned(removed: Removed) -> QueryPage {
    let Removed { events, processes, snapshots, scans, gaps, alerts, bytes } = removed;
    let columns = ["events", "processes", "snapshots", "scans", "gaps", "alerts", "bytes"];
    let columns = columns.map(|name| (name, ColumnKind::Integer));
    page(&columns, vec![[events, processes, snapshots, scans, gaps, alerts, bytes].map(number).to_vec()], Vec::new())
}

fn verified(verified: Verified) -> QueryPage {
    let Verified { partitions, blocks, columns: checked, head_rows, problems } = verified;
    let columns = [
        ("partitions", ColumnKind::Integer),
        ("blocks", ColumnKind::Integer),
        ("columns", ColumnKind::Integer),
        ("fresh_rows", ColumnKind::Integer),
        ("problems", ColumnKind::Integer),
    ];
    let row = [partitions, blocks, checked, head_rows, problems.len() as u64].map(number).to_vec();
    page(&columns, vec![row], problems)
}

fn page(columns: &[(&str, ColumnKind)], rows: Vec<Vec<Option<cell::Value>>>, reasons: Vec<String>) -> QueryPage {
    let column = |(name, kind): &(&str, ColumnKind)| ResultColumn { name: (*name).to_owned(), kind: (*kind).into() };
    let row =
        |cells: Vec<Option<cell::Value>>| ResultRow { cells: cells.into_iter().map(|value| Cell { value }).collect() };
    QueryPage {
        columns: columns.iter().map(column).collect(),
        rows: rows.into_iter().map(row).collect(),
        completeness: Some(Completeness { degraded: !reasons.is_empty(), reasons }),
    }
}

fn text(text: &str) -> Option<cell::Value> {
    Some(cell::Value::Text(text.to_owned()))
}

fn number(number: u64) -> Option<cell::Value> {
    i64::try_from(number).ok().map(cell::Value::Integer)
}
