//! The tasks that the agent gives procmond: enumerate, hash, watch a family, verify.
//!
//! Each task runs on a thread of collector-core's and reads processes with a scanner of its own, so that it shares nothing
//! with the collection but the hashes and their budget. What it is told in a task is data: a path is opened, never run; a
//! pattern is matched, never compiled into more than itself.

mod enumerate;
mod executable;
mod filter;
mod reach;
mod share;
mod tree;

use crate::hashing::Hashes;
use crate::procfs::boot::Boot;
use crate::reader::{HostProc, OpenError};
use crate::scan::{ScanError, Scanner};
use crate::snapshot::Desk;
use collector_core::{TaskError, TaskHandler, TaskReplies};
use daemoneye_lib::proto::ipc::{DetectionTask, TaskType};
pub(crate) use share::Share;

/// What is done.
pub(crate) const TYPES: [TaskType; 4] = [
    TaskType::EnumerateProcesses,
    TaskType::CheckProcessHash,
    TaskType::MonitorProcessTree,
    TaskType::VerifyExecutable,
];

/// Makes a scanner.
type NewScanner = dyn Fn() -> Result<Scanner<HostProc>, OpenError> + Send + Sync;

/// Does procmond's tasks.
pub(crate) struct Tasks {
    pub(crate) new_scanner: Box<NewScanner>,
    pub(crate) boot: Boot,
    pub(crate) hashes: Hashes,
    pub(crate) snapshots: Desk,
    /// How much watching may use.
    pub(crate) share: Share,
}

impl TaskHandler for Tasks {
    fn handle(&self, task: DetectionTask, replies: &mut TaskReplies) -> Result<(), TaskError> {
        match task.task_type() {
            TaskType::EnumerateProcesses => enumerate::run(self, task, replies),
            TaskType::CheckProcessHash => executable::hash(self, &task, replies),
            TaskType::VerifyExecutable => executable::verify(self, &task, replies),
            TaskType::MonitorProcessTree => tree::run(self, task, replies),
        }
    }
}

impl Tasks {
    fn scanner(&self) -> Result<Scanner<HostProc>, TaskError> {
        (self.new_scanner)().map_err(|error| TaskError::Failed(error.to_string()))
    }
}

/// Why a scan for a task came to nothing: what stopped it, when something of the task's did.
fn scan_failed(error: ScanError, stopped: Option<TaskError>) -> TaskError {
    stopped.unwrap_or_else(|| TaskError::Failed(error.to_string()))
}
