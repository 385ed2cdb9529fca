//! The agent, asked over the bus.

use crate::caret;
use crate::executor::{OnPage, Query, QueryExecutor};
use crate::failure::{Failure, Kind};
use daemoneye_eventbus::proto::AlertPayload;
use daemoneye_eventbus::{CallError, Client, ConnectError, Identity, Keys, Payload, Subscription};
use daemoneye_lib::config::Config;
use daemoneye_lib::proto::common::Alert;
use daemoneye_lib::proto::ipc::{
    CollectorOrder, CollectorOrderReply, DataRequest, HealthReport, HealthRequest, MetricsReport, MetricsRequest,
    QueryPage, QueryParameter, QueryRequest, RequestError, RequestErrorKind, data_request,
};
use daemoneye_lib::proto::ipc::{DetectionResult, DetectionTask, TaskRequest};
use prost::Message;
use std::time::Duration;

/// How long an answer may take beyond what the agent itself allows it.
const GRACE: Duration = Duration::from_secs(10);
/// Checking or pruning a large store takes its time.
const DATA_TIMEOUT: Duration = Duration::from_secs(3_600);
/// As the agent allows it.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(86_400);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// The agent itself waits 30 s for a collector.
const TASK_SILENCE: Duration = Duration::from_secs(40);

/// A connection to the running agent, as an operator.
pub(crate) struct Agent {
    client: Client,
    query_timeout: Duration,
    width: usize,
}

impl Agent {
    /// Connects to the agent of this configuration; excerpts of SQL will be as wide as the screen.
    pub(crate) async fn connect(config: &Config, width: usize) -> Result<Self, Failure> {
        let keys = config.app.bus_keys().map(Keys::in_dir);
        let connected = Client::connect_with(&config.app.socket(), Identity::Operator, keys.as_ref())
            .await
            .map_err(|error| unconnected(&error))?;
        let query_timeout = Duration::from_millis(config.agent.query_timeout_ms);
        Ok(Self { client: connected.client, query_timeout, width })
    }
}

impl Agent {
    /// Asks something of the store.
    pub(crate) async fn data(&self, request: data_request::Request) -> Result<QueryPage, Failure> {
        let request = DataRequest { request: Some(request) }.encode_to_vec();
        let reply = self.client.call("requests.data", request, DATA_TIMEOUT).await;
        decode(&reply.map_err(|error| failed_call(error, None, self.width))?)
    }

    /// Orders a collector to pause, or to go on.
    pub(crate) async fn order(&self, order: &CollectorOrder) -> Result<CollectorOrderReply, Failure> {
        let reply = self.client.call("requests.collectors", order.encode_to_vec(), HEALTH_TIMEOUT).await;
        decode(&reply.map_err(|error| failed_call(error, None, self.width))?)
    }
}

impl Agent {
    /// Asks a question, and takes the answer page by page.
    async fn pages(
        &self,
        topic: &str,
        request: &QueryRequest,
        timeout: Duration,
        on_page: OnPage<'_>,
    ) -> Result<(), Failure> {
        let failed = |error| failed_call(error, Some(&request.sql), self.width);
        let mut pages = self.client.call_stream(topic, request.encode_to_vec(), timeout).await.map_err(failed)?;
        while let Some(page) = pages.next().await {
            on_page(decode(&page.map_err(failed)?)?)?;
        }
        Ok(())
    }
}

impl QueryExecutor for Agent {
    async fn execute_query(
        &self,
        query: &Query,
        parameters: Vec<QueryParameter>,
        on_page: OnPage<'_>,
    ) -> Result<(), Failure> {
        let timeout = query.timeout.unwrap_or(self.query_timeout);
        let request = QueryRequest {
            sql: query.sql.clone(),
            parameters,
            max_rows: query.max_rows.unwrap_or(0),
            timeout_ms: query.timeout.map_or(0, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            explain: query.explain,
        };
        self.pages("requests.query", &request, timeout + GRACE, on_page).await
    }

    async fn export_data(
        &self,
        query: &Query,
        parameters: Vec<QueryParameter>,
        on_page: OnPage<'_>,
    ) -> Result<(), Failure> {
        let request = QueryRequest { sql: query.sql.clone(), parameters, ..QueryRequest::default() };
        self.pages("requests.export", &request, EXPORT_TIMEOUT, on_page).await
    }

    async fn health(&self) -> Result<HealthReport, Failure> {
        let request = HealthRequest {}.encode_to_vec();
        let reply = self.client.call("requests.health", request, HEALTH_TIMEOUT).await;
        decode(&reply.map_err(|error| failed_call(error, None, self.width))?)
    }

    async fn metrics(&self) -> Result<String, Failure> {
        let request = MetricsRequest {}.encode_to_vec();
        let reply = self.client.call("requests.metrics", request, HEALTH_TIMEOUT).await;
        let report: MetricsReport = decode(&reply.map_err(|error| failed_call(error, None, self.width))?)?;
        Ok(report.text)
    }
}

impl Agent {
    /// Asks for one thing on a topic of its own; `text` is what a refusal's place is in.
    pub(crate) async fn ask<M: Message + Default>(
        &self,
        topic: &str,
        request: &impl Message,
        text: Option<&str>,
    ) -> Result<M, Failure> {
        let reply = self.client.call(topic, request.encode_to_vec(), self.query_timeout + GRACE).await;
        decode(&reply.map_err(|error| failed_call(error, text, self.width))?)
    }
}

impl Agent {
    /// Has a task done by a collector, procmond where none is named; the parts of the answer come as they are made.
    pub(crate) async fn task(
        &self,
        collector: Option<&str>,
        task: DetectionTask,
        on_part: &mut dyn FnMut(DetectionResult) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let request = TaskRequest { collector: collector.unwrap_or_default().to_owned(), task: Some(task) };
        let failed = |error| failed_call(error, None, self.width);
        let call = self.client.call_stream("requests.task", request.encode_to_vec(), TASK_SILENCE);
        let mut parts = call.await.map_err(failed)?;
        while let Some(part) = parts.next().await {
            on_part(decode(&part.map_err(failed)?)?)?;
        }
        Ok(())
    }
}

/// Alerts as they are committed.
pub(crate) struct Alerts {
    subscription: Subscription,
    client: Client,
    /// All where there are none.
    severities: Vec<String>,
}

impl Agent {
    /// Alerts of these severities from now on; of all where none is given.
    pub(crate) async fn alerts(&self, severities: &[String]) -> Result<Alerts, Failure> {
        let pattern = match severities {
            [one] => format!("alerts.{one}"),
            _ => "alerts.#".to_owned(),
        };
        let subscription = self.client.subscribe(&pattern).await.map_err(|closed| cut_off(&closed.reason))?;
        Ok(Alerts { subscription, client: self.client.clone(), severities: severities.to_vec() })
    }
}

impl Alerts {
    /// Shows each until there is an end, or the agent is gone.
    pub(crate) async fn each<T>(
        &mut self,
        mut end: impl Future<Output = T> + Unpin,
        on_alert: &mut dyn FnMut(Alert) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        loop {
            let message = tokio::select! {
                message = self.subscription.recv() => message,
                _ = &mut end => return Ok(()),
            };
            let Some(message) = message else { return Err(cut_off(&self.client.closed().await)) };
            let Some(Payload::Alert(AlertPayload { message })) = message.payload else { continue };
            let alert: Alert = decode(&message)?;
            if self.severities.is_empty() || self.severities.iter().any(|own| own == alert.severity().name()) {
                on_alert(alert)?;
            }
        }
    }
}

fn cut_off(reason: &str) -> Failure {
    Failure::new(Kind::Failed, format!("the agent ended the connection: {reason}"))
        .hint("alerts that were not shown are in the store: see daemoneye-cli alerts list")
}

/// Reads one page or report.
fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, Failure> {
    M::decode(bytes).map_err(|error| {
        Failure::new(Kind::Defect, format!("the agent's answer cannot be read: {error}"))
            .hint("daemoneye-cli and daemoneye-agent must be of the same version")
    })
}

fn unconnected(error: &ConnectError) -> Failure {
    const OTHER_USER: &str = "run daemoneye-cli as the user that runs the agent, or as root";
    const OTHER_VERSION: &str = "daemoneye-cli and daemoneye-agent must be of the same version";
    match error {
        ConnectError::NotRunning { path } => {
            Failure::new(Kind::Unreachable, format!("no agent listens on {}", path.display())).hint(
                "`daemoneye-agent run` starts it; one that runs on other directories is found with --data-dir or --runtime-dir",
            )
        }
        ConnectError::PermissionDenied { path } => {
            Failure::new(Kind::Refused, format!("no permission to use {}", path.display())).hint(OTHER_USER)
        }
        ConnectError::Busy { .. } => Failure::caused(Kind::Unreachable, error)
            .hint("try again in a moment; operators that ask nothing are disconnected after a minute"),
        ConnectError::Refused { .. } => Failure::caused(Kind::Refused, error).hint(OTHER_USER),
        ConnectError::PathTooLong { path, limit } => {
            let message = format!("the path {} is longer than the {limit} bytes that a socket's may have", path.display());
            Failure::new(Kind::Failed, message).hint("choose a shorter --runtime-dir, for the agent too")
        }
        ConnectError::Encryption { .. } | ConnectError::Key(_) => Failure::caused(Kind::Refused, error),
        ConnectError::Protocol { .. } => Failure::caused(Kind::Failed, error).hint(OTHER_VERSION),
        _ => Failure::caused(Kind::Unreachable, error),
    }
}

fn failed_call(error: CallError, sql: Option<&str>, width: usize) -> Failure {
    let (kind, hint) = match &error {
        CallError::Failed(body) => return refused(body, sql, width),
        CallError::NoServer { .. } => {
            (Kind::Unreachable, "the agent is still starting, or is ending; try again in a moment")
        }
        CallError::Denied { .. } => (Kind::Refused, ""),
        CallError::TooLarge { .. } => (Kind::Refused, "give fewer or shorter parameters"),
        CallError::TimedOut { .. } => (Kind::Failed, "give it more time with --timeout, or ask for less"),
        CallError::Closed { .. } => (Kind::Failed, "the agent went away; its log says why"),
        _ => (Kind::Failed, ""),
    };
    Failure::caused(kind, &error).hint(hint)
}

/// What the agent says about a request that it did not fulfil.
fn refused(body: &[u8], sql: Option<&str>, width: usize) -> Failure {
    let error: RequestError = match decode(body) {
        Ok(error) => error,
        Err(failure) => return failure,
    };
    let kind = match error.kind() {
        RequestErrorKind::FailedRequest | RequestErrorKind::TimedOut => Kind::Failed,
        RequestErrorKind::RefusedRequest => Kind::Refused,
        RequestErrorKind::NotFound => Kind::NotFound,
        RequestErrorKind::Defect => Kind::Defect,
    };
    let excerpt = sql.and_then(|sql| caret::excerpt(sql, error.line, error.column, width));
    let place = match (error.line, error.column) {
        (0, _) | (_, 0) => String::new(),
        (line, column) => format!(" (line {line}, column {column})"),
    };
    Failure::new(kind, format!("{}{place}", error.message)).excerpt(excerpt).hint(error.hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn told(failure: &Failure) -> String {
        let mut err = Vec::new();
        failure.print(&mut err);
        format!("{}exit {}", String::from_utf8(err).unwrap(), failure.kind as u8)
    }

    #[test]
    fn a_refused_query_shows_the_place() {
        let error = RequestError {
            kind: RequestErrorKind::RefusedRequest.into(),
            message: "no such column: pidd".to_owned(),
            hint: "the nearest column of `processes` is `pid`".to_owned(),
            line: 1,
            column: 8,
        };
        let failure = refused(&error.encode_to_vec(), Some("SELECT pidd FROM processes"), 80);
        insta::assert_snapshot!(told(&failure), @r"
        error: no such column: pidd (line 1, column 8)
          |
        1 | SELECT pidd FROM processes
          |        ^
        hint: the nearest column of `processes` is `pid`
        exit 5
        ");
    }

    #[test]
    fn an_agent_that_does_not_run_is_named_with_the_way_to_start_it() {
        let failure = unconnected(&ConnectError::NotRunning { path: PathBuf::from("/run/daemoneye/agent.sock") });
        insta::assert_snapshot!(told(&failure), @r"
        error: no agent listens on /run/daemoneye/agent.sock
        hint: `daemoneye-agent run` starts it; one that runs on other directories is found with --data-dir or --runtime-dir
        exit 69
        ");
    }

    #[test]
    fn a_busy_agent_is_no_refusal() {
        let failure = unconnected(&ConnectError::Busy { reason: "too many operators are connected".to_owned() });
        insta::assert_snapshot!(told(&failure), @r"
        error: the agent has no room for this connection now: too many operators are connected
        hint: try again in a moment; operators that ask nothing are disconnected after a minute
        exit 69
        ");
    }

    #[test]
    fn each_kind_of_refusal_has_its_exit_code() {
        let code = |kind: RequestErrorKind| {
            let error = RequestError { kind: kind.into(), ..RequestError::default() };
            refused(&error.encode_to_vec(), None, 80).kind as u8
        };
        use RequestErrorKind::{Defect, FailedRequest, NotFound, RefusedRequest, TimedOut};
        assert_eq!([FailedRequest, TimedOut, RefusedRequest, NotFound, Defect].map(code), [1, 1, 5, 4, 70]);
        assert_eq!(refused(b"\xff", None, 80).kind, Kind::Defect);
    }
}
