//! Tasks: what the agent asks of a collector beside collecting.
//!
//! A task comes as a `DetectionTask` on `tasks.<name>` and is answered by a stream of `DetectionResult`. The run loop takes it,
//! a thread of its own does it, and collecting goes on meanwhile. So many run at once; one more is refused, not queued, so
//! that whoever asks learns it at once. A task ends at its deadline, or when nobody waits for it any more: a handler that
//! takes long asks [`TaskReplies::go_on`] now and then.

use daemoneye_eventbus::Request;
use daemoneye_lib::proto::common::ProcessRecord;
use daemoneye_lib::proto::ipc::{DetectionResult, DetectionTask, RequestError, RequestErrorKind};
use prost::Message as _;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Where a task says nothing of its time.
const USUAL_TIME: Duration = Duration::from_secs(30);
/// The longest that a task may ask for.
const LONGEST_TIME: Duration = Duration::from_secs(3_600);
/// A part with records is sent when it has grown so large: far below what a frame holds.
const PART_BYTES: usize = 512 * 1024;
/// Whoever waits for the next part hears at least so often that the task goes on.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// Does the tasks of a collector, several at a time.
pub trait TaskHandler: Send + Sync + 'static {
    /// Does one task, on a thread of its own. What it sends goes out at once; the end of the answer is the run loop's to
    /// tell.
    ///
    /// # Errors
    /// [`TaskError`] becomes the error that the agent is answered with; what was sent before stays sent.
    fn handle(&self, task: DetectionTask, replies: &mut TaskReplies) -> Result<(), TaskError>;
}

/// Why a task was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It asks for something that is not done.
    #[error("{0}")]
    Refused(String),
    /// What it is about is not there.
    #[error("{0}")]
    NotFound(String),
    /// It went wrong.
    #[error("{0}")]
    Failed(String),
    /// Its time is over.
    #[error("the task was not done within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// Nobody waits for it any more.
    #[error("nobody waits for the task any more")]
    Gone,
}

impl TaskError {
    pub(crate) fn to_message(&self) -> RequestError {
        let kind = match self {
            Self::Refused(_) => RequestErrorKind::RefusedRequest,
            Self::NotFound(_) => RequestErrorKind::NotFound,
            Self::TimedOut(_) => RequestErrorKind::TimedOut,
            Self::Failed(_) | Self::Gone => RequestErrorKind::FailedRequest,
        };
        RequestError { kind: kind.into(), message: self.to_string(), ..RequestError::default() }
    }
}

/// The answer to one task, part by part.
pub struct TaskReplies {
    request: Request,
    agent_uid: Option<u32>,
    runtime: Handle,
    cancelled: Pin<Box<dyn Future<Output = ()> + Send>>,
    task_id: String,
    time: Duration,
    deadline: Instant,
    records: Vec<ProcessRecord>,
    bytes: usize,
    sent: Instant,
}

impl TaskReplies {
    pub(crate) fn new(request: Request, agent_uid: Option<u32>, runtime: Handle, task: &DetectionTask) -> Self {
        let time = match task.timeout_ms {
            0 => USUAL_TIME,
            asked => Duration::from_millis(asked).min(LONGEST_TIME),
        };
        let now = Instant::now();
        Self {
            cancelled: Box::pin(request.cancelled()),
            request,
            agent_uid,
            runtime,
            task_id: task.task_id.clone(),
            time,
            deadline: now + time,
            records: Vec::new(),
            bytes: 0,
            sent: now,
        }
    }

    /// The user that the agent acts as, who may have fewer rights than this collector; `None` where the system does not tell.
    pub fn agent_uid(&self) -> Option<u32> {
        self.agent_uid
    }

    /// Whether there is a reason to go on.
    ///
    /// # Errors
    /// [`TaskError::Gone`] when nobody waits any more, [`TaskError::TimedOut`] when the time is over.
    pub fn go_on(&mut self) -> Result<(), TaskError> {
        if self.cancelled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.cancelled = Box::pin(self.request.cancelled());
            return Err(TaskError::Gone);
        }
        if Instant::now() >= self.deadline { Err(TaskError::TimedOut(self.time)) } else { Ok(()) }
    }

    /// Sends a part of the answer; the task's id is filled in. Waits while the connection has no room.
    ///
    /// # Errors
    /// [`TaskError::Gone`] when nobody waits any more.
    pub fn send(&mut self, mut part: DetectionResult) -> Result<(), TaskError> {
        part.task_id.clone_from(&self.task_id);
        part.success = true;
        self.sent = Instant::now();
        self.runtime.block_on(self.request.send_part(part.encode_to_vec())).map_err(|_| TaskError::Gone)
    }

    /// Adds a record to the answer; it goes out with others.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn record(&mut self, record: ProcessRecord) -> Result<(), TaskError> {
        let bytes = record.encoded_len();
        if self.bytes + bytes > PART_BYTES {
            self.flush()?;
        }
        self.bytes += bytes;
        self.records.push(record);
        Ok(())
    }

    /// Sends the records that have not gone out yet.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn flush(&mut self) -> Result<(), TaskError> {
        if self.records.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let processes = std::mem::take(&mut self.records);
        self.send(DetectionResult { processes, ..DetectionResult::default() })
    }

    /// Sleeps, at most until the deadline, and says now and then that the task goes on.
    ///
    /// # Errors
    /// As for [`go_on`](Self::go_on); it wakes at once when nobody waits any more.
    pub fn pause(&mut self, duration: Duration) -> Result<(), TaskError> {
        if self.sent.elapsed() >= SIGN_OF_LIFE {
            self.flush()?;
            self.send(DetectionResult::default())?;
        }
        self.go_on()?;
        let until = (Instant::now() + duration).min(self.deadline);
        let cancelled = &mut self.cancelled;
        let _ = self.runtime.block_on(async { tokio::time::timeout_at(until.into(), cancelled).await });
        self.cancelled = Box::pin(self.request.cancelled());
        self.go_on()
    }

    /// Ends the answer.
    pub(crate) fn end(mut self, outcome: Result<(), TaskError>) {
        let outcome = outcome.and_then(|()| self.flush());
        let Self { request, runtime, task_id, .. } = self;
        match outcome {
            Ok(()) => {
                let last = DetectionResult { task_id, success: true, ..DetectionResult::default() };
                runtime.block_on(request.respond(last.encode_to_vec()));
            }
            Err(TaskError::Gone) => {}
            Err(error) => runtime.block_on(request.fail(error.to_message().encode_to_vec())),
        }
    }
}
