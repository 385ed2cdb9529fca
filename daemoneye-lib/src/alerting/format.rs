//! How an alert is written.

use crate::models::columns::{ALERT, Column};
use crate::models::text::for_terminal;
use crate::models::time;
use crate::proto::common::Alert;
use serde_json::{Map, Value as Json};

/// All columns of the alert as a JSON object on one line: times in RFC 3339.
pub fn alert_json(alert: &Alert) -> String {
    let value = |column: &Column<Alert>| (column.name.to_owned(), (column.get)(alert).json(column.kind));
    let object: Map<String, Json> = ALERT.iter().map(value).collect();
    Json::Object(object).to_string()
}

/// The alert on one line for people: nothing of the host's text can disturb their terminal.
pub fn alert_line(alert: &Alert) -> String {
    let author = if alert.author.is_empty() { String::new() } else { format!(", rule by {}", alert.author) };
    let degraded = if alert.degraded_reasons.is_empty() { "" } else { " (degraded: see alerts show)" };
    let subject = if alert.process_key.is_empty() && alert.pid == 0 {
        alert.row.clone()
    } else {
        let (name, path) = (alert.name.as_deref().unwrap_or("?"), alert.executable_path.as_deref().unwrap_or("?"));
        format!("{name} [pid {}] {path}", alert.pid)
    };
    let line = format!(
        "{} ALERT {} {}: {subject} (alert {}, rule {}{author}){degraded}",
        time::rfc3339(alert.first_seen),
        alert.severity().name(),
        alert.title,
        alert.alert_id,
        alert.rule_id,
    );
    for_terminal(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_carries_every_column_and_structured_values() {
        let alert = Alert {
            alert_id: "a".into(),
            tags: vec!["t".into()],
            row: r#"{"pid":7}"#.into(),
            dedup_key: "[1]".into(),
            ..Alert::default()
        };
        let json: Json = serde_json::from_str(&alert_json(&alert)).unwrap();
        assert_eq!(json["row"]["pid"], 7);
        assert_eq!(json["first_seen"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(json["completeness"]["status"], "complete");
        assert_eq!(json["name"], Json::Null);
        assert_eq!(json.as_object().unwrap().len(), ALERT.len());
    }

    #[test]
    fn an_alert_without_a_process_shows_what_was_found() {
        let alert = Alert { row: r#"{"name":"ssh","failures":40}"#.into(), ..Alert::default() };
        let line = alert_line(&alert);
        assert!(line.contains(r#"{"name":"ssh","failures":40}"#) && !line.contains("pid 0"), "{line}");
        let json: Json = serde_json::from_str(&alert_json(&alert)).unwrap();
        assert_eq!((&json["pid"], &json["process_key"]), (&Json::Null, &Json::Null));
    }

    #[test]
    fn a_line_cannot_disturb_a_terminal() {
        let alert = Alert { name: Some("\u{1b}[2Jx\n".into()), ..Alert::default() };
        let line = alert_line(&alert);
        assert!(!line.contains(['\u{1b}', '\n']), "{line:?}");
    }
}
