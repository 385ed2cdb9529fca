//! Events in Sigma's fields, as the tables have them.
//!
//! The event is one of processes, unless a field of it is one of connections or of files only, or its key `table` says otherwise.
//! What has no column is in `platform_data` under its own name. `event_id`, `event_type`, `event_time` and keys that begin
//! with `_` stay what they are.

use super::fields::{At, fields_of, nearest};
use super::problem::shortened;
use crate::models::catalog::Table;
use serde_json::{Map, Value as Json};

/// The tables that Sigma's fields describe.
const TABLES: [Table; 3] = [Table::ProcessEvents, Table::NetworkConnections, Table::FilesystemEvents];
/// Keys that are not of Sigma.
const OWN: [&str; 4] = ["event_id", "event_type", "event_time", "table"];

/// Why an event cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventProblem {
    /// No table has such a field.
    #[error("unknown field `{field}` of Sigma{}", nearest.map(|nearest| format!("; the nearest known one is `{nearest}`")).unwrap_or_default())]
    UnknownField {
        /// As it was written.
        field: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// The field's values are of another kind.
    #[error("`{field}` is {value}, allowed is {allowed}")]
    Value {
        /// The field.
        field: String,
        /// The beginning of what was written.
        value: String,
        /// What may stand there.
        allowed: &'static str,
    },
}

/// The event as an object of columns, as `models::jsonl` reads it.
///
/// # Errors
/// What is wrong with a field.
pub fn columns(event: Map<String, Json>) -> Result<Map<String, Json>, EventProblem> {
    let table = table(&event)?;
    let mut row =
        Row { columns: Map::new(), platform: Map::new(), inward: event.get("Initiated").is_some_and(is_false) };
    if table == Table::ProcessEvents {
        row.columns.insert("pid".to_owned(), 0.into());
    } else {
        let (schema, name) = table.qualified_name();
        row.columns.insert("table".to_owned(), format!("{schema}.{name}").into());
    }
    for (field, value) in event {
        if is_own(&field) {
            row.columns.insert(field, value);
        } else if !value.is_null() {
            row.set(table, &field, value)?;
        }
    }
    if !row.platform.is_empty() {
        row.columns.insert("platform_data".to_owned(), Json::Object(row.platform));
    }
    Ok(row.columns)
}

fn is_own(field: &str) -> bool {
    field.starts_with('_') || OWN.contains(&field)
}

fn is_false(value: &Json) -> bool {
    match value {
        Json::Bool(truth) => !truth,
        Json::String(text) => text.eq_ignore_ascii_case("false"),
        _ => false,
    }
}

/// The table whose fields the event has.
fn table(event: &Map<String, Json>) -> Result<Table, EventProblem> {
    if let Some(named) = event.get("table") {
        let named = named.as_str().and_then(Table::find).map(|table| table.events().unwrap_or(table));
        return named.filter(|table| TABLES.contains(table)).ok_or_else(|| EventProblem::Value {
            field: "table".to_owned(),
            value: shown(&event["table"]),
            allowed: "one of processes.events, network.connections, filesystem.events",
        });
    }
    let unknown = |table| event.keys().find(|field| !is_own(field) && find(table, field).is_none());
    if let Some(table) = TABLES.into_iter().find(|table| unknown(*table).is_none()) {
        return Ok(table);
    }
    // The field that no table has is the one that is mistaken; otherwise fields of different tables are mixed.
    let nowhere = event.keys().find(|field| !is_own(field) && TABLES.iter().all(|table| find(*table, field).is_none()));
    let field = nowhere.or_else(|| unknown(Table::ProcessEvents)).cloned().unwrap_or_default();
    let all = TABLES.iter().flat_map(|table| fields_of(*table)).flat_map(|fields| fields.iter()).map(|(name, _)| *name);
    Err(EventProblem::UnknownField { nearest: nearest(&field, all), field: shortened(&field) })
}

fn find(table: Table, field: &str) -> Option<At> {
    let mut fields = fields_of(table).into_iter().flat_map(|fields| fields.iter());
    fields.find(|(own, _)| *own == field).map(|(_, at)| *at)
}

fn shown(value: &Json) -> String {
    shortened(&value.to_string())
}

struct Row {
    columns: Map<String, Json>,
    platform: Map<String, Json>,
    /// Whether the other side began the connection.
    inward: bool,
}

impl Row {
    fn set(&mut self, table: Table, field: &str, value: Json) -> Result<(), EventProblem> {
        let wrong = |allowed| EventProblem::Value { field: field.to_owned(), value: shown(&value), allowed };
        let text = match &value {
            Json::String(text) => text.clone(),
            Json::Number(number) => number.to_string(),
            Json::Bool(truth) => truth.to_string(),
            _ => return Err(wrong("a text or a number")),
        };
        let at =
            find(table, field).ok_or_else(|| EventProblem::UnknownField { field: shortened(field), nearest: None })?;
        let (ours, theirs) = if self.inward { ("remote", "local") } else { ("local", "remote") };
        let (column, is_number) = match (field, at) {
            ("Initiated", _) => {
                let direction = match text.to_ascii_lowercase().as_str() {
                    "true" => "out",
                    "false" => "in",
                    _ => return Err(wrong("true or false")),
                };
                self.columns.insert("direction".to_owned(), direction.into());
                return Ok(());
            }
            ("SourceIsIpv6" | "DestinationIsIpv6", _) => {
                let family = if is_false(&value) { "ipv4" } else { "ipv6" };
                self.columns.insert("family".to_owned(), family.into());
                return Ok(());
            }
            ("SourceIp", _) => (format!("{ours}_address"), false),
            ("DestinationIp", _) => (format!("{theirs}_address"), false),
            ("SourcePort", _) => (format!("{ours}_port"), true),
            ("DestinationPort", _) => (format!("{theirs}_port"), true),
            (_, At::Platform) => {
                self.platform.insert(field.to_owned(), text.into());
                return Ok(());
            }
            (_, At::Login) => {
                // A number of the login; what Windows calls so is no number of this kind.
                let number = text.parse::<u32>().ok().filter(|number| number.to_string() == text);
                self.columns.extend(number.map(|number| ("loginuid".to_owned(), number.into())));
                self.platform.insert(field.to_owned(), text.into());
                return Ok(());
            }
            // Put together of columns: what an event says stands in its own place.
            (_, At::Text(sql)) if sql.contains(' ') => {
                self.platform.insert(field.to_owned(), text.into());
                return Ok(());
            }
            (_, At::Text(column) | At::Time(column)) => (column.to_owned(), false),
            (_, At::Integer(column)) => (column.to_owned(), true),
        };
        let value = if is_number {
            text.parse::<u32>().map_err(|_| wrong("a whole number from 0 to 4294967295"))?.into()
        } else {
            text.into()
        };
        if column == "executable_hash" {
            self.columns.insert("hash_algorithm".to_owned(), "sha256".into());
        }
        self.columns.insert(column, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::jsonl::Recording;
    use serde_json::json;

    fn of(event: Json) -> Result<Json, String> {
        let Json::Object(event) = event else { panic!("{event}") };
        let row = columns(event).map_err(|problem| problem.to_string())?;
        Recording::default().event_of(row.clone(), 1).map_err(|error| error.to_string())?;
        Ok(Json::Object(row))
    }

    #[test]
    fn fields_become_columns() {
        let wanted = json!({
            "event_id": "e-1", "pid": 7, "executable_path": "/bin/sh", "command_line": "sh", "loginuid": 0,
            "platform_data": {"LogonId": "0", "OriginalFileName": "sh.exe", "EventID": "1"},
        });
        let own = json!({
            "event_id": "e-1", "Image": "/bin/sh", "CommandLine": "sh", "LogonId": "0", "OriginalFileName": "sh.exe",
            "EventID": 1, "ProcessId": "7", "User": null,
        });
        assert_eq!(of(own), Ok(wanted));
        assert_eq!(of(json!({"LogonId": "0x3e7"})), Ok(json!({"pid": 0, "platform_data": {"LogonId": "0x3e7"}})));
        assert_eq!(of(json!({"LogonId": ""})), Ok(json!({"pid": 0, "platform_data": {"LogonId": ""}})));
    }

    #[test]
    fn the_fields_tell_the_table() {
        let connection =
            json!({"Image": "/x", "Initiated": "false", "DestinationIp": "192.0.2.1", "DestinationPort": 22});
        let wanted = json!({"table": "network.connections", "executable_path": "/x", "direction": "in",
            "local_address": "192.0.2.1", "local_port": 22});
        assert_eq!(of(connection), Ok(wanted));
        let file = json!({"TargetFilename": "/etc/x", "UtcTime": "2026-01-02 03:04:05.000"});
        let wanted = json!({"table": "filesystem.events", "path": "/etc/x", "event_time": "2026-01-02 03:04:05.000"});
        assert_eq!(of(file), Ok(wanted));
    }

    #[test]
    fn what_is_unknown_is_named() {
        for (event, why) in [
            (json!({"Imgae": "/x"}), "unknown field `Imgae` of Sigma; the nearest known one is `Image`"),
            (json!({"CommandLine": "x", "TargetFilename": "/x"}), "unknown field `TargetFilename`"),
            (json!({"ProcessId": "x"}), "`ProcessId` is \"x\", allowed is a whole number"),
            (json!({"Image": ["x"]}), "`Image` is [\"x\"], allowed is a text"),
            (json!({"table": "alerts"}), "`table` is \"alerts\""),
            (json!({"Initiated": "maybe"}), "allowed is true or false"),
        ] {
            let problem = of(event.clone()).unwrap_err();
            assert!(problem.contains(why), "{event}: {problem}");
        }
    }
}
