//! What operators ask of rules: to enable or disable one, and what one would have raised.

use crate::answering::inquiries::Answers;
use crate::answering::queries::failure;
use crate::ruling::keeper::Reload;
use crate::ruling::state::RuleState;
use crate::ruling::trial::Trials;
use daemoneye_eventbus::{Request, Requests};
use daemoneye_lib::detection::standing::DetectionEngine;
use daemoneye_lib::proto::ipc::{EnableRule, EnableRuleReply, RequestError, RequestErrorKind, TestRule};
use prost::Message as _;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Enables and disables rules until the bus closes.
pub(crate) struct Switch {
    pub(crate) requests: Requests,
    pub(crate) engine: DetectionEngine,
    pub(crate) state: Arc<RuleState>,
    pub(crate) reload: Reload,
}

impl Switch {
    pub(crate) async fn run(mut self) -> String {
        let mut answers = Answers::default();
        while let Some(request) = self.requests.recv().await {
            let done = tokio::task::block_in_place(|| self.switch(&request));
            answers.take(async move {
                match done {
                    Ok(reply) => request.respond(reply.encode_to_vec()).await,
                    Err(error) => request.fail(error.encode_to_vec()).await,
                }
            });
        }
        "the bus has closed".to_owned()
    }

    fn switch(&self, request: &Request) -> Result<EnableRuleReply, RequestError> {
        let EnableRule { rule_id, enabled } = decoded(request)?;
        let record = self.engine.record();
        // One that is disabled and gone can still be enabled, so that nothing stays behind.
        let known = record.knows(&rule_id) || (enabled && self.state.disabled().contains(&rule_id));
        if !known {
            return Err(unknown(&rule_id));
        }
        let uid = request.sender.uid;
        let changed = self
            .state
            .set_enabled(&rule_id, enabled, uid)
            .map_err(|error| failure(RequestErrorKind::FailedRequest, error.to_string()))?;
        record.set_disabled(self.state.disabled());
        if enabled {
            // Whatever it could not do before is forgiven.
            self.reload.reload();
        }
        if changed {
            let change = if enabled { "enabled" } else { "disabled" };
            tracing::warn!(rule = %rule_id, change, uid, "rule_changed by an operator");
        }
        Ok(EnableRuleReply { changed })
    }
}

/// Tries rules over what is stored until the bus closes. One at a time: it reads much, and nobody waits for it at night.
pub(crate) struct TrialServer {
    pub(crate) requests: Requests,
    pub(crate) trials: Arc<Trials>,
}

impl TrialServer {
    pub(crate) async fn run(mut self) -> String {
        let slot = Arc::new(Semaphore::new(1));
        while let Some(request) = self.requests.recv().await {
            let (trials, slot) = (Arc::clone(&self.trials), Arc::clone(&slot));
            // The bus bounds how many requests are under way.
            tokio::spawn(async move {
                let cancelled = request.cancelled();
                let slot = tokio::select! {
                    slot = slot.acquire_owned() => slot,
                    () = cancelled => return,
                };
                let handle = Handle::current();
                let served = spawn_blocking(move || handle.block_on(serve(&trials, request))).await;
                drop(slot);
                if let Err(error) = served {
                    tracing::error!(%error, "trying a rule brought the engine down: a defect of DaemonEye");
                }
            });
        }
        "the bus has closed".to_owned()
    }
}

async fn serve(trials: &Trials, request: Request) {
    let cancelled = request.cancelled();
    let answered = async {
        let wanted: TestRule = decoded(&request)?;
        trials.run(wanted).await
    };
    let answered = tokio::select! {
        answered = answered => answered,
        () = cancelled => return,
    };
    match answered {
        Ok(reply) => request.respond(reply.encode_to_vec()).await,
        Err(error) => request.fail(error.encode_to_vec()).await,
    }
}

fn decoded<M: prost::Message + Default>(request: &Request) -> Result<M, RequestError> {
    M::decode(request.body.as_slice())
        .map_err(|error| failure(RequestErrorKind::FailedRequest, format!("the request cannot be decoded: {error}")))
}

/// What is said of a rule that is not there.
pub(crate) fn unknown(rule_id: &str) -> RequestError {
    let hint = "daemoneye-cli rules list names them all".to_owned();
    RequestError { hint, ..failure(RequestErrorKind::NotFound, format!("no such rule: {rule_id}")) }
}
