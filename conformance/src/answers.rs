//! Whether answers to tasks are right: asked is what the suite knows the answer to.

use crate::Subject;
use crate::fault::{Fault, require};
use crate::link::{Said, decode};
use crate::protocol::bus::RpcStatus;
use crate::protocol::ipc::{DetectionResult, DetectionTask, HashCheck, ProcessFilter, TaskType};
use crate::run::Run;
use prost::Message as _;
use std::fs;
use std::path::PathBuf;

const CONTENT: &[u8] = b"abc";
/// Of [`CONTENT`], from the annex of FIPS 180-4.
const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// Above the most that Linux gives.
const NO_PID: u32 = 4_194_305;

pub(crate) fn answers(subject: &Subject) -> Result<(), Fault> {
    let mut run = Run::start(subject)?;
    run.read(1, true)?;
    let registered = run.register.capabilities.clone().unwrap_or_default().tasks;
    let does = |kind: TaskType| registered.contains(&i32::from(kind));
    if does(TaskType::CheckProcessHash) {
        hash(&mut run)?;
    }
    if does(TaskType::EnumerateProcesses) {
        enumerate(&mut run)?;
    }
    for kind in [TaskType::CheckProcessHash, TaskType::MonitorProcessTree, TaskType::VerifyExecutable] {
        if does(kind) {
            let (status, parts) = ask(&mut run, of_process(kind, NO_PID))?;
            let failed = status != RpcStatus::RpcOk || parts.iter().any(|part| !part.success);
            require(failed, || {
                format!("{}: it has an answer about process {NO_PID}, which there is not", kind.as_str_name())
            })?;
        }
    }
    Ok(())
}

fn of_process(kind: TaskType, pid: u32) -> DetectionTask {
    DetectionTask {
        task_id: format!("answer-{}-{pid}", i32::from(kind)),
        task_type: kind.into(),
        process_filter: Some(ProcessFilter { pids: vec![pid], ..ProcessFilter::default() }),
        timeout_ms: 2_000,
        ..DetectionTask::default()
    }
}

fn hash(run: &mut Run) -> Result<(), Fault> {
    let file = Known::make()?;
    for (expected, matches) in [(SHA256.to_owned(), true), ("0".repeat(64), false)] {
        let check = HashCheck { expected_hash: expected, executable_path: file.path(), ..HashCheck::default() };
        let task = DetectionTask {
            task_id: format!("answer-hash-{matches}"),
            task_type: TaskType::CheckProcessHash.into(),
            hash_check: Some(check),
            ..DetectionTask::default()
        };
        let (status, parts) = ask(run, task)?;
        let why = parts.iter().find_map(|part| part.error_message.clone()).unwrap_or_default();
        require(status == RpcStatus::RpcOk, || format!("it does not hash a file that everybody may read: {why}"))?;
        let Some(result) = parts.into_iter().find_map(|part| part.hash_result) else {
            return Err(Fault::new("its answer to CHECK_PROCESS_HASH has no hash"));
        };
        let value = &result.hash_value;
        require(value == SHA256, || format!("the SHA-256 of \"abc\" is {SHA256}, and not {value:?}"))?;
        require(result.matches == Some(matches), || {
            format!("compared with what was expected its hash matches: {:?}, where it is {matches}", result.matches)
        })?;
    }
    Ok(())
}

fn enumerate(run: &mut Run) -> Result<(), Fault> {
    let own = std::process::id();
    let (status, parts) = ask(run, of_process(TaskType::EnumerateProcesses, own))?;
    require(status == RpcStatus::RpcOk, || "it does not enumerate processes".to_owned())?;
    let pids: Vec<u32> = parts.iter().flat_map(|part| &part.processes).map(|process| process.pid).collect();
    require(pids == [own], || {
        let shown: Vec<_> = pids.iter().take(5).collect();
        format!("asked for process {own} it enumerates {} processes: {shown:?} …", pids.len())
    })
}

/// All parts of an answer.
fn ask(run: &mut Run, task: DetectionTask) -> Result<(RpcStatus, Vec<DetectionResult>), Fault> {
    let topic = format!("tasks.{}", run.agent.subject.name);
    let id = run.link.call(&topic, task.encode_to_vec());
    let (epoch, patience) = (run.register.epoch.clone(), run.link.patience);
    let mut parts = Vec::new();
    let status = run.link.wait_for(&format!("its answer to {}", task.task_id), patience, |link, said| match said {
        Said::Response(response) if response.correlation_id == id => {
            if response.status() == RpcStatus::RpcOk {
                parts.push(decode::<DetectionResult>("its result", &response.message)?);
            }
            Ok((!response.more).then_some(response.status()))
        }
        Said::Batch(_, batch) => {
            link.acknowledge(&epoch, batch.first_sequence + batch.items.len() as u64 - 1);
            Ok(None)
        }
        _ => Ok(None),
    })?;
    Ok((status, parts))
}

/// A file that everybody may read, of which the hash is known.
struct Known(PathBuf);

impl Known {
    fn make() -> Result<Self, Fault> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("daemoneye-conformance-abc-{}", std::process::id()));
        let made =
            fs::write(&path, CONTENT).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
        let file = Self(path);
        made.map(|()| file).map_err(|error| Fault::new(format!("a file to be hashed cannot be made: {error}")))
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        // What is not there needs no removal.
        let _ = fs::remove_file(&self.0);
    }
}
