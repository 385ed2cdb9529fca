//! Tasks beside collecting: answered in parts, refused, given up, and never in the way of events.

use crate::agent::{Agent, NAME, Shared, Site, soon, until};
use crate::collector::{config, item, start_source, waits};
use collector_core::{
    CollectionCapabilities, EventSource, Sink, SourceCaps, SourceDescription, SourceError, TaskError, TaskHandler,
    TaskReplies,
};
use daemoneye_eventbus::{CallError, Client};
use daemoneye_lib::proto::common::ProcessRecord;
use daemoneye_lib::proto::ipc::{DetectionResult, DetectionTask, RequestError, RequestErrorKind, TaskType};
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Emits items all the time, and does what the tasks' metadata says.
struct Busy;

impl EventSource for Busy {
    fn describe(&self) -> SourceDescription {
        let tasks = [TaskType::EnumerateProcesses, TaskType::MonitorProcessTree].map(Into::into).to_vec();
        SourceDescription {
            mode: "busy".into(),
            caps: SourceCaps::PROCESS,
            capabilities: CollectionCapabilities { domains: vec!["process".into()], tasks, ..Default::default() },
            ..SourceDescription::default()
        }
    }

    fn tasks(&mut self) -> Option<Arc<dyn TaskHandler>> {
        Some(Arc::new(Words))
    }

    fn run(self: Box<Self>, sink: Sink) -> Result<(), SourceError> {
        for number in 0.. {
            if sink.stopped() {
                break;
            }
            sink.emit(item(number, 20))?;
            sink.pause(Duration::from_millis(5))?;
        }
        waits(&sink)
    }
}

struct Words;

impl TaskHandler for Words {
    fn handle(&self, task: DetectionTask, replies: &mut TaskReplies) -> Result<(), TaskError> {
        match task.metadata() {
            "records" => (0..3_000).try_for_each(|pid| {
                replies.record(ProcessRecord { pid, name: Some("x".repeat(1_000)), ..ProcessRecord::default() })
            }),
            "for ever" => loop {
                replies.pause(Duration::from_millis(20))?;
            },
            "refuse" => Err(TaskError::Refused("not this".into())),
            "panic" => panic!("as the test asked for"),
            other => Err(TaskError::NotFound(other.into())),
        }
    }
}

fn task(metadata: &str, timeout_ms: u64) -> DetectionTask {
    DetectionTask {
        task_id: "t1".into(),
        task_type: TaskType::EnumerateProcesses.into(),
        metadata: Some(metadata.into()),
        timeout_ms,
        ..DetectionTask::default()
    }
}

async fn parts(client: &Client, task: DetectionTask) -> (Vec<DetectionResult>, Option<CallError>) {
    let topic = format!("tasks.{NAME}");
    let mut responses = client.call_stream(&topic, task.encode_to_vec(), PATIENCE).await.unwrap();
    let mut parts = Vec::new();
    while let Some(part) = soon("a part", responses.next()).await {
        match part {
            Ok(bytes) => parts.push(DetectionResult::decode(&bytes[..]).unwrap()),
            Err(error) => return (parts, Some(error)),
        }
    }
    (parts, None)
}

async fn refusal(client: &Client, task: DetectionTask) -> (RequestErrorKind, String) {
    match parts(client, task).await.1 {
        Some(CallError::Failed(body)) => {
            let error = RequestError::decode(&body[..]).unwrap();
            (error.kind(), error.message)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_done_beside_collecting() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let collector = start_source(config(&site, Some(agent.token())), Box::new(Busy));
    until("registered", || !shared.lock().registrations.is_empty()).await;
    assert_eq!(shared.lock().registrations[0].capabilities.as_ref().unwrap().tasks.len(), 2);
    let client = agent.client();

    let (answer, error) = parts(&client, task("records", 0)).await;
    assert_eq!(error, None);
    let pids: Vec<_> = answer.iter().flat_map(|part| part.processes.iter().map(|record| record.pid)).collect();
    assert_eq!(pids, (0..3_000).collect::<Vec<_>>());
    assert!(answer.len() > 5 && answer.iter().all(|part| part.success && part.task_id == "t1"));
    assert!(answer.iter().all(|part| part.encoded_len() < 1 << 20), "below what a frame holds");

    assert_eq!(refusal(&client, task("refuse", 0)).await, (RequestErrorKind::RefusedRequest, "not this".into()));
    assert_eq!(refusal(&client, task("nothing", 0)).await.0, RequestErrorKind::NotFound);
    assert_eq!(refusal(&client, task("for ever", 100)).await.0, RequestErrorKind::TimedOut);
    let other = DetectionTask { task_type: TaskType::VerifyExecutable.into(), ..task("records", 0) };
    assert_eq!(refusal(&client, other).await.0, RequestErrorKind::RefusedRequest);
    assert!(matches!(parts(&client, task("panic", 0)).await.1, Some(CallError::Aborted { .. })));

    // Four at once; the fifth is told, and a place is free when somebody gives up.
    let topic = format!("tasks.{NAME}");
    let mut under_way = Vec::new();
    for _ in 0..4 {
        let body = task("for ever", 600_000).encode_to_vec();
        under_way.push(client.call_stream(&topic, body, PATIENCE).await.unwrap());
    }
    let (kind, message) = refusal(&client, task("records", 0)).await;
    assert!(kind == RequestErrorKind::FailedRequest && message.contains("under way"), "{message}");
    let committed = shared.committed();
    until("events while tasks run", || shared.committed() > committed + 50).await;
    under_way.pop();
    let mut tries = 0;
    while parts(&client, task("records", 0)).await.1.is_some() {
        tries += 1;
        assert!(tries < 1_000, "the place of a task that was given up stays taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (end, _) = tokio::join!(collector.stop(), async { drop(under_way) });
    end.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_without_a_handler_serves_none() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let collector = crate::collector::start(config(&site, Some(agent.token())), |sink| waits(&sink));
    until("registered", || !shared.lock().registrations.is_empty()).await;
    let (_, error) = parts(&agent.client(), task("records", 0)).await;
    assert!(matches!(error, Some(CallError::NoServer { .. })), "{error:?}");
    collector.stop().await.unwrap();
    agent.stop().await;
}
