//! One cell, as text and as JSON.

use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, cell};
use serde_json::Value;

/// The cell as SQL would print it; none for NULL.
pub(crate) fn plain(cell: &Cell) -> Option<String> {
    match cell.value.as_ref()? {
        cell::Value::Integer(number) => Some(number.to_string()),
        // As SQL writes it: a real number keeps its point.
        cell::Value::Real(number) => Some(format!("{number:?}")),
        cell::Value::Text(text) => Some(text.clone()),
    }
}

/// The cell as JSON, by the kind of its column. What does not fit the kind stays what it is.
pub(super) fn json(kind: ColumnKind, cell: Cell) -> Value {
    match (kind, cell.value) {
        (_, None) => Value::Null,
        (ColumnKind::Boolean, Some(cell::Value::Integer(bit @ (0 | 1)))) => Value::Bool(bit == 1),
        (ColumnKind::Time, Some(cell::Value::Text(text))) => {
            Value::String(time::parse(&text).map_or(text, time::rfc3339))
        }
        (ColumnKind::Json, Some(cell::Value::Text(text))) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        (_, Some(cell::Value::Integer(number))) => Value::from(number),
        // JSON has no infinities: they become null.
        (_, Some(cell::Value::Real(number))) => Value::from(number),
        (_, Some(cell::Value::Text(text))) => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_follows_the_kind_of_the_column() {
        let text = |kind, text: &str| json(kind, Cell { value: Some(cell::Value::Text(text.to_owned())) });
        let real = |real| json(ColumnKind::Real, Cell { value: Some(cell::Value::Real(real)) });
        let boolean = |bit| json(ColumnKind::Boolean, Cell { value: Some(cell::Value::Integer(bit)) });
        assert_eq!(text(ColumnKind::Time, "2026-01-02 03:04:05.000006"), json!("2026-01-02T03:04:05.000006Z"));
        assert_eq!(text(ColumnKind::Time, "soon"), json!("soon"));
        assert_eq!(text(ColumnKind::Text, "2026-01-02 03:04:05.000006"), json!("2026-01-02 03:04:05.000006"));
        assert_eq!(text(ColumnKind::Json, r#"{"a":[1]}"#), json!({"a": [1]}));
        assert_eq!(text(ColumnKind::Json, "{"), json!("{"));
        assert_eq!([boolean(0), boolean(1), boolean(2)], [json!(false), json!(true), json!(2)]);
        assert_eq!([real(1.5), real(f64::NAN), real(f64::INFINITY)], [json!(1.5), json!(null), json!(null)]);
        assert_eq!(json(ColumnKind::Json, Cell { value: None }), json!(null));
    }

    #[test]
    fn plain_text_is_that_of_sql() {
        let plain = |value| plain(&Cell { value });
        assert_eq!(plain(Some(cell::Value::Real(3.0))).as_deref(), Some("3.0"));
        assert_eq!(plain(Some(cell::Value::Integer(-3))).as_deref(), Some("-3"));
        assert_eq!(plain(None), None);
    }
}
