//! Events as JSON lines, in the columns of their tables: what golden cases and replays are written in.
//!
//! A line is one object, an event of `processes.events` or of the table of events that its key `table` names. Of a process
//! `pid` is required, of a file `path`, of a measurement `scope`, `metric` and `value`, of what matters for security
//! `event_type`; everything else may be missing or null, which means unknown. Keys that begin with `_` are remarks. What a row
//! must have and a line does not say is made, always in the same way: `event_type` is `seen`, of files `modified`; a process's `process_key` comes from `pid` and
//! `start_time`, that of another event is that of the last process with its pid in the same [`Recording`], and so is
//! `parent_key` by `ppid`; `command_line` comes from `argv`; `event_time` from the caller. Keys that were made are
//! `inferred`.
//!
//! Refused, with the line and the column: what is no object, unknown columns, values of another kind.

mod fields;

use super::catalog::Table;
use super::columns::{Value, event_value};
use super::event::{Event, IdentifiedEvent};
use super::{key::process_key, time};
use crate::proto::common::{EventType, ProcessRecord};
use crate::proto::ipc::ColumnKind;
use fields::Wrong;
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
/// The key that names another table than `processes.events`.
const TABLE: &str = "table";
const TABLES: &str =
    "one of processes.events, network.connections, filesystem.events, performance.samples, security.events";
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
    /// The table has no such column.
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
pub fn parse_event(line: &str, line_no: usize) -> Result<Event, JsonlError> {
    Recording::default().event(line, line_no)
}

/// Reads all lines but empty ones; parents are found among the lines before.
///
/// # Errors
/// What is wrong with the first line that is no event.
pub fn parse_events(text: &str) -> Result<Vec<Event>, JsonlError> {
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
    pub fn event(&mut self, line: &str, line_no: usize) -> Result<Event, JsonlError> {
        self.event_at(line, line_no, time_of(line_no))
    }

    /// Reads one line; `otherwise` is the time of one that says none.
    ///
    /// # Errors
    /// What is wrong with the line.
    pub fn event_at(&mut self, line: &str, line_no: usize, otherwise: i64) -> Result<Event, JsonlError> {
        self.completed(read(object(line, line_no)?, line_no)?, otherwise)
    }

    /// Reads what stands in one line, as [`object`] gives it.
    ///
    /// # Errors
    /// As [`parse_event`].
    pub fn event_of(&mut self, object: Map<String, Json>, line_no: usize) -> Result<Event, JsonlError> {
        self.completed(read(object, line_no)?, time_of(line_no))
    }

    fn completed(&mut self, mut event: Event, otherwise: i64) -> Result<Event, JsonlError> {
        match &mut event {
            Event::Process(event) => {
                let record = event.process.get_or_insert_default();
                moments(&mut event.event_time, &mut record.collection_time, &mut record.source, otherwise);
                self.complete(record);
                if event.event_type == i32::from(EventType::Exit) {
                    record.end_time.get_or_insert(event.event_time);
                    self.known.remove(&record.pid);
                } else if self.known.len() < MAX_KNOWN || self.known.contains_key(&record.pid) {
                    self.known.insert(record.pid, record.process_key.clone());
                }
            }
            Event::Network(event) => {
                moments(&mut event.event_time, &mut event.collection_time, &mut event.source, otherwise);
                self.subject(event.pid, &mut event.process_key, &mut event.provenance);
            }
            Event::Filesystem(event) => {
                moments(&mut event.event_time, &mut event.collection_time, &mut event.source, otherwise);
                self.subject(event.pid, &mut event.process_key, &mut event.provenance);
            }
            Event::Security(event) => {
                moments(&mut event.event_time, &mut event.collection_time, &mut event.source, otherwise);
                self.subject(event.pid, &mut event.process_key, &mut event.provenance);
                let (key, provenance) = (&mut event.target_process_key, &mut event.provenance);
                self.refer(event.target_pid, key, provenance, "target_process_key");
            }
            Event::Performance(sample) => {
                moments(&mut sample.event_time, &mut sample.collection_time, &mut sample.source, otherwise);
                self.subject(sample.pid, &mut sample.process_key, &mut sample.provenance);
            }
        }
        Ok(event)
    }

    /// The key of the process with this pid, where the recording knows it.
    fn subject(&self, pid: Option<u32>, key: &mut Option<String>, provenance: &mut BTreeMap<String, String>) {
        self.refer(pid, key, provenance, "process_key");
    }

    fn refer(
        &self,
        pid: Option<u32>,
        key: &mut Option<String>,
        provenance: &mut BTreeMap<String, String>,
        column: &str,
    ) {
        if key.is_none()
            && let Some(known) = pid.and_then(|pid| self.known.get(&pid))
        {
            *key = Some(known.clone());
            inferred(provenance, column);
        }
    }

    fn complete(&self, record: &mut ProcessRecord) {
        if record.process_key.is_empty() {
            let start = record.start_time.and_then(|start| u64::try_from(start).ok()).unwrap_or(0);
            record.process_key = process_key(NO_BOOT, record.pid, start);
            inferred(&mut record.provenance, "process_key");
        }
        if let (None, Some(parent)) = (&record.parent_key, record.ppid.filter(|ppid| *ppid != 0)) {
            let known = self.known.get(&parent).cloned();
            record.parent_key = Some(known.unwrap_or_else(|| process_key(NO_BOOT, parent, 0)));
            inferred(&mut record.provenance, "parent_key");
        }
        if let (None, Some(argv)) = (&record.command_line, &record.argv) {
            record.command_line = Some(argv.values.join(" "));
        }
    }
}

/// When it happened, when it was written down, and who did.
fn moments(event_time: &mut i64, collection_time: &mut i64, source: &mut String, otherwise: i64) {
    if *event_time == 0 {
        *event_time = if *collection_time == 0 { otherwise } else { *collection_time };
    }
    if *collection_time == 0 {
        *collection_time = *event_time;
    }
    if source.is_empty() {
        SOURCE.clone_into(source);
    }
}

fn inferred(provenance: &mut BTreeMap<String, String>, column: &str) {
    provenance.entry(column.to_owned()).or_insert_with(|| "inferred".to_owned());
}

/// The event as an object that [`parse_event`] reads back; what is unknown is left out.
pub fn event_to_json(event: &Event) -> Map<String, Json> {
    let mut row = Map::new();
    if event.table() != Table::ProcessEvents {
        let (schema, name) = event.table().qualified_name();
        row.insert(TABLE.to_owned(), format!("{schema}.{name}").into());
    }
    let event = IdentifiedEvent { event_id: String::new(), event: event.clone() };
    for (index, (name, kind)) in event.event.table().columns().into_iter().enumerate().skip(1) {
        let value = match (event_value(&event, index), kind) {
            (Value::Null, _) => continue,
            (Value::Integer(ns), ColumnKind::Time) => lossless(ns),
            (value, kind) => value.json(kind),
        };
        row.insert(name.to_owned(), value);
    }
    row
}

/// RFC 3339 where microseconds say all of it, else the number.
fn lossless(ns: i64) -> Json {
    if ns % 1_000 == 0 { time::rfc3339(ns).into() } else { ns.into() }
}

/// The time of a line that says none.
fn time_of(line_no: usize) -> i64 {
    FIRST.saturating_add(i64::try_from(line_no).unwrap_or(0).saturating_mul(SECOND))
}

/// The JSON object that a line is.
///
/// # Errors
/// When it is none.
pub fn object(line: &str, line_no: usize) -> Result<Map<String, Json>, JsonlError> {
    let object: Json = serde_json::from_str(line).map_err(|error| JsonlError::Syntax {
        line: line_no,
        at: error.column(),
        message: error.to_string(),
    })?;
    match object {
        Json::Object(object) => Ok(object),
        _ => Err(JsonlError::NotAnObject { line: line_no }),
    }
}

fn read(mut object: Map<String, Json>, line_no: usize) -> Result<Event, JsonlError> {
    let wrong_value = |column: &str, value: String, allowed| {
        let value = value.chars().take(SHOWN).collect();
        JsonlError::Value { line: line_no, column: column.to_owned(), value, allowed }
    };
    let name = object.remove(TABLE);
    let table = name.as_ref().map_or(Some(Table::ProcessEvents), |name| name.as_str().and_then(Table::find));
    let Some((table, mut event)) = table.and_then(|table| Some((table, fields::blank(table)?))) else {
        return Err(wrong_value(TABLE, name.unwrap_or_default().to_string(), TABLES));
    };
    object.retain(|column, value| !column.starts_with('_') && !value.is_null());
    if let Some(column) = required(table).iter().find(|column| !object.contains_key(**column)) {
        // A column that is mistaken says more than the one that is missing for it.
        let known = |column: &String| table.columns().iter().any(|(own, _)| own == column);
        if object.keys().all(known) {
            return Err(JsonlError::Missing { line: line_no, column });
        }
    }
    for (column, value) in object {
        let shown = value.to_string();
        fields::set(&mut event, &column, value).map_err(|wrong| match wrong {
            Wrong::Column => {
                JsonlError::UnknownColumn { line: line_no, nearest: nearest(table, &column), column: column.clone() }
            }
            Wrong::Kind(allowed) => wrong_value(&column, shown, allowed),
        })?;
    }
    Ok(event)
}

/// Columns without which there is no event.
const fn required(table: Table) -> &'static [&'static str] {
    match table {
        Table::ProcessEvents => &["pid"],
        Table::FilesystemEvents => &["path"],
        Table::PerformanceSamples => &["scope", "metric", "value"],
        Table::SecurityEvents => &["event_type"],
        _ => &[],
    }
}

fn nearest(table: Table, column: &str) -> &'static str {
    let score = |known: &str| strsim::normalized_damerau_levenshtein(known, column);
    let names = table.columns().into_iter().map(|(name, _)| name);
    names.max_by(|a, b| score(a).total_cmp(&score(b))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::columns;
    use crate::proto::common::ProcessEvent;
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

    fn of_process(event: Event) -> ProcessEvent {
        match event {
            Event::Process(event) => event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_column_is_read_and_written() {
        let all: Map<String, Json> = serde_json::from_str(EVERY_COLUMN).unwrap();
        let event = parse_event(EVERY_COLUMN, 1).unwrap();
        let record = event.process().unwrap();
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
        let events: Vec<_> = events.into_iter().map(of_process).collect();
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
        let at = of_process(Recording::default().event_at("{\"pid\": 1}", 1, 42).unwrap());
        assert_eq!((at.event_time, record(&at).collection_time), (42, 42));
    }

    #[test]
    fn every_table_of_events_can_be_recorded() {
        for (table, own) in [
            (
                Table::NetworkConnections,
                r#""event_type": "connect", "remote_address": "192.0.2.1", "remote_port": 443"#,
            ),
            (Table::FilesystemEvents, r#""event_type": "renamed", "path": "/a", "target_path": "/b", "size": 3"#),
            (Table::PerformanceSamples, r#""scope": "system", "metric": "load_1m", "value": 0.5"#),
            (Table::SecurityEvents, r#""event_type": "memory_exec", "object": "anonymous", "count": 3"#),
        ] {
            let (schema, name) = table.qualified_name();
            let lines = format!(
                "{{\"pid\": 7}}\n{{\"table\": \"{schema}.{name}\", \"pid\": 7, {own}, \"event_time\": \"2026-01-02T03:04:05Z\"}}"
            );
            let [process, event] = &parse_events(&lines).unwrap()[..] else { panic!("{lines}") };
            assert_eq!(event.table(), table);
            let row = event_to_json(event);
            assert_eq!(row["process_key"], Json::from(process.process().unwrap().process_key.as_str()), "{row:?}");
            assert_eq!(row["provenance"]["process_key"], Json::from("inferred"));
            let written = Json::Object(row).to_string();
            assert_eq!(parse_event(&written, 1).as_ref(), Ok(event), "{written}");
        }
        let error = |line: &str| parse_event(line, 3).unwrap_err().to_string();
        assert_eq!(error(r#"{"table": "filesystem.events", "size": 1}"#), "line 3: `path` is missing");
        assert_eq!(error(r#"{"table": "security.events", "pid": 1}"#), "line 3: `event_type` is missing");
        assert!(error(r#"{"table": "system.scans"}"#).contains("network.connections"));
        assert!(error(r#"{"table": "network.connections", "remote_prt": 1}"#).contains("`remote_port`"));
        assert!(error(r#"{"table": "network.connections", "event_type": "exec"}"#).contains("connect, accept"));
    }

    #[test]
    fn who_is_traced_is_found_by_its_pid() {
        let lines = "{\"pid\": 7}\n{\"pid\": 8}\n\
                     {\"table\": \"security.events\", \"event_type\": \"ptrace\", \"pid\": 7, \"target_pid\": 8}";
        let [tracer, traced, Event::Security(event)] = &parse_events(lines).unwrap()[..] else { panic!("{lines}") };
        let key = |event: &Event| event.process().map(|process| process.process_key.clone());
        assert_eq!([event.process_key.clone(), event.target_process_key.clone()], [tracer, traced].map(key));
        assert_eq!(event.provenance["target_process_key"], "inferred");
        assert_eq!(event.count, 1);
    }

    #[test]
    fn times_are_texts_or_numbers() {
        let at = |time: &str| parse_event(&format!("{{\"pid\": 1, \"event_time\": {time}}}"), 1).unwrap().time();
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
