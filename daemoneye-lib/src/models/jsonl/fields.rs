//! The fields of each kind of event, from JSON by the names of their columns.

use crate::models::catalog::Table;
use crate::models::event::Event;
use crate::models::time;
use crate::proto::common::{
    Arguments, EventType, FilesystemEvent, FilesystemEventType, NetworkEvent, NetworkEventType, PerformanceSample,
    ProcessEvent, ProcessRecord, SecurityEvent, SecurityEventType,
};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Why a value cannot be set.
pub(super) enum Wrong {
    Column,
    Kind(&'static str),
}

/// An event of a table that says nothing yet.
pub(super) fn blank(table: Table) -> Option<Event> {
    Some(match table {
        Table::ProcessEvents => Event::Process(ProcessEvent {
            event_type: EventType::Seen.into(),
            process: Some(ProcessRecord::default()),
            ..ProcessEvent::default()
        }),
        Table::NetworkConnections => {
            Event::Network(NetworkEvent { event_type: NetworkEventType::SocketSeen.into(), ..NetworkEvent::default() })
        }
        Table::FilesystemEvents => Event::Filesystem(FilesystemEvent {
            event_type: FilesystemEventType::Modified.into(),
            ..FilesystemEvent::default()
        }),
        Table::PerformanceSamples => Event::Performance(PerformanceSample::default()),
        Table::SecurityEvents => Event::Security(SecurityEvent { count: 1, ..SecurityEvent::default() }),
        _ => return None,
    })
}

/// Sets the value of a column.
pub(super) fn set(event: &mut Event, column: &str, value: Json) -> Result<(), Wrong> {
    match (event, column) {
        // Given by whoever stores the event.
        (_, "event_id") => Ok(()),
        (event, "event_type") => event_type(event, &value),
        (Event::Process(event), "event_time") => i64::from_json(value).map(|time| event.event_time = time),
        (Event::Process(event), column) => {
            event.process.as_mut().map_or(Ok(()), |record| process(record, column, value))
        }
        (Event::Network(event), column) => network(event, column, value),
        (Event::Filesystem(event), column) => filesystem(event, column, value),
        (Event::Performance(sample), column) => performance(sample, column, value),
        (Event::Security(event), column) => security(event, column, value),
    }
}

fn event_type(event: &mut Event, value: &Json) -> Result<(), Wrong> {
    let name = value.as_str();
    let found = match event {
        Event::Process(event) => {
            let all = [EventType::Exec, EventType::Fork, EventType::Exit, EventType::Seen, EventType::Changed];
            all.into_iter().find(|kind| name == Some(kind.name())).map(|kind| event.set_event_type(kind))
        }
        Event::Network(event) => {
            let found = NetworkEventType::ALL.into_iter().find(|kind| name == Some(kind.name()));
            found.map(|kind| event.set_event_type(kind))
        }
        Event::Filesystem(event) => {
            let found = FilesystemEventType::ALL.into_iter().find(|kind| name == Some(kind.name()));
            found.map(|kind| event.set_event_type(kind))
        }
        Event::Performance(_) => (name == Some("sample")).then_some(()),
        Event::Security(event) => {
            let found = SecurityEventType::ALL.into_iter().find(|kind| name == Some(kind.name()));
            found.map(|kind| event.set_event_type(kind))
        }
    };
    found.ok_or(Wrong::Kind(match event {
        Event::Process(_) => "one of exec, fork, exit, seen, changed",
        Event::Network(_) => "one of connect, accept, close, listen, seen",
        Event::Filesystem(_) => "one of created, modified, deleted, renamed, opened, attributes",
        Event::Performance(_) => "sample",
        Event::Security(_) => "one of credentials, ptrace, module_load, bpf_load, memory_exec",
    }))
}

macro_rules! fields {
    ($record:ident, $column:ident, $value:ident: $($name:ident)*) => {
        match $column {
            $(stringify!($name) => $record.$name = FromJson::from_json($value)?,)*
            _ => return Err(Wrong::Column),
        }
    };
}

fn process(record: &mut ProcessRecord, column: &str, value: Json) -> Result<(), Wrong> {
    fields!(record, column, value:
        process_key parent_key pid ppid name executable_path command_line cwd start_time end_time exit_code uid gid euid
        user session_id tty status cpu_usage memory_usage executable_hash hash_algorithm fuzzy_hash file_exists
        image_mismatch parent_name parent_executable_path parent_command_line container_id cgroup namespaces platform_data
        argv invoked_path command_line_truncated egid loginuid audit_session exit_signal cpu_time_ns max_rss environment
        source provenance collection_time);
    Ok(())
}

fn network(event: &mut NetworkEvent, column: &str, value: Json) -> Result<(), Wrong> {
    fields!(event, column, value:
        event_time process_key parent_key pid name executable_path uid user protocol family local_address local_port
        remote_address remote_port direction state bytes_sent bytes_received inode namespace container_id platform_data
        source provenance collection_time);
    Ok(())
}

fn filesystem(event: &mut FilesystemEvent, column: &str, value: Json) -> Result<(), Wrong> {
    fields!(event, column, value:
        event_time process_key parent_key pid name executable_path uid user path target_path file_type size mode owner_uid
        owner_gid inode device modified_time file_hash hash_algorithm container_id platform_data source provenance
        collection_time);
    Ok(())
}

fn performance(sample: &mut PerformanceSample, column: &str, value: Json) -> Result<(), Wrong> {
    fields!(sample, column, value:
        event_time process_key parent_key pid name executable_path uid user scope metric value unit interval_ms device
        container_id platform_data source provenance collection_time);
    Ok(())
}

fn security(event: &mut SecurityEvent, column: &str, value: Json) -> Result<(), Wrong> {
    fields!(event, column, value:
        event_time process_key parent_key pid name executable_path uid user target_process_key target_pid target_name object
        count old_uid new_uid old_euid new_euid container_id platform_data source provenance collection_time);
    Ok(())
}

/// A field's value from JSON.
trait FromJson: Sized {
    fn from_json(value: Json) -> Result<Self, Wrong>;
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(value: Json) -> Result<Self, Wrong> {
        T::from_json(value).map(Some)
    }
}

impl FromJson for String {
    fn from_json(value: Json) -> Result<Self, Wrong> {
        match value {
            Json::String(text) => Ok(text),
            _ => Err(Wrong::Kind("a text")),
        }
    }
}

impl FromJson for u64 {
    fn from_json(value: Json) -> Result<Self, Wrong> {
        value.as_u64().ok_or(Wrong::Kind("a whole number from 0"))
    }
}

impl FromJson for u32 {
    fn from_json(value: Json) -> Result<Self, Wrong> {
        let number = value.as_u64().and_then(|number| number.try_into().ok());
        number.ok_or(Wrong::Kind("a whole number from 0 to 4294967295"))
    }
}

impl FromJson for i32 {
    fn from_json(value: Json) -> Result<Self, Wrong> {
        let number = value.as_i64().and_then(|number| number.try_into().ok());
        number.ok_or(Wrong::Kind("a whole number of 32 bits"))
    }
}

impl FromJson for f64 {
    fn from_json(value: Json) -> Result<Self, Wrong> {
        value.as_f64().ok_or(Wrong::Kind("a number"))
    }
}

impl FromJson for bool {
    fn from_json(value: Json) -> Result<Self, Wrong> {
        match (value.as_bool(), value.as_u64()) {
            (Some(bit), _) => Ok(bit),
            (None, Some(bit @ (0 | 1))) => Ok(bit == 1),
            _ => Err(Wrong::Kind("true or false")),
        }
    }
}

/// The fields of this type are times.
impl FromJson for i64 {
    fn from_json(value: Json) -> Result<Self, Wrong> {
        let ns = match &value {
            Json::Number(number) => number.as_i64(),
            Json::String(text) => match text.parse::<jiff::Timestamp>() {
                Ok(at) => at.as_nanosecond().try_into().ok(),
                Err(_) => time::parse(text),
            },
            _ => None,
        };
        ns.ok_or(Wrong::Kind("a time: RFC 3339, or nanoseconds since 1970"))
    }
}

impl FromJson for Arguments {
    fn from_json(value: Json) -> Result<Self, Wrong> {
        let values = match value {
            Json::Array(values) => values.into_iter().map(String::from_json).collect::<Result<_, _>>().ok(),
            _ => None,
        };
        Ok(Self { values: values.ok_or(Wrong::Kind("an array of texts"))? })
    }
}

impl<T: FromJson> FromJson for BTreeMap<String, T> {
    fn from_json(value: Json) -> Result<Self, Wrong> {
        match value {
            Json::Object(entries) => {
                entries.into_iter().map(|(name, value)| Ok((name, T::from_json(value)?))).collect()
            }
            _ => Err(Wrong::Kind("an object")),
        }
    }
}
