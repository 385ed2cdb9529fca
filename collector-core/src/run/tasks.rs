//! Serving tasks: each on a thread of its own, so many at once.

use crate::tasks::{TaskError, TaskHandler, TaskReplies};
use daemoneye_eventbus::Request;
use daemoneye_lib::proto::ipc::{DetectionTask, TaskType};
use prost::Message as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::Handle;

/// Tasks that run at once; what comes beyond is refused.
const AT_ONCE: usize = 4;

/// What does tasks, and how many it is doing.
pub(super) struct Tasks {
    handler: Option<Arc<dyn TaskHandler>>,
    types: Vec<TaskType>,
    running: Arc<AtomicUsize>,
}

/// A task's place among those that run; given back when it ends, however it does.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tasks {
    /// The handler does tasks of these types.
    pub(super) fn new(handler: Option<Arc<dyn TaskHandler>>, types: &[i32]) -> Self {
        let types = types.iter().filter_map(|number| TaskType::try_from(*number).ok()).collect();
        Self { handler, types, running: Arc::default() }
    }

    /// Whether tasks are served at all.
    pub(super) fn are_served(&self) -> bool {
        self.handler.is_some() && !self.types.is_empty()
    }

    /// Has a task of this agent's done, or refuses it. Must be called within the runtime.
    pub(super) fn take(&self, request: Request, agent_uid: Option<u32>) {
        let runtime = Handle::current();
        match self.begin(&request) {
            Ok((handler, task, place)) => {
                let replies = TaskReplies::new(request, agent_uid, runtime, &task);
                let name = format!("task-{}", task.task_type().as_str_name().to_ascii_lowercase());
                let work = move || perform(&*handler, task, replies, place);
                if let Err(error) = std::thread::Builder::new().name(name).spawn(work) {
                    // The request went with the closure, and is answered as failed.
                    tracing::error!(%error, "a task has no thread");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a task is refused");
                runtime.spawn(request.fail(error.to_message().encode_to_vec()));
            }
        }
    }

    fn begin(&self, request: &Request) -> Result<(Arc<dyn TaskHandler>, DetectionTask, Place), TaskError> {
        let task = DetectionTask::decode(request.body.as_slice())
            .map_err(|error| TaskError::Refused(format!("the task cannot be decoded: {error}")))?;
        let known = TaskType::try_from(task.task_type).ok().filter(|wanted| self.types.contains(wanted));
        let handler = self.handler.clone().filter(|_| known.is_some());
        let handler =
            handler.ok_or_else(|| TaskError::Refused(format!("tasks of type {} are not done here", task.task_type)))?;
        let place = Place(Arc::clone(&self.running));
        if self.running.fetch_add(1, Ordering::Relaxed) >= AT_ONCE {
            return Err(TaskError::Failed(format!("{AT_ONCE} tasks are under way already; try again in a moment")));
        }
        Ok((handler, task, place))
    }
}

fn perform(handler: &dyn TaskHandler, task: DetectionTask, mut replies: TaskReplies, place: Place) {
    let (id, kind) = (task.task_id.clone(), task.task_type());
    tracing::debug!(id, ?kind, "a task begins");
    let outcome = handler.handle(task, &mut replies);
    match &outcome {
        Ok(()) => tracing::debug!(id, ?kind, "a task is done"),
        Err(error) => tracing::debug!(id, ?kind, %error, "a task is not done"),
    }
    replies.end(outcome);
    drop(place);
}
