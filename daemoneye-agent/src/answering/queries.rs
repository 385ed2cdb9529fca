//! The operator's queries.
//!
//! A query runs on a blocking thread, so that however long it computes, events and acknowledgements go on. So many run at
//! once; the next waits. Rows go out page by page, and a reader that is slow slows only its own query, which ends with its
//! time limit.

use crate::answering::completeness::{self, CutQueries};
use crate::answering::explain;
use crate::answering::inquiries::span;
use crate::answering::planning::{Deadline, Planning};
use crate::answering::tables::Tables;
use crate::collecting::collectors::Collectors;
use crate::metrics::Metrics;
use daemoneye_eventbus::{Request, Requests};
use daemoneye_lib::config::Agent;
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::detection::query::{Answer, Parameter, Queries, QueryError, rows};
use daemoneye_lib::detection::standing::DetectionRecord;
use daemoneye_lib::models::rows::GapRow;
use daemoneye_lib::proto::ipc::{
    Cell, Completeness, QueryPage, QueryRequest, RequestError, RequestErrorKind, ResultColumn, ResultRow, cell,
};
use daemoneye_lib::storage::Store;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout_at;
use tracing::{Instrument as _, Span};

/// Queries that run at once, and queries that are planned at once.
pub(crate) const AT_ONCE: usize = 4;
/// Rows of a page.
const PAGE_ROWS: usize = 512;
/// Bytes of a page, far below what a frame holds; a row that is larger goes alone.
const PAGE_BYTES: usize = 512 << 10;
/// A row that no frame could carry.
const MAX_ROW_BYTES: usize = 3 << 20;

/// Answers queries until the bus closes.
pub(crate) struct QueryServer {
    pub(crate) requests: Requests,
    pub(crate) queries: Arc<QueryService>,
}

/// What a query needs.
pub(crate) struct QueryService {
    pub(crate) engine: Arc<Queries>,
    pub(crate) planning: Planning,
    pub(crate) store: Arc<Store>,
    pub(crate) collectors: Collectors,
    pub(crate) detection: DetectionRecord,
    pub(crate) cut_queries: CutQueries,
    pub(crate) limits: watch::Receiver<Agent>,
    pub(crate) metrics: Metrics,
}

impl QueryServer {
    pub(crate) async fn run(mut self) -> String {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(request) = self.requests.recv().await {
            let (queries, slots) = (Arc::clone(&self.queries), Arc::clone(&slots));
            // The bus bounds how many requests are under way.
            let running = queries.metrics.query();
            let span = span(&request);
            let task = async move {
                let cancelled = request.cancelled();
                let slot = tokio::select! {
                    slot = slots.acquire_owned() => slot,
                    () = cancelled => return,
                };
                let (handle, span) = (Handle::current(), Span::current());
                let serving = async move { queries.serve(request).await };
                let served = spawn_blocking(move || handle.block_on(serving.instrument(span))).await;
                drop(slot);
                match served {
                    Ok(Some(result)) => running.ends(result),
                    Ok(None) => {}
                    Err(error) => {
                        running.ends("failed");
                        tracing::error!(%error, "a query brought the engine down: a defect of DaemonEye");
                    }
                }
            };
            tokio::spawn(task.instrument(span));
        }
        "the bus has closed".to_owned()
    }
}

impl QueryService {
    /// Returns how it ended; nothing when nobody waits for the answer any more.
    async fn serve(self: Arc<Self>, mut request: Request) -> Option<&'static str> {
        tracing::debug!("a query is asked");
        let cancelled = request.cancelled();
        let answered = tokio::select! {
            answered = self.answer(&mut request) => answered,
            () = cancelled => return None,
        };
        match answered {
            Ok(Some(last)) => {
                let degraded = last.completeness.as_ref().is_some_and(|completeness| completeness.degraded);
                request.respond(last.encode_to_vec()).await;
                tracing::debug!(degraded, "answered");
                Some(if degraded { "degraded" } else { "complete" })
            }
            Ok(None) => None,
            Err(error) => {
                let refused = error.kind() == RequestErrorKind::RefusedRequest;
                if refused {
                    tracing::warn!(uid = request.sender.uid, reason = %error.message, "a query was refused");
                }
                request.fail(error.encode_to_vec()).await;
                Some(if refused { "refused" } else { "failed" })
            }
        }
    }

    /// Sends all pages but the last, which it returns; nothing when the caller is gone.
    async fn answer(self: &Arc<Self>, request: &mut Request) -> Result<Option<QueryPage>, RequestError> {
        let wanted = QueryRequest::decode(request.body.as_slice()).map_err(|error| {
            failure(RequestErrorKind::FailedRequest, format!("the request cannot be decoded: {error}"))
        })?;
        let limit = |asked: u64, own: u64| if asked == 0 { own } else { asked.min(own) };
        let limits = self.limits.borrow().clone();
        let max_rows = limit(wanted.max_rows, limits.query_max_rows);
        let timeout = Duration::from_millis(limit(wanted.timeout_ms, limits.query_timeout_ms));
        let deadline = Deadline::after(timeout);
        let parameters = parameters(wanted.parameters);
        if wanted.explain {
            let engine = Arc::clone(&self.engine);
            let tables = Arc::new(self.tables()?);
            let work = async move { engine.explain(&wanted.sql, &parameters, tables).await };
            return self.planned(deadline, work).await.map(|explained| Some(explain::page(&explained)));
        }
        let tables = self.tables()?;
        let gaps = completeness::gaps(&tables.snapshot, &self.collectors)
            .map_err(|error| failure(RequestErrorKind::FailedRequest, error.to_string()))?;
        let engine = Arc::clone(&self.engine);
        let work = async move { engine.run(&wanted.sql, &parameters, Arc::new(tables)).await };
        let mut answer = self.planned(deadline, work).await?;
        let mut page = Page { columns: answer.columns().to_vec(), rows: Vec::new(), bytes: 0 };
        let mut sent = 0;
        let mut cut = None;
        'rows: loop {
            let batch = match timeout_at(deadline.at, answer.next()).await {
                Err(_) => {
                    cut = Some(format!("time_limit: the query was cut short after {} s", timeout.as_secs_f64()));
                    break;
                }
                Ok(None) => break,
                Ok(Some(batch)) => batch.map_err(query_failure)?,
            };
            for row in rows(&batch) {
                if sent == max_rows {
                    cut = Some(format!("row_limit: the result was cut after {max_rows} rows"));
                    break 'rows;
                }
                if page.is_full_with(&row)? {
                    let full = page.take();
                    match timeout_at(deadline.at, request.send_part(full.encode_to_vec())).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return Ok(None),
                        Err(_) => {
                            cut = Some(format!("time_limit: the reader took more than {} s", timeout.as_secs_f64()));
                            break 'rows;
                        }
                    }
                }
                page.rows.push(row);
                sent += 1;
            }
        }
        let completeness = self.completeness(&answer, gaps, cut);
        let mut last = page.take();
        last.completeness = Some(completeness);
        Ok(Some(last))
    }

    /// Plans within the time limit.
    async fn planned<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl Future<Output = Result<T, QueryError>> + Send + 'static,
    ) -> Result<T, RequestError> {
        match self.planning.run(deadline, move || work).await {
            Ok(planned) => planned.map_err(query_failure),
            Err(undone) => Err(undone.told("query", deadline)),
        }
    }

    fn tables(&self) -> Result<Tables, RequestError> {
        let snapshot =
            self.store.snapshot().map_err(|error| failure(RequestErrorKind::FailedRequest, error.to_string()))?;
        Ok(Tables {
            snapshot,
            collectors: self.collectors.clone(),
            detection: self.detection.clone(),
            cut_queries: self.cut_queries.clone(),
        })
    }

    /// Judged by what was known when the query began, and by who is absent now that it has ended.
    fn completeness(&self, answer: &Answer, mut gaps: Vec<GapRow>, cut: Option<String>) -> Completeness {
        let mut touched = answer.touched();
        // A table that was planned away, as by WHERE 0, still was asked about.
        for table in answer.tables() {
            if !touched.iter().any(|(own, ..)| own == table) {
                touched.push((*table, i64::MIN, i64::MAX));
            }
        }
        let absent = self.collectors.absent();
        gaps.extend(
            absent
                .into_iter()
                .filter(|row| !gaps.iter().any(|own| own.gap_id == 0 && own.collector == row.collector))
                .collect::<Vec<_>>(),
        );
        let mut reasons = completeness::reasons(&gaps, &self.collectors.limitations(), &touched);
        if let Some(cut) = cut {
            self.cut_queries.note(&cut);
            reasons.push(cut);
        }
        Completeness { degraded: !reasons.is_empty(), reasons }
    }
}

/// Rows on their way out.
struct Page {
    columns: Vec<ResultColumn>,
    rows: Vec<ResultRow>,
    bytes: usize,
}

impl Page {
    /// Whether the page must go before the row can be added.
    fn is_full_with(&mut self, row: &ResultRow) -> Result<bool, RequestError> {
        let size = row.encoded_len();
        if size > MAX_ROW_BYTES {
            let message = format!("a row of the result has {size} bytes; {MAX_ROW_BYTES} can be sent");
            return Err(failure(RequestErrorKind::FailedRequest, message));
        }
        let full = !self.rows.is_empty() && (self.rows.len() >= PAGE_ROWS || self.bytes + size > PAGE_BYTES);
        self.bytes = if full { size } else { self.bytes + size };
        Ok(full)
    }

    fn take(&mut self) -> QueryPage {
        QueryPage {
            columns: std::mem::take(&mut self.columns),
            rows: std::mem::take(&mut self.rows),
            completeness: None,
        }
    }
}

fn parameters(given: Vec<daemoneye_lib::proto::ipc::QueryParameter>) -> Parameters {
    let mut parameters = Parameters::default();
    for parameter in given {
        let value = match parameter.value {
            Some(Cell { value: Some(cell::Value::Integer(number)) }) => Parameter::Integer(number),
            Some(Cell { value: Some(cell::Value::Real(number)) }) => Parameter::Real(number),
            Some(Cell { value: Some(cell::Value::Text(text)) }) => Parameter::Text(text),
            _ => Parameter::Null,
        };
        if parameter.name.is_empty() {
            parameters.positional.push(value);
        } else {
            parameters.named.insert(parameter.name, value);
        }
    }
    parameters
}

pub(crate) fn failure(kind: RequestErrorKind, message: String) -> RequestError {
    RequestError { kind: kind.into(), message, ..RequestError::default() }
}

pub(crate) fn query_failure(error: QueryError) -> RequestError {
    match error {
        QueryError::Refused(refusal) => RequestError {
            kind: RequestErrorKind::RefusedRequest.into(),
            message: refusal.message,
            hint: refusal.hint.unwrap_or_default(),
            line: u32::try_from(refusal.line).unwrap_or(0),
            column: u32::try_from(refusal.column).unwrap_or(0),
        },
        memory @ QueryError::Memory(_) => RequestError {
            hint: "narrow it with WHERE, select fewer columns, or raise agent.query_memory_bytes".to_owned(),
            ..failure(RequestErrorKind::FailedRequest, memory.to_string())
        },
        other => failure(RequestErrorKind::FailedRequest, other.to_string()),
    }
}
