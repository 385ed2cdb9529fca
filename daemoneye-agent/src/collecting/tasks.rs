//! The operator's tasks, handed on to the collector that does them.
//!
//! The agent checks who is to do what, passes on the parts of the answer as they come, and adds at the end what the collector
//! cannot see. It keeps nothing: when the operator goes away, the collector is told to stop; when the collector goes away,
//! or says nothing for too long, the operator is told.

use crate::collecting::collectors::{Collectors, Known};
use daemoneye_eventbus::topic::{base, is_segment};
use daemoneye_eventbus::{CallError, Client, Request, Requests};
use daemoneye_lib::proto::ipc::{
    Completeness, DetectionResult, DetectionTask, RequestError, RequestErrorKind, TaskRequest, TaskType,
};
use prost::Message as _;
use std::collections::BTreeSet;
use std::time::Duration;

/// Who does a task when nobody is named.
const USUAL: &str = "procmond";
/// The longest that a task may take.
const LONGEST: Duration = Duration::from_secs(3_600);
/// A collector that says nothing for so long does not do the task any more.
const SILENCE: Duration = Duration::from_secs(30);

/// Hands tasks on until the bus closes.
pub(crate) struct TaskServer {
    pub(crate) requests: Requests,
    pub(crate) bus: Client,
    pub(crate) collectors: Collectors,
}

impl TaskServer {
    pub(crate) async fn run(mut self) -> String {
        while let Some(request) = self.requests.recv().await {
            let (bus, collectors) = (self.bus.clone(), self.collectors.clone());
            // The bus bounds how many requests are under way, and each collector how many tasks.
            tokio::spawn(serve(request, bus, collectors));
        }
        "the bus has closed".to_owned()
    }
}

async fn serve(mut request: Request, bus: Client, collectors: Collectors) {
    let cancelled = request.cancelled();
    let done = tokio::select! {
        done = hand_on(&mut request, &bus, &collectors) => done,
        // What is under way with the collector is dropped, and so cancelled.
        () = cancelled => return,
    };
    match done {
        Ok(last) => request.respond(last.encode_to_vec()).await,
        Err(error) => {
            tracing::warn!(uid = request.sender.uid, reason = %error.message, "a task was not done");
            request.fail(error.encode_to_vec()).await;
        }
    }
}

/// Sends all parts of the answer but the last, which it returns.
async fn hand_on(
    request: &mut Request,
    bus: &Client,
    collectors: &Collectors,
) -> Result<DetectionResult, RequestError> {
    let wanted = TaskRequest::decode(request.body.as_slice())
        .map_err(|error| refused(format!("the request cannot be decoded: {error}")))?;
    let collector = if wanted.collector.is_empty() { USUAL.to_owned() } else { wanted.collector };
    let mut task = wanted.task.ok_or_else(|| refused("the request has no task".to_owned()))?;
    let mut reasons = check(&collector, &task, collectors)?;
    task.timeout_ms = task.timeout_ms.min(u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX));
    if task.task_id.is_empty() {
        task.task_id = new_id()?;
    }
    let task_id = task.task_id.clone();
    tracing::info!(uid = request.sender.uid, collector, task_id, kind = task.task_type().as_str_name(), "a task");
    let failed = |error| call_failed(error, &collector);
    let topic = format!("tasks.{collector}");
    if asks_what_is_seen(&task) {
        reasons.extend(of_all(request, bus, &topic, &task, &collector).await?);
    } else {
        let mut answer = bus.call_stream(&topic, task.encode_to_vec(), SILENCE).await.map_err(failed)?;
        while let Some(part) = answer.next().await {
            let part = part.map_err(failed)?;
            // When nobody takes it, the request is cancelled, and this with it.
            let _ = request.send_part(part).await;
        }
    }
    let completeness = Completeness { degraded: !reasons.is_empty(), reasons };
    Ok(DetectionResult { task_id, success: true, completeness: Some(completeness), ..DetectionResult::default() })
}

/// Whether each instance of a collector has something of its own to say; for any other task one of them is as good as another.
fn asks_what_is_seen(task: &DetectionTask) -> bool {
    matches!(task.task_type(), TaskType::EnumerateProcesses | TaskType::MonitorProcessTree)
}

/// Sends on what every instance answers, and returns what those that failed leave out. Fails when none of them answers.
async fn of_all(
    request: &mut Request,
    bus: &Client,
    topic: &str,
    task: &DetectionTask,
    collector: &str,
) -> Result<Vec<String>, RequestError> {
    let failed = |error| call_failed(error, collector);
    let mut answers = bus.call_all(topic, task.encode_to_vec(), SILENCE).await.map_err(failed)?;
    let (mut answered, mut errors) = (false, Vec::new());
    while let Some(part) = answers.next().await {
        let part = part.map_err(failed)?;
        match part.outcome {
            Ok(result) => {
                answered = true;
                let _ = request.send_part(result).await;
            }
            Err(error) => errors.push((part.server.clone(), call_failed(error, &part.server))),
        }
    }
    if !answered && !errors.is_empty() {
        return Err(errors.swap_remove(0).1);
    }
    Ok(errors.into_iter().map(|(server, error)| format!("incomplete: {} ({server})", error.message)).collect())
}

/// Whether the collector, or one of its instances, can do the task now; what it cannot see, whatever it does.
pub(crate) fn check(
    collector: &str,
    task: &DetectionTask,
    collectors: &Collectors,
) -> Result<Vec<String>, RequestError> {
    let known = collectors.list();
    let is_named = is_segment(collector) && base(collector) == collector;
    let instances: Vec<_> = known.iter().filter(|known| is_named && base(&known.row.collector) == collector).collect();
    let Some(first) = instances.first() else {
        let names: BTreeSet<_> = known.iter().map(|known| base(&known.row.collector)).collect();
        let hint = format!("there is {}", names.into_iter().collect::<Vec<_>>().join(", "));
        let message = format!("there is no collector `{collector}`");
        return Err(RequestError { kind: RequestErrorKind::NotFound.into(), message, hint, ..RequestError::default() });
    };
    let attached: Vec<_> = instances.iter().filter(|known| known.attached).collect();
    if attached.is_empty() {
        return Err(RequestError {
            hint: "`daemoneye-cli health` says why".to_owned(),
            ..failed(format!("the collector `{collector}` is not attached ({})", first.row.state))
        });
    }
    let does = |known: &&&Known| known.tasks.contains(&task.task_type);
    if TaskType::try_from(task.task_type).is_err() || !attached.iter().any(does) {
        let kind = TaskType::try_from(task.task_type).map_or("of an unknown type", |kind| kind.as_str_name());
        return Err(refused(format!("the collector `{collector}` does no tasks {kind}")));
    }
    let limitations: BTreeSet<_> = attached.iter().flat_map(|known| &known.row.limitations).collect();
    Ok(limitations.into_iter().map(|limitation| format!("limited: {limitation} ({collector})")).collect())
}

fn new_id() -> Result<String, RequestError> {
    let mut id = [0; 8];
    getrandom::fill(&mut id).map_err(|error| failed(format!("the system gives no random bytes: {error}")))?;
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(crate) fn call_failed(error: CallError, collector: &str) -> RequestError {
    match error {
        CallError::Failed(body) => match RequestError::decode(body.as_slice()) {
            Ok(error) => error,
            Err(_) => failed(format!("the collector `{collector}` answered with an error that cannot be read")),
        },
        CallError::NoServer { .. } => failed(format!("the collector `{collector}` takes no tasks now")),
        CallError::TimedOut { after, .. } => RequestError {
            kind: RequestErrorKind::TimedOut.into(),
            ..failed(format!("nothing came from the collector `{collector}` within {} s", after.as_secs()))
        },
        other => failed(format!("the collector `{collector}` did not do the task: {other}")),
    }
}

fn refused(message: String) -> RequestError {
    RequestError { kind: RequestErrorKind::RefusedRequest.into(), message, ..RequestError::default() }
}

fn failed(message: String) -> RequestError {
    RequestError { kind: RequestErrorKind::FailedRequest.into(), message, ..RequestError::default() }
}
