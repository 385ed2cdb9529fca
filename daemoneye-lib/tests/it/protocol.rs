//! The contract with programs that are not ours: what the numbers of its fields mean never changes. Fields may be added behind
//! these; whoever changes one of these bytes breaks every collector that exists.

use daemoneye_lib::proto::common::ProcessRecord;
use daemoneye_lib::proto::ipc::{
    CapabilityRequest, CapabilityResponse, CollectionCapabilities, DetectionResult, DetectionTask, HashCheck,
    HashResult, ProcessFilter, TaskType,
};
use prost::Message;

/// The message is these bytes, in both directions.
fn is<M: Message + Default + PartialEq + std::fmt::Debug>(message: &M, bytes: &[u8]) {
    assert_eq!(message.encode_to_vec(), bytes, "{message:?}");
    assert_eq!(&M::decode(bytes).unwrap(), message);
}

#[test]
fn the_numbers_of_the_founding_contract_stay_what_they_are() {
    let types = [
        TaskType::EnumerateProcesses,
        TaskType::CheckProcessHash,
        TaskType::MonitorProcessTree,
        TaskType::VerifyExecutable,
    ];
    assert_eq!(types.map(|kind| kind as i32), [0, 1, 2, 3]);
    let names = ["ENUMERATE_PROCESSES", "CHECK_PROCESS_HASH", "MONITOR_PROCESS_TREE", "VERIFY_EXECUTABLE"];
    assert_eq!(types.map(|kind| kind.as_str_name()), names);

    let filter = ProcessFilter { process_names: vec!["n".into()], pids: vec![7], executable_pattern: Some("p".into()) };
    let check = HashCheck { expected_hash: "e".into(), hash_algorithm: "a".into(), executable_path: "p".into() };
    is(&filter, b"\x0a\x01n\x12\x01\x07\x1a\x01p");
    is(&check, b"\x0a\x01e\x12\x01a\x1a\x01p");
    // task_id 1, task_type 2, process_filter 3, hash_check 4, metadata 5.
    let task = DetectionTask {
        task_id: "t".into(),
        task_type: TaskType::VerifyExecutable.into(),
        process_filter: Some(filter),
        hash_check: Some(check),
        metadata: Some("m".into()),
        ..DetectionTask::default()
    };
    is(&task, b"\x0a\x01t\x10\x03\x1a\x09\x0a\x01n\x12\x01\x07\x1a\x01p\x22\x09\x0a\x01e\x12\x01a\x1a\x01p\x2a\x01m");

    let hash = HashResult {
        hash_value: "v".into(),
        algorithm: "a".into(),
        file_path: "p".into(),
        success: true,
        error_message: Some("e".into()),
        ..HashResult::default()
    };
    is(&hash, b"\x0a\x01v\x12\x01a\x1a\x01p\x20\x01\x2a\x01e");
    // task_id 1, success 2, error_message 3, processes 4, hash_result 5.
    let result = DetectionResult {
        task_id: "t".into(),
        success: true,
        error_message: Some("e".into()),
        processes: vec![ProcessRecord::default()],
        hash_result: Some(HashResult { hash_value: "v".into(), ..HashResult::default() }),
        ..DetectionResult::default()
    };
    is(&result, b"\x0a\x01t\x10\x01\x1a\x01e\x22\x00\x2a\x03\x0a\x01v");

    let capabilities =
        CollectionCapabilities { domains: vec!["d".into()], tasks: vec![3], ..CollectionCapabilities::default() };
    is(&CapabilityRequest {}, b"");
    is(&CapabilityResponse { capabilities: Some(capabilities) }, b"\x0a\x06\x0a\x01d\x12\x01\x03");
}

#[test]
fn a_field_that_this_version_does_not_know_is_no_error() {
    let known = DetectionTask { task_id: "t".into(), ..DetectionTask::default() };
    let mut bytes = known.encode_to_vec();
    // Field 200, a text.
    bytes.extend_from_slice(b"\xc2\x0c\x03new");
    assert_eq!(DetectionTask::decode(bytes.as_slice()).unwrap(), known);
}
