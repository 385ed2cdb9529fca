//! `--param`: values for the parameters of a query.
//!
//! `name=value` is a named value only when the SQL has a parameter of that name (`:name`, `@name`, `$name`) outside of
//! strings and comments; everything else is the next positional value, so that `--param a=b` can be a value with `=` in it.

use daemoneye_lib::proto::ipc::{Cell, QueryParameter, cell};
use std::collections::BTreeSet;

/// What the arguments of `--param` mean for this SQL, in their order.
pub(crate) fn bind(sql: &str, arguments: &[String]) -> Vec<QueryParameter> {
    let names = names_in(sql);
    let parameter = |argument: &String| match argument.split_once('=') {
        Some((name, value)) if names.contains(name) => {
            QueryParameter { name: name.to_owned(), value: Some(cell(value)) }
        }
        _ => QueryParameter { name: String::new(), value: Some(cell(argument)) },
    };
    arguments.iter().map(parameter).collect()
}

/// A positional value.
pub(crate) fn text(value: &str) -> QueryParameter {
    QueryParameter { name: String::new(), value: Some(Cell { value: Some(cell::Value::Text(value.to_owned())) }) }
}

/// A value has the type that it would have in SQL: `7` is an integer, `7.5` and `1e3` are reals, all else is text. Digits
/// behind a leading zero or plus sign are text: as numbers they would lose it.
fn cell(text: &str) -> Cell {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let leading = digits.as_bytes();
    let numeric = leading.first().is_some_and(u8::is_ascii_digit)
        && !(leading.first() == Some(&b'0') && leading.get(1).is_some_and(u8::is_ascii_digit))
        && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let value = if !numeric {
        cell::Value::Text(text.to_owned())
    } else if let Ok(integer) = text.parse() {
        cell::Value::Integer(integer)
    } else {
        match text.parse::<f64>() {
            Ok(real) if real.is_finite() => cell::Value::Real(real),
            _ => cell::Value::Text(text.to_owned()),
        }
    };
    Cell { value: Some(value) }
}

/// The names of the parameters in a text of SQL, without their sign. Strings, quoted names and comments are skipped.
fn names_in(sql: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let behind = &rest[first.len_utf8()..];
        rest = match first {
            '\'' | '"' | '`' => after(behind, &first.to_string()),
            '[' => after(behind, "]"),
            '-' if behind.starts_with('-') => after(behind, "\n"),
            '/' if behind.starts_with('*') => after(&behind[1..], "*/"),
            ':' | '@' | '$' => {
                let end = behind.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(behind.len());
                let (name, behind) = behind.split_at(end);
                if !name.is_empty() {
                    names.insert(name);
                }
                behind
            }
            _ => behind,
        };
    }
    names
}

/// What follows the end mark; nothing when it is missing. A doubled quote is two strings side by side, which is as good.
fn after<'a>(text: &'a str, end: &str) -> &'a str {
    text.split_once(end).map_or("", |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bound(sql: &str, arguments: &[&str]) -> Vec<(String, cell::Value)> {
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        bind(sql, &arguments).into_iter().map(|p| (p.name, p.value.unwrap().value.unwrap())).collect()
    }

    #[test]
    fn a_name_counts_only_where_the_sql_has_it() {
        let text = |text: &str| cell::Value::Text(text.to_owned());
        assert_eq!(bound("name = :n", &["n=sh"]), [("n".to_owned(), text("sh"))]);
        assert_eq!(
            bound("name = @n OR x = $m", &["m=1", "n=a=b"]),
            [("m".to_owned(), cell::Value::Integer(1)), ("n".to_owned(), text("a=b")),]
        );
        for sql in ["name = ?", "name = ':n'", "name = \":n\" -- :n", "/* :n */ ?", "[:n]", "'it''s :n'"] {
            assert_eq!(bound(sql, &["n=sh"]), [(String::new(), text("n=sh"))], "{sql}");
        }
    }

    #[test]
    fn values_have_the_type_of_their_form() {
        let value = |argument: &str| bound("?", &[argument]).remove(0).1;
        let text = |text: &str| cell::Value::Text(text.to_owned());
        assert_eq!(value("7"), cell::Value::Integer(7));
        assert_eq!(value("-7"), cell::Value::Integer(-7));
        assert_eq!(value("0"), cell::Value::Integer(0));
        assert_eq!(value("7.5"), cell::Value::Real(7.5));
        assert_eq!(value("-1e3"), cell::Value::Real(-1000.0));
        assert_eq!(value("0.5"), cell::Value::Real(0.5));
        assert_eq!(value("9223372036854775808"), cell::Value::Real(9_223_372_036_854_775_808.0));
        for word in ["", "007", "+7", "nan", "inf", "-inf", "1e999", "1-2", "10.0.0.1", "0x10", ".5", "-", "2026-01-01"]
        {
            assert_eq!(value(word), text(word), "{word}");
        }
    }

    proptest! {
        #[test]
        fn any_sql_is_read(sql: String, argument: String) {
            prop_assert_eq!(bind(&sql, &[argument]).len(), 1);
        }
    }
}
