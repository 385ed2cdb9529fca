//! Process events as JSON lines, in the columns of `processes.events`: what golden cases and replays are written in.
//!
//! A line is one object. `pid` is required; everything else may be missing or null, which means unknown. Keys that begin
//! with `_` are remarks. What a row must have and a line does not say is made, always in the same way: `event_type` is
//! `seen`; `process_key` comes from `pid` and `start_time`; `parent_key` is that of the last process with that pid in the
//! same [`Recording`]; `command_line` comes from `argv`; `event_time` from the caller. Keys that were made are `inferred`.
//!
//! Refused, with the line and the column: what is no object, unknown columns, values of another kind.

use super::columns::{self, Value};
use super::{key::process_key, time};
use crate::proto::common::{Arguments, EventType, ProcessEvent, ProcessRecord};
use crate::proto::ipc::ColumnKind;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// In the place of a boot id: recorded processes are of no boot of any host.
const NO_BOOT: &str = "recorded";
/// `source` of an event that does not name one.
const SOURCE: &str = "recorded";
/// Processes whose keys a recording remembers; beyond them, parents that were not seen lately get a key of their pid.
const MAX_KNOWN: usize = 100_000;
/// 2026-01-01T00:00:00Z: lines without a time follow each other by a second from here.
const FIRST: i64 = 1_767_225_600_000_000_000;
const SECOND: i64 = 1_000_000_000;
/// How much of a wrong value an error shows.
const SHOWN: usize = 80;

/// Why a line is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonlError {
    /// It is no JSON.
    #[error("line {line}: column {at}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// Where in the line, from 1.
        at: usize,
        /// What the parser says.
        message: String,
    },
    /// It is JSON of another shape.
    #[error("line {line} is no JSON object")]
    NotAnObject {
        /// From 1.
        line: usize,
    },
    /// No process has such a column.
    #[error("line {line}: unknown column `{column}`; the nearest known one is `{nearest}`")]
    UnknownColumn {
        /// From 1.
        line: usize,
        /// As it was written.
        column: String,
        /// What was probably meant.
        nearest: &'static str,
    },
    /// The column's values are of another kind.
    #[error("line {line}: `{column}` is {value}, allowed is {allowed}")]
    Value {
        /// From 1.
        line: usize,
        /// The column.
        column: String,
        /// The beginning of what was written.
        value: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// There is no event without it.
    #[error("line {line}: `{column}` is missing")]
    Missing {
        /// From 1.
        line: usize,
        /// The column.
        column: &'static str,
    },
}

/// Reads one line; one without `event_time` gets a time by its number, which counts from 1.
///
/// # Errors
/// What is wrong with the line.
pub fn parse_event(line: &str, line_no: usize) -> Result<ProcessEvent, JsonlError> {
    Recording::default().event(line, line_no)
}

/// Reads all lines but empty ones; parents are found among the lines before.
///
/// # Errors
/// What is wrong with the first line that is no event.
pub fn parse_events(text: &str) -> Result<Vec<ProcessEvent>, JsonlError> {
    let mut recording = Recording::default();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(index, line)| recording.event(line, index + 1)).collect()
}

/// Reads the lines of one recording in their order, and knows the processes that it has read.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    known: BTreeMap<u32, String>,
}

impl Recording {
    /// As [`parse_event`].
    ///
    /// # Errors
    /// What is wrong with the line.
    pub fn event(&mut self, line: &str, line_no: usize) -> Result<ProcessEvent, JsonlError> {
        let after = i64::try_from(line_no).unwrap_or(0).saturating_mul(SECOND);
        self.event_at(line, line_no, FIRST.saturating_add(after))
    }

    /// Reads one line; `otherwise` is the time of one that says none.
    ///
    /// # Errors
    /// What is wrong with the line.
    pub fn event_at(&mut self, line: &str, line_no: usize, otherwise: i64) -> Result<ProcessEvent, JsonlError> {
        let mut event = read(line, line_no)?;
        let Some(record) = &mut event.process else { return Ok(event) };
        if event.event_time == 0 {
            event.event_time = if record.collection_time == 0 { otherwise } else { record.collection_time };
        }
        self.complete(record, event.event_time);
        if event.event_type == i32::from(EventType::Exit) {
            record.end_time.get_or_insert(event.event_time);
            self.known.remove(&record.pid);
        } else if self.known.len() < MAX_KNOWN || self.known.contains_key(&record.pid) {
            self.known.insert(record.pid, record.process_key.clone());
        }
        Ok(event)
    }

    fn complete(&self, record: &mut ProcessRecord, event_time: i64) {
        if record.collection_time == 0 {
            record.collection_time = event_time;
        }
        if record.source.is_empty() {
            SOURCE.clone_into(&mut record.source);
        }
        if record.process_key.is_empty() {
            let start = record.start_time.and_then(|start| u64::try_from(start).ok()).unwrap_or(0);
            record.process_key = process_key(NO_BOOT, record.pid, start);
            inferred(record, "process_key");
        }
        if let (None, Some(parent)) = (&record.parent_key, record.ppid.filter(|ppid| *ppid != 0)) {
            let known = self.known.get(&parent).cloned();
            record.parent_key = Some(known.unwrap_or_else(|| process_key(NO_BOOT, parent, 0)));
            inferred(record, "parent_key");
        }
        if let (None, Some(argv)) = (&record.command_line, &record.argv) {
            record.command_line = Some(argv.values.join(" "));
        }
    }
}

fn inferred(record: &mut ProcessRecord, column: &str) {
    record.provenance.entry(column.to_owned()).or_insert_with(|| "inferred".to_owned());
}

/// The event as an object that [`parse_event`] reads back; what is unknown is left out.
pub fn event_to_json(event: &ProcessEvent) -> Map<String, Json> {
    let mut row = Map::new();
    row.insert("event_type".to_owned(), event.event_type().name().into());
    row.insert("event_time".to_owned(), lossless(event.event_time));
    let Some(record) = &event.process else { return row };
    for column in columns::PROCESS {
        let value = match ((column.get)(record), column.kind) {
            (Value::Null, _) => continue,
            (Value::Integer(ns), ColumnKind::Time) => lossless(ns),
            (value, kind) => value.json(kind),
        };
        row.insert(column.name.to_owned(), value);
    }
    row
}

/// RFC 3339 where microseconds say all of it, else the number.
fn lossless(ns: i64) -> Json {
    if ns % 1_000 == 0 { time::rfc3339(ns).into() } else { ns.into() }
}

fn read(line: &str, line_no: usize) -> Result<ProcessEvent, JsonlError> {
    let object: Json = serde_json::from_str(line).map_err(|error| JsonlError::Syntax {
        line: line_no,
        at: error.column(),
        message: error.to_string(),
    })?;
    let Json::Object(object) = object else { return Err(JsonlError::NotAnObject { line: line_no }) };
    let mut record = ProcessRecord::default();
    let mut event = ProcessEvent { event_type: EventType::Seen.into(), ..ProcessEvent::default() };
    let mut has_pid = false;
    for (column, value) in object {
        if column.starts_with('_') || value.is_null() {
            continue;
        }
        let shown: String = value.to_string().chars().take(SHOWN).collect();
        let set = match column.as_str() {
            // Given by whoever stores the event.
            "event_id" => Ok(()),
            "event_type" => event_type(&value).map(|kind| event.event_type = kind.into()),
            "event_time" => i64::from_json(value).map(|time| event.event_time = time),
            name => set(&mut record, name, value),
        };
        set.map_err(|wrong| match wrong {
            Wrong::Column => {
                JsonlError::UnknownColumn { line: line_no, nearest: nearest(&column), column: column.clone() }
            }
            Wrong::Kind(allowed) => JsonlError::Value { line: line_no, column: column.clone(), value: shown, allowed },
        })?;
        has_pid |= column == "pid";
    }
    if !has_pid {
        return Err(JsonlError::Missing { line: line_no, column: "pid" });
    }
    event.process = Some(record);
    Ok(event)
}

enum Wrong {
    Column,
    Kind(&'static str),
}

fn event_type(value: &Json) -> Result<EventType, Wrong> {
    [EventType::Exec, EventType::Fork, EventType::Exit, EventType::Seen, EventType::Changed]
        .into_iter()
        .find(|kind| value.as_str() == Some(kind.name()))
        .ok_or(Wrong::Kind("one of exec, fork, exit, seen, changed"))
}

fn nearest(column: &str) -> &'static str {
    let own = columns::EVENT.iter().map(|known| known.name);
    own.chain(columns::PROCESS.iter().map(|known| known.name))
        .max_by(|a, b| {
            let score = |known: &str| strsim::normalized_damerau_levenshtein(known, column);
            score(a).total_cmp(&score(b))
        })
        .unwrap_or_default()
}

macro_rules! fields {
    ($record:ident, $column:ident, $value:ident: $($name:ident)*) => {
        match $column {
            $(stringify!($name) => $record.$name = FromJson::from_json($value)?,)*
            _ => return Err(Wrong::Column),
        }
    };
}

fn set(record: &mut ProcessRecord, column: &str, value: Json) -> Result<(), Wrong> {
    fields!(record, column, value:
        process_key parent_key pid ppid name executable_path command_line cwd start_time end_time exit_code uid gid euid
        user session_id tty status cpu_usage memory_usage executable_hash hash_algorithm fuzzy_hash file_exists
        image_mismatch parent_name parent_executable_path parent_command_line container_id cgroup namespaces platform_data
        argv invoked_path command_line_truncated egid loginuid audit_session exit_signal cpu_time_ns max_rss environment
        source provenance collection_time);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVERY_COLUMN: &str = r#"{
        "event_type": "exec", "event_time": "2026-01-02T03:04:05.000006Z", "process_key": "k", "parent_key": "p", "pid": 7,
        "ppid": 1, "name": "n", "executable_path": "/n", "command_line": "n a", "cwd": "/", "start_time": 1000000001,
        "end_time": "2026-01-02T03:04:06.000000Z", "exit_code": -1, "uid": 1, "gid": 2, "euid": 3, "user": "u",
        "session_id": 4, "tty": "pts/0", "status": "running", "cpu_usage": 1.5, "memory_usage": 5, "executable_hash": "h",
        "hash_algorithm": "sha256", "fuzzy_hash": "f", "file_exists": true, "image_mismatch": false, "parent_name": "pn",
        "parent_executable_path": "/pn", "parent_command_line": "pn", "container_id": "c", "cgroup": "/c",
        "namespaces": {"pid": 9}, "platform_data": {"cut": "x"}, "argv": ["n", "a"], "invoked_path": "n",
        "command_line_truncated": false, "egid": 6, "loginuid": 7, "audit_session": 8, "exit_signal": 9, "cpu_time_ns": 10,
        "max_rss": 11, "environment": {"A": "b"}, "source": "poll", "provenance": {"*": "scraped"},
        "collection_time": "2026-01-02T03:04:05.000006Z"
    }"#;

    #[test]
    fn every_column_is_read_and_written() {
        let all: Map<String, Json> = serde_json::from_str(EVERY_COLUMN).unwrap();
        let event = parse_event(EVERY_COLUMN, 1).unwrap();
        let record = event.process.as_ref().unwrap();
        for column in columns::PROCESS {
            assert_ne!((column.get)(record), Value::Null, "{} cannot be read", column.name);
        }
        assert_eq!(event_to_json(&event), all);
    }

    #[test]
    fn what_is_missing_is_made_in_the_same_way_each_time() {
        let lines = "{\"pid\": 10, \"start_time\": \"2026-01-01 00:00:00\", \"_case\": \"parent\"}\n\n\
                     {\"pid\": 11, \"ppid\": 10, \"argv\": [\"ls\", \"-l\"]}\n{\"pid\": 11, \"event_type\": \"exit\"}\n\
                     {\"pid\": 12, \"ppid\": 11}";
        let events = parse_events(lines).unwrap();
        assert_eq!(events, parse_events(lines).unwrap());
        let [parent, child, exit, orphan] = &events[..] else { panic!("{events:?}") };
        let record = |event: &ProcessEvent| event.process.clone().unwrap();
        assert_eq!(parent.event_type(), EventType::Seen);
        assert_eq!(record(child).parent_key, Some(record(parent).process_key));
        assert_eq!(record(child).command_line.as_deref(), Some("ls -l"));
        assert_eq!(record(child).provenance["process_key"], "inferred");
        assert_eq!(record(exit).process_key, record(child).process_key, "the same process ends");
        assert_eq!(record(exit).end_time, Some(exit.event_time));
        assert_eq!(record(orphan).parent_key, Some(process_key(NO_BOOT, 11, 0)));
        assert_eq!(child.event_time - parent.event_time, 2 * SECOND);
        assert_eq!(record(child).collection_time, child.event_time);
        let at = Recording::default().event_at("{\"pid\": 1}", 1, 42).unwrap();
        assert_eq!((at.event_time, record(&at).collection_time), (42, 42));
    }

    #[test]
    fn times_are_texts_or_numbers() {
        let at = |time: &str| parse_event(&format!("{{\"pid\": 1, \"event_time\": {time}}}"), 1).unwrap().event_time;
        for same in ["\"2026-01-02T03:04:05Z\"", "\"2026-01-02T05:04:05+02:00\"", "\"2026-01-02 03:04:05\""] {
            assert_eq!(at(same), 1_767_323_045 * SECOND, "{same}");
        }
        assert_eq!(at("1767323045000000001"), 1_767_323_045 * SECOND + 1);
    }

    #[test]
    fn errors_name_the_line_the_column_and_what_is_allowed() {
        let error = |line: &str| parse_event(line, 3).unwrap_err().to_string();
        assert_eq!(
            error("{\"pid\": 1, \"comand_line\": \"x\"}"),
            "line 3: unknown column `comand_line`; the nearest known one is `command_line`"
        );
        assert_eq!(error("{\"pid\": -1}"), "line 3: `pid` is -1, allowed is a whole number from 0 to 4294967295");
        assert_eq!(
            error("{\"pid\": 1, \"argv\": \"ls -l\"}"),
            "line 3: `argv` is \"ls -l\", allowed is an array of texts"
        );
        assert_eq!(error("{\"name\": \"x\"}"), "line 3: `pid` is missing");
        assert_eq!(error("[]"), "line 3 is no JSON object");
        assert!(error("{\"pid\": 1").starts_with("line 3: column 9: EOF"), "{}", error("{\"pid\": 1"));
        assert!(error("{\"pid\": 1, \"event_type\": \"start\"}").contains("exec, fork, exit, seen, changed"));
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_panic(line: String, number: i64) {
            let _ = parse_event(&line, 1);
            let _ = parse_event(&format!("{{\"pid\": 1, \"start_time\": {number}, \"event_time\": {number}}}"), 1);
        }
    }
}
