//! Questions that are answered from memory: health and metrics.
//!
//! What is to be said is known at once; saying it waits until the caller takes it. Each answer waits by itself ([`Answers`]), so that
//! an operator who takes nothing holds nobody else up.

use crate::answering::health::Health;
use crate::metrics::{Metrics, Sources};
use daemoneye_eventbus::{Request, Requests};
use daemoneye_lib::proto::ipc::{MetricsReport, RequestError, RequestErrorKind};
use daemoneye_lib::telemetry::request_id;
use prost::Message as _;
use tokio::task::JoinSet;
use tracing::{Instrument as _, Span};

/// What everything that is logged while a request is answered bears: the name that the asking side's log has for it.
pub(crate) fn span(request: &Request) -> Span {
    tracing::info_span!("request", id = request_id(request.request_id), topic = %request.topic, uid = request.sender.uid)
}

/// Answers that are on their way; they end with it. The bus bounds how many requests are under way.
#[derive(Default)]
pub(crate) struct Answers(JoinSet<()>);

impl Answers {
    pub(crate) fn take(&mut self, answer: impl Future<Output = ()> + Send + 'static) {
        while self.0.try_join_next().is_some() {}
        self.0.spawn(answer);
    }
}

/// Answers questions after health until the bus closes.
pub(crate) struct HealthServer {
    pub(crate) requests: Requests,
    pub(crate) health: Health,
}

impl HealthServer {
    pub(crate) async fn run(mut self) -> String {
        let mut answers = Answers::default();
        while let Some(request) = self.requests.recv().await {
            let span = span(&request);
            let report = self.health.report();
            let answer = async move {
                request.respond(report.encode_to_vec()).await;
                tracing::debug!("answered");
            };
            answers.take(answer.instrument(span));
        }
        "the bus has closed".to_owned()
    }
}

/// Answers questions after metrics until the bus closes.
pub(crate) struct MetricsServer {
    pub(crate) requests: Requests,
    pub(crate) metrics: Metrics,
    pub(crate) sources: Sources,
}

impl MetricsServer {
    pub(crate) async fn run(mut self) -> String {
        let mut answers = Answers::default();
        while let Some(request) = self.requests.recv().await {
            let span = span(&request);
            let text = self.metrics.text(&self.sources);
            let answer = async move {
                match text {
                    Ok(text) => {
                        request.respond(MetricsReport { text }.encode_to_vec()).await;
                        tracing::debug!("answered");
                    }
                    Err(error) => {
                        tracing::error!(%error, "the metrics cannot be told: a defect of DaemonEye");
                        let error = RequestError {
                            kind: RequestErrorKind::Defect.into(),
                            message: format!("the metrics cannot be told: {error}"),
                            ..RequestError::default()
                        };
                        request.fail(error.encode_to_vec()).await;
                    }
                }
            };
            answers.take(answer.instrument(span));
        }
        "the bus has closed".to_owned()
    }
}
