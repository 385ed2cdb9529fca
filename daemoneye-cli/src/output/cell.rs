//! One cell as text.

use daemoneye_lib::proto::ipc::{Cell, cell};

/// The cell as SQL would print it; none for NULL.
pub(crate) fn plain(cell: &Cell) -> Option<String> {
    match cell.value.as_ref()? {
        cell::Value::Integer(number) => Some(number.to_string()),
        // As SQL writes it: a real number keeps its point.
        cell::Value::Real(number) => Some(format!("{number:?}")),
        cell::Value::Text(text) => Some(text.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_that_of_sql() {
        let plain = |value| plain(&Cell { value });
        assert_eq!(plain(Some(cell::Value::Real(3.0))).as_deref(), Some("3.0"));
        assert_eq!(plain(Some(cell::Value::Integer(-3))).as_deref(), Some("-3"));
        assert_eq!(plain(None), None);
    }
}
