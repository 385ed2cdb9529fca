//! `CHECK_PROCESS_HASH` and `VERIFY_EXECUTABLE`: the file at a path, or the image of a process.
//!
//! Of a file at a path no more is told than `reach` allows, so that procmond is no way to learn of a file that is none of the
//! agent's business. The image that a process runs is procmond's own subject, wherever it lies: its path and its hash are in
//! the process's record anyway. Only a regular file is ever opened for reading.

use super::reach::{Asker, find};
use super::{Tasks, scan_failed};
use crate::hashing::{ALGORITHM, Handle, Outcome, Source, Version, hex};
use crate::procfs::link::DELETED;
use crate::reader::{FileId, Unreadable};
use crate::scan::{Glance, Interrupted, Observed, ProcessCollector as _, Visitor};
use collector_core::{TaskError, TaskReplies};
use daemoneye_lib::models::text::{escape_bytes, unescape};
use daemoneye_lib::proto::common::ProcessRecord;
use daemoneye_lib::proto::ipc::{DetectionResult, DetectionTask, ExecutableReport, HashResult};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// Everyone may write it.
const WRITABLE_BY_ALL: u16 = 0o002;

/// What a task is about.
enum Target {
    Process(u32),
    Path(PathBuf),
}

/// A checked order.
struct Order {
    target: Target,
    expected: Option<String>,
}

/// What was found and opened.
struct Found {
    handle: Handle,
    source: Source,
    path: String,
}

pub(super) fn hash(tasks: &Tasks, task: &DetectionTask, replies: &mut TaskReplies) -> Result<(), TaskError> {
    let order = order(task)?;
    let found = match &order.target {
        Target::Process(pid) => of_process(*pid)?,
        Target::Path(path) => at_path(path, Asker::of(replies.agent_uid()))?,
    };
    let hash_result = hashed(tasks, &found, order.expected.as_deref(), replies)?;
    replies.send(DetectionResult { hash_result: Some(hash_result), ..DetectionResult::default() })
}

pub(super) fn verify(tasks: &Tasks, task: &DetectionTask, replies: &mut TaskReplies) -> Result<(), TaskError> {
    let order = order(task)?;
    let mut missing = None;
    let (path, found) = match &order.target {
        Target::Process(pid) => {
            let found = of_process(*pid)?;
            (found.path.clone(), Some(found))
        }
        Target::Path(path) => match at_path(path, Asker::of(replies.agent_uid())) {
            Ok(found) => (found.path.clone(), Some(found)),
            Err(TaskError::NotFound(why)) => {
                missing = Some(why);
                (escape_bytes(path.as_os_str().as_bytes()), None)
            }
            Err(other) => return Err(other),
        },
    };
    let running = running(tasks, &path, replies)?;
    let mut report = ExecutableReport { path: path.clone(), exists: found.is_some(), ..ExecutableReport::default() };
    let own = match order.target {
        Target::Process(pid) => Some(pid),
        Target::Path(_) => None,
    };
    report.pid = own;
    for record in running.iter().filter(|record| own.is_none_or(|pid| record.pid == pid)) {
        report.running_pids.push(record.pid);
        if record.image_mismatch != Some(true) {
            continue;
        }
        report.stale_pids.push(record.pid);
        let pid = record.pid;
        report.problems.push(match record.file_exists {
            Some(true) => format!("process {pid} runs another file than the one at {path}: it was replaced"),
            _ => format!("process {pid} runs a file that is no longer at {path}: it was deleted"),
        });
        report.exists &= own.is_none() || record.file_exists == Some(true);
    }
    let mut hash_result = None;
    match &found {
        None => report.problems.splice(..0, missing).for_each(drop),
        Some(found) => {
            describe(&found.handle.file, &mut report);
            let hashed = hashed(tasks, found, order.expected.as_deref(), replies)?;
            let expected = order.expected.as_deref().unwrap_or_default();
            match (hashed.matches, &hashed.error_message) {
                (Some(false), None) => {
                    report.problems.push(format!("its SHA-256 is {}, not {expected}", hashed.hash_value));
                }
                (_, Some(error)) => report.problems.push(error.clone()),
                _ => {}
            }
            hash_result = Some(hashed);
        }
    }
    replies.send(DetectionResult { hash_result, executable: Some(report), ..DetectionResult::default() })
}

fn order(task: &DetectionTask) -> Result<Order, TaskError> {
    let check = task.hash_check.clone().unwrap_or_default();
    if !check.hash_algorithm.is_empty() && check.hash_algorithm != ALGORITHM {
        let asked = &check.hash_algorithm;
        return Err(TaskError::Refused(format!("hashes are {ALGORITHM}; {asked} is not computed")));
    }
    let expected = check.expected_hash.to_ascii_lowercase();
    if !expected.is_empty() && (expected.len() != 64 || !expected.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return Err(TaskError::Refused("the expected hash is not 64 hex digits".to_owned()));
    }
    let pids = task.process_filter.as_ref().map_or(&[][..], |filter| &filter.pids);
    let target = match (check.executable_path.is_empty(), pids) {
        (true, [pid]) => Target::Process(*pid),
        (false, []) => {
            let path = PathBuf::from(OsString::from_vec(unescape(&check.executable_path)));
            if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
                return Err(TaskError::Refused(format!("{} is no absolute path", check.executable_path)));
            }
            Target::Path(path)
        }
        _ => return Err(TaskError::Refused("name the path of a file, or one pid".to_owned())),
    };
    Ok(Order { target, expected: Some(expected).filter(|expected| !expected.is_empty()) })
}

fn of_process(pid: u32) -> Result<Found, TaskError> {
    let failed = |unreadable| match unreadable {
        Unreadable::Gone => {
            TaskError::NotFound(format!("there is no process {pid}, or it has no executable, as kernel threads"))
        }
        other => TaskError::Failed(format!("the executable of process {pid} cannot be looked at: {other}")),
    };
    let handle = Handle::of_process(pid).map_err(failed)?;
    let link = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(|_| failed(Unreadable::Gone))?;
    let link = link.as_os_str().as_bytes();
    // The kernel's mark of a file without a name; a file may also be named so.
    let path = link.strip_suffix(DELETED).filter(|_| handle.file.links == 0).unwrap_or(link);
    let path = escape_bytes(path);
    Ok(Found { handle, source: Source { pid: Some(pid), path: None }, path })
}

fn at_path(path: &Path, asker: Asker) -> Result<Found, TaskError> {
    let shown = escape_bytes(path.as_os_str().as_bytes());
    let (handle, resolved) = find(path, asker).map_err(|unreadable| match (unreadable, asker) {
        (Unreadable::Gone, Asker::Equal) => TaskError::NotFound(format!("no file is at {shown}")),
        // One and the same answer, so that it says nothing of what is where the agent may not look.
        (Unreadable::Gone | Unreadable::Denied, Asker::Other(_)) => {
            TaskError::NotFound(format!("no file is at {shown} that the agent's user may look at"))
        }
        (other, _) => TaskError::Failed(format!("{shown} cannot be looked at: {other}")),
    })?;
    if !handle.file.is_regular() {
        return Err(TaskError::Refused(format!("{shown} is no regular file")));
    }
    if !asker.may_have_hash(&handle.file) {
        let why = match asker {
            Asker::Equal => "nobody may run it and not everyone may read it",
            Asker::Other(_) => "the agent's user may neither read nor run it",
        };
        return Err(TaskError::Refused(format!("{shown}: {why}: its hash is not told")));
    }
    let path = escape_bytes(resolved.as_os_str().as_bytes());
    Ok(Found { handle, source: Source { pid: None, path: Some(resolved) }, path })
}

fn hashed(
    tasks: &Tasks,
    found: &Found,
    expected: Option<&str>,
    replies: &mut TaskReplies,
) -> Result<HashResult, TaskError> {
    let version = Version::from(&found.handle.file);
    let mut stopped = None;
    let outcome = tasks.hashes.now(version, &found.source, &mut || {
        // Hashing a large file takes its time; a pause of nothing says that it goes on.
        stopped = replies.pause(std::time::Duration::ZERO).err();
        stopped.is_some()
    });
    let path = &found.path;
    let error = match outcome {
        Outcome::Hash(hashed) => {
            let hash_value = hex(&hashed.sha256);
            let matches = expected.map(|expected| expected == hash_value);
            let algorithm = ALGORITHM.to_owned();
            let file_path = path.clone();
            return Ok(HashResult {
                hash_value,
                algorithm,
                file_path,
                success: true,
                matches,
                ..HashResult::default()
            });
        }
        Outcome::GivenUp => return Err(stopped.unwrap_or(TaskError::Gone)),
        Outcome::TooLarge => {
            let size = found.handle.file.size;
            format!("{path} has {size} bytes, more than procmond.hash_max_file_bytes allows")
        }
        Outcome::Denied => format!("{path} may not be read by procmond"),
        Outcome::NotRegular => format!("{path} is no regular file"),
        Outcome::Gone => format!("{path} was replaced, or is not there any more"),
        Outcome::Changed => format!("{path} was written while it was hashed"),
        Outcome::Failed => format!("{path} could not be read; procmond's log says more at level debug"),
    };
    let matches = expected.map(|_| false);
    Ok(HashResult { file_path: path.clone(), error_message: Some(error), matches, ..HashResult::default() })
}

fn describe(file: &FileId, report: &mut ExecutableReport) {
    report.size = Some(file.size);
    report.modified = Some(file.modified.0.saturating_mul(1_000_000_000).saturating_add(file.modified.1.into()));
    report.uid = Some(file.owner.euid);
    report.gid = Some(file.owner.egid);
    report.mode = Some(u32::from(file.mode & 0o7777));
    if file.mode & WRITABLE_BY_ALL != 0 {
        report.problems.push(format!("everyone may write it (mode {:04o})", file.mode & 0o7777));
    }
}

/// The processes that run this path, whether or not the file there is still the one that they run.
fn running(tasks: &Tasks, path: &str, replies: &mut TaskReplies) -> Result<Vec<ProcessRecord>, TaskError> {
    let mut users = Users { link: unescape(path), path, found: Vec::new(), replies, stopped: None };
    let scanned = tasks.scanner()?.enumerate_processes(&mut users);
    let Users { found, stopped, .. } = users;
    scanned.map(|_| found).map_err(|error| scan_failed(error, stopped))
}

struct Users<'a> {
    link: Vec<u8>,
    path: &'a str,
    found: Vec<ProcessRecord>,
    replies: &'a mut TaskReplies,
    stopped: Option<TaskError>,
}

impl Visitor for Users<'_> {
    fn wants(&mut self, glance: &Glance<'_>) -> Result<bool, Interrupted> {
        self.replies.go_on().map_err(|error| {
            self.stopped = Some(error);
            Interrupted
        })?;
        Ok(glance.program.is_ok_and(|link| link.starts_with(&self.link)))
    }

    fn observed(&mut self, observed: Observed<'_>) -> Result<(), Interrupted> {
        let record = observed.record;
        if record.executable_path.as_deref() == Some(self.path) {
            // Only what is told of it is kept: however many run the file, that is little.
            let ProcessRecord { pid, file_exists, image_mismatch, .. } = record;
            self.found.push(ProcessRecord { pid, file_exists, image_mismatch, ..ProcessRecord::default() });
        }
        Ok(())
    }

    fn unreadable(&mut self, _: u32) {}
}
