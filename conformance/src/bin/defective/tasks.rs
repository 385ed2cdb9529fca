//! Answers to tasks: right but for what is wrong with it.

use crate::Defect;
use daemoneye_conformance::protocol::bus::{RpcRequestPayload, RpcResponsePayload, RpcStatus};
use daemoneye_conformance::protocol::common::ProcessRecord;
use daemoneye_conformance::protocol::ipc::{
    DetectionResult, DetectionTask, HashResult, RequestError, RequestErrorKind, TaskType,
};
use prost::Message as _;

/// The only file that it can hash holds `abc`.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

pub(crate) fn answer(defect: Option<Defect>, request: &RpcRequestPayload) -> RpcResponsePayload {
    let done = DetectionTask::decode(&request.message[..])
        .map_err(|error| error.to_string())
        .and_then(|task| result(defect, &task));
    let (status, message) = match done {
        Ok(result) => (RpcStatus::RpcOk, result.encode_to_vec()),
        Err(message) => {
            let error = RequestError { kind: RequestErrorKind::NotFound.into(), message, ..RequestError::default() };
            (RpcStatus::RpcError, error.encode_to_vec())
        }
    };
    let correlation_id = request.correlation_id;
    RpcResponsePayload { correlation_id, status: status.into(), message, ..RpcResponsePayload::default() }
}

fn result(defect: Option<Defect>, task: &DetectionTask) -> Result<DetectionResult, String> {
    let filter = task.process_filter.clone().unwrap_or_default();
    let is_there = |pid: &u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    if !filter.pids.iter().all(is_there) && defect != Some(Defect::Obliging) {
        return Err("there is no such process".to_owned());
    }
    let mut result = DetectionResult { task_id: task.task_id.clone(), success: true, ..DetectionResult::default() };
    if task.task_type() == TaskType::EnumerateProcesses {
        let others = if defect == Some(Defect::Unfiltered) { vec![1] } else { Vec::new() };
        let pids = filter.pids.iter().copied().chain(others);
        result.processes = pids.map(|pid| ProcessRecord { pid, ..ProcessRecord::default() }).collect();
        return Ok(result);
    }
    let check = task.hash_check.clone().unwrap_or_default();
    if !check.executable_path.is_empty() {
        let content = std::fs::read(&check.executable_path).map_err(|error| error.to_string())?;
        if content != b"abc" {
            return Err("it cannot hash that".to_owned());
        }
    }
    let hash_value = if defect == Some(Defect::WrongHash) { "0".repeat(64) } else { ABC.to_owned() };
    let matches = Some(check.expected_hash == hash_value).filter(|_| !check.expected_hash.is_empty());
    result.hash_result = Some(HashResult { hash_value, success: true, matches, ..HashResult::default() });
    Ok(result)
}
