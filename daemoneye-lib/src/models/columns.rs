//! The columns of every table, in the order in which `SELECT *` shows them, each with the way to read it from its record.
//!
//! One list per table drives the store's blocks, the catalog that queries are checked against, and the shape of results.

use crate::models::event::{Event, IdentifiedEvent};
use crate::models::time;
use crate::proto::common::{Alert, FilesystemEvent, NetworkEvent, PerformanceSample, ProcessRecord, SecurityEvent};
use crate::proto::ipc::{Cell, ColumnKind, cell};
use serde::Serialize;
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Unknown, or not there.
    Null,
    /// Text, or a JSON document as text.
    Text(Cow<'a, str>),
    /// A number; 0 or 1 for a boolean; nanoseconds since 1970-01-01 UTC for a time.
    Integer(i64),
    /// A real number.
    Real(f64),
}

impl Value<'_> {
    /// The value as JSON shows it, by the kind of its column: times in RFC 3339, booleans as themselves, documents as what
    /// they are. What does not fit the kind stays what it is; a real number that is not finite, which JSON has not, is null.
    pub fn json(self, kind: ColumnKind) -> Json {
        match (kind, self) {
            (_, Self::Null) => Json::Null,
            (ColumnKind::Boolean, Self::Integer(bit @ (0 | 1))) => (bit == 1).into(),
            (ColumnKind::Time, Self::Integer(ns)) => time::rfc3339(ns).into(),
            (ColumnKind::Time, Self::Text(text)) => {
                time::parse(&text).map_or_else(|| Json::from(text), |ns| time::rfc3339(ns).into())
            }
            (ColumnKind::Json, Self::Text(text)) => serde_json::from_str(&text).unwrap_or_else(|_| Json::from(text)),
            (_, Self::Text(text)) => text.into(),
            (_, Self::Integer(number)) => number.into(),
            (_, Self::Real(number)) => number.into(),
        }
    }
}

impl<'a> From<&'a Cell> for Value<'a> {
    /// A cell has its time as the text that SQL sees.
    fn from(cell: &'a Cell) -> Self {
        match &cell.value {
            None => Self::Null,
            Some(cell::Value::Text(text)) => Self::from(text.as_str()),
            Some(cell::Value::Integer(number)) => Self::Integer(*number),
            Some(cell::Value::Real(number)) => Self::Real(*number),
        }
    }
}

/// A column of the table whose rows are read from `R`.
pub struct Column<R> {
    /// The name in SQL.
    pub name: &'static str,
    /// What its values are.
    pub kind: ColumnKind,
    /// Reads the value from a record.
    pub get: for<'a> fn(&'a R) -> Value<'a>,
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a Option<String>> for Value<'a> {
    fn from(text: &'a Option<String>) -> Self {
        text.as_deref().map_or(Self::Null, Self::from)
    }
}

impl From<u64> for Value<'_> {
    /// Counts beyond `i64::MAX` do not occur in what a kernel reports; they saturate.
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

macro_rules! from_integer {
    ($($number:ty),*) => {$(
        impl From<$number> for Value<'_> {
            fn from(number: $number) -> Self {
                Self::Integer(number.into())
            }
        }
    )*};
}
from_integer!(bool, i32, u32, i64);

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

macro_rules! from_optional {
    ($($number:ty),*) => {$(
        impl From<Option<$number>> for Value<'_> {
            fn from(number: Option<$number>) -> Self {
                number.map_or(Self::Null, Self::from)
            }
        }
    )*};
}
from_optional!(bool, i32, u32, i64, u64, f64);

/// A JSON object, or NULL where it is empty.
fn object<V: Serialize>(entries: &BTreeMap<String, V>) -> Value<'static> {
    if entries.is_empty() { Value::Null } else { document(entries) }
}

/// A JSON array of texts.
pub fn array<S: AsRef<str>>(texts: &[S]) -> Value<'static> {
    document(&texts.iter().map(AsRef::as_ref).collect::<Vec<_>>())
}

/// Maps with texts as keys, texts and numbers always have a form in JSON.
fn document(value: &impl Serialize) -> Value<'static> {
    serde_json::to_string(value).map_or(Value::Null, |text| Value::Text(Cow::Owned(text)))
}

macro_rules! columns {
    ($($name:ident $kind:ident = |$row:ident| $get:expr;)*) => {
        &[$(Column { name: stringify!($name), kind: ColumnKind::$kind, get: |$row| Value::from($get) }),*]
    };
}

/// The columns of a process row.
pub static PROCESS: &[Column<ProcessRecord>] = columns! {
    process_key Text = |p| p.process_key.as_str();
    parent_key Text = |p| &p.parent_key;
    pid Integer = |p| p.pid;
    ppid Integer = |p| p.ppid;
    name Text = |p| &p.name;
    executable_path Text = |p| &p.executable_path;
    command_line Text = |p| &p.command_line;
    cwd Text = |p| &p.cwd;
    start_time Time = |p| p.start_time;
    end_time Time = |p| p.end_time;
    exit_code Integer = |p| p.exit_code;
    uid Integer = |p| p.uid;
    gid Integer = |p| p.gid;
    euid Integer = |p| p.euid;
    user Text = |p| &p.user;
    session_id Integer = |p| p.session_id;
    tty Text = |p| &p.tty;
    status Text = |p| &p.status;
    cpu_usage Real = |p| p.cpu_usage;
    memory_usage Integer = |p| p.memory_usage;
    executable_hash Text = |p| &p.executable_hash;
    hash_algorithm Text = |p| &p.hash_algorithm;
    fuzzy_hash Text = |p| &p.fuzzy_hash;
    file_exists Boolean = |p| p.file_exists;
    image_mismatch Boolean = |p| p.image_mismatch;
    parent_name Text = |p| &p.parent_name;
    parent_executable_path Text = |p| &p.parent_executable_path;
    parent_command_line Text = |p| &p.parent_command_line;
    container_id Text = |p| &p.container_id;
    cgroup Text = |p| &p.cgroup;
    namespaces Json = |p| object(&p.namespaces);
    platform_data Json = |p| object(&p.platform_data);
    argv Json = |p| p.argv.as_ref().map_or(Value::Null, |argv| array(&argv.values));
    invoked_path Text = |p| &p.invoked_path;
    command_line_truncated Boolean = |p| p.command_line_truncated;
    egid Integer = |p| p.egid;
    loginuid Integer = |p| p.loginuid;
    audit_session Integer = |p| p.audit_session;
    exit_signal Integer = |p| p.exit_signal;
    cpu_time_ns Integer = |p| p.cpu_time_ns;
    max_rss Integer = |p| p.max_rss;
    environment Json = |p| object(&p.environment);
    source Text = |p| p.source.as_str();
    provenance Json = |p| object(&p.provenance);
    collection_time Time = |p| p.collection_time;
};

/// The columns with which an event row of any domain begins.
pub static EVENT: &[Column<IdentifiedEvent>] = columns! {
    event_id Text = |e| e.event_id.as_str();
    event_type Text = |e| e.event.type_name();
    event_time Time = |e| e.event.time();
};

/// The columns that follow in `network.connections`.
pub static NETWORK: &[Column<NetworkEvent>] = columns! {
    process_key Text = |n| &n.process_key;
    parent_key Text = |n| &n.parent_key;
    pid Integer = |n| n.pid;
    name Text = |n| &n.name;
    executable_path Text = |n| &n.executable_path;
    uid Integer = |n| n.uid;
    user Text = |n| &n.user;
    protocol Text = |n| &n.protocol;
    family Text = |n| &n.family;
    local_address Text = |n| &n.local_address;
    local_port Integer = |n| n.local_port;
    remote_address Text = |n| &n.remote_address;
    remote_port Integer = |n| n.remote_port;
    direction Text = |n| &n.direction;
    state Text = |n| &n.state;
    bytes_sent Integer = |n| n.bytes_sent;
    bytes_received Integer = |n| n.bytes_received;
    inode Integer = |n| n.inode;
    namespace Integer = |n| n.namespace;
    container_id Text = |n| &n.container_id;
    platform_data Json = |n| object(&n.platform_data);
    source Text = |n| n.source.as_str();
    provenance Json = |n| object(&n.provenance);
    collection_time Time = |n| n.collection_time;
};

/// The columns that follow in `filesystem.events`.
pub static FILESYSTEM: &[Column<FilesystemEvent>] = columns! {
    process_key Text = |f| &f.process_key;
    parent_key Text = |f| &f.parent_key;
    pid Integer = |f| f.pid;
    name Text = |f| &f.name;
    executable_path Text = |f| &f.executable_path;
    uid Integer = |f| f.uid;
    user Text = |f| &f.user;
    path Text = |f| f.path.as_str();
    target_path Text = |f| &f.target_path;
    file_type Text = |f| &f.file_type;
    size Integer = |f| f.size;
    mode Integer = |f| f.mode;
    owner_uid Integer = |f| f.owner_uid;
    owner_gid Integer = |f| f.owner_gid;
    inode Integer = |f| f.inode;
    device Integer = |f| f.device;
    modified_time Time = |f| f.modified_time;
    file_hash Text = |f| &f.file_hash;
    hash_algorithm Text = |f| &f.hash_algorithm;
    container_id Text = |f| &f.container_id;
    platform_data Json = |f| object(&f.platform_data);
    source Text = |f| f.source.as_str();
    provenance Json = |f| object(&f.provenance);
    collection_time Time = |f| f.collection_time;
};

/// The columns that follow in `performance.samples`.
pub static PERFORMANCE: &[Column<PerformanceSample>] = columns! {
    process_key Text = |s| &s.process_key;
    parent_key Text = |s| &s.parent_key;
    pid Integer = |s| s.pid;
    name Text = |s| &s.name;
    executable_path Text = |s| &s.executable_path;
    uid Integer = |s| s.uid;
    user Text = |s| &s.user;
    scope Text = |s| s.scope.as_str();
    metric Text = |s| s.metric.as_str();
    value Real = |s| s.value;
    unit Text = |s| &s.unit;
    interval_ms Integer = |s| s.interval_ms;
    device Text = |s| &s.device;
    container_id Text = |s| &s.container_id;
    platform_data Json = |s| object(&s.platform_data);
    source Text = |s| s.source.as_str();
    provenance Json = |s| object(&s.provenance);
    collection_time Time = |s| s.collection_time;
};

/// The columns that follow in `security.events`.
pub static SECURITY: &[Column<SecurityEvent>] = columns! {
    process_key Text = |s| &s.process_key;
    parent_key Text = |s| &s.parent_key;
    pid Integer = |s| s.pid;
    name Text = |s| &s.name;
    executable_path Text = |s| &s.executable_path;
    uid Integer = |s| s.uid;
    user Text = |s| &s.user;
    target_process_key Text = |s| &s.target_process_key;
    target_pid Integer = |s| s.target_pid;
    target_name Text = |s| &s.target_name;
    object Text = |s| &s.object;
    count Integer = |s| s.count.max(1);
    old_uid Integer = |s| s.old_uid;
    new_uid Integer = |s| s.new_uid;
    old_euid Integer = |s| s.old_euid;
    new_euid Integer = |s| s.new_euid;
    container_id Text = |s| &s.container_id;
    platform_data Json = |s| object(&s.platform_data);
    source Text = |s| s.source.as_str();
    provenance Json = |s| object(&s.provenance);
    collection_time Time = |s| s.collection_time;
};

/// The columns of an alert row.
pub static ALERT: &[Column<Alert>] = columns! {
    alert_id Text = |a| a.alert_id.as_str();
    rule_id Text = |a| a.rule_id.as_str();
    title Text = |a| a.title.as_str();
    severity Text = |a| a.severity().name();
    status Text = |a| a.status.as_str();
    first_seen Time = |a| a.first_seen;
    last_seen Time = |a| a.last_seen;
    count Integer = |a| a.count;
    dedup_key Json = |a| a.dedup_key.as_str();
    tags Json = |a| array(&a.tags);
    author Text = |a| a.author.as_str();
    // A row that names no process, such as a count, has neither.
    process_key Text = |a| Some(a.process_key.as_str()).filter(|key| !key.is_empty()).map_or(Value::Null, Value::from);
    pid Integer = |a| (a.pid > 0).then_some(a.pid);
    name Text = |a| &a.name;
    executable_path Text = |a| &a.executable_path;
    row Json = |a| a.row.as_str();
    event_ids Json = |a| array(&a.event_ids);
    completeness Json = |a| completeness(&a.degraded_reasons);
    false_positives Json = |a| array(&a.false_positives);
    references Json = |a| array(&a.references);
    license Text = |a| Some(a.license.as_str()).filter(|license| !license.is_empty()).map_or(Value::Null, Value::from);
};

/// `{"status":"complete|degraded","reasons":[…]}`, as results and alerts carry it.
pub fn completeness(degraded_reasons: &[String]) -> Value<'static> {
    let status = if degraded_reasons.is_empty() { "complete" } else { "degraded" };
    Value::Text(Cow::Owned(serde_json::json!({ "status": status, "reasons": degraded_reasons }).to_string()))
}

/// The value of a column by its place in the row of an event of any domain: the columns of [`EVENT`] come first.
pub fn event_value(event: &IdentifiedEvent, column: usize) -> Value<'_> {
    if let Some(own) = EVENT.get(column) {
        return (own.get)(event);
    }
    let column = column - EVENT.len();
    match &event.event {
        Event::Process(event) => event.process.as_ref().map_or(Value::Null, |process| value(PROCESS, process, column)),
        Event::Network(event) => value(NETWORK, event, column),
        Event::Filesystem(event) => value(FILESYSTEM, event, column),
        Event::Performance(sample) => value(PERFORMANCE, sample, column),
        Event::Security(event) => value(SECURITY, event, column),
    }
}

/// The value of a column by its place; NULL beyond the last.
pub fn value<'r, R>(columns: &[Column<R>], record: &'r R, column: usize) -> Value<'r> {
    columns.get(column).map_or(Value::Null, |own| (own.get)(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::common::{Arguments, ProcessEvent};

    #[test]
    fn process_columns_follow_the_order_of_the_contract() {
        let names: Vec<_> = PROCESS.iter().map(|column| column.name).collect();
        let contract = "process_key, parent_key, pid, ppid, name, executable_path, command_line, cwd, start_time, end_time, \
            exit_code, uid, gid, euid, user, session_id, tty, status, cpu_usage, memory_usage, executable_hash, \
            hash_algorithm, fuzzy_hash, file_exists, image_mismatch, parent_name, parent_executable_path, \
            parent_command_line, container_id, cgroup, namespaces, platform_data, argv, invoked_path, \
            command_line_truncated, egid, loginuid, audit_session, exit_signal, cpu_time_ns, max_rss, environment, source, \
            provenance, collection_time";
        assert_eq!(names.join(", "), contract);
    }

    #[test]
    fn unknown_is_null_and_known_is_itself() {
        let mut record = ProcessRecord { pid: 7, ..ProcessRecord::default() };
        let value = |record: &ProcessRecord, name: &str| {
            let column = PROCESS.iter().find(|column| column.name == name).unwrap();
            format!("{:?}", (column.get)(record))
        };
        assert_eq!(value(&record, "argv"), "Null");
        assert_eq!(value(&record, "namespaces"), "Null");
        record.argv = Some(Arguments { values: vec!["a\"b".into(), String::new()] });
        record.namespaces.insert("pid".into(), 3);
        record.file_exists = Some(false);
        assert_eq!(value(&record, "argv"), r#"Text("[\"a\\\"b\",\"\"]")"#);
        assert_eq!(value(&record, "namespaces"), r#"Text("{\"pid\":3}")"#);
        assert_eq!(value(&record, "file_exists"), "Integer(0)");
    }

    #[test]
    fn json_follows_the_kind_of_the_column() {
        use serde_json::json;
        let of = |kind, value: cell::Value| Value::from(&Cell { value: Some(value) }).json(kind);
        let text = |kind, text: &str| of(kind, cell::Value::Text(text.to_owned()));
        let real = |real| of(ColumnKind::Real, cell::Value::Real(real));
        let boolean = |bit| of(ColumnKind::Boolean, cell::Value::Integer(bit));
        assert_eq!(text(ColumnKind::Time, "2026-01-02 03:04:05.000006"), json!("2026-01-02T03:04:05.000006Z"));
        assert_eq!(text(ColumnKind::Time, "soon"), json!("soon"));
        assert_eq!(text(ColumnKind::Text, "2026-01-02 03:04:05.000006"), json!("2026-01-02 03:04:05.000006"));
        assert_eq!(text(ColumnKind::Json, r#"{"a":[1]}"#), json!({"a": [1]}));
        assert_eq!(text(ColumnKind::Json, "{"), json!("{"));
        assert_eq!([boolean(0), boolean(1), boolean(2)], [json!(false), json!(true), json!(2)]);
        assert_eq!([real(1.5), real(f64::NAN), real(f64::INFINITY)], [json!(1.5), json!(null), json!(null)]);
        assert_eq!(Value::from(&Cell { value: None }).json(ColumnKind::Json), json!(null));
        assert_eq!(Value::Integer(1_000).json(ColumnKind::Time), json!("1970-01-01T00:00:00.000001Z"));
    }

    #[test]
    fn an_event_row_is_its_own_columns_and_its_process() {
        let record = ProcessRecord { pid: 7, ..ProcessRecord::default() };
        let event = IdentifiedEvent {
            event_id: "e-1".into(),
            event: ProcessEvent { event_type: 4, event_time: 9, process: Some(record) }.into(),
        };
        assert_eq!(event_value(&event, 1), Value::from("seen"));
        assert_eq!(event_value(&event, EVENT.len() + 2), Value::Integer(7));
    }

    #[test]
    fn an_event_of_another_domain_is_its_own_columns_and_its_message() {
        let message = NetworkEvent { event_type: 1, event_time: 9, remote_port: Some(443), ..NetworkEvent::default() };
        let event = IdentifiedEvent { event_id: "e-1".into(), event: message.into() };
        let place = NETWORK.iter().position(|column| column.name == "remote_port").unwrap();
        assert_eq!(event_value(&event, 1), Value::from("connect"));
        assert_eq!(event_value(&event, EVENT.len() + place), Value::Integer(443));
        assert_eq!(event_value(&event, EVENT.len() + NETWORK.len()), Value::Null);
    }
}
