//! Functions of DaemonEye's own: texts looked for without regard to case, networks, the texts of a JSON document.
//!
//! Case is what Unicode's lower case says of all letters, as in Sigma: both sides are lowered, then compared. What is looked for
//! stands behind the text; one of several is enough. Constants are prepared once for all rows.

use super::{Cell, Column, constant_text};
use crate::detection::matching::Pattern;
use datafusion::arrow::array::BooleanArray;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use serde_json::Value as Json;
use std::sync::Arc;

type Given<'a> = &'a [Cell<'a>];
type Called<'a> = std::result::Result<Cell<'a>, String>;

/// The functions whose second and further arguments are what is looked for.
pub(in crate::detection) const SEARCHES: [&str; 5] =
    ["cidr_match", "icontains", "iends_with", "iequals", "istarts_with"];

/// What a call with constants looks for, and about how many bytes that takes.
///
/// # Errors
/// What is wrong with a constant.
pub(in crate::detection) fn search<S: AsRef<str>>(
    function: &str,
    wanted: &[S],
) -> std::result::Result<(Pattern, usize), String> {
    let pattern = match function {
        "cidr_match" => Pattern::networks(wanted)?,
        "icontains" => Pattern::contains(wanted),
        "iends_with" => Pattern::ends_with(wanted),
        "iequals" => Pattern::equals(wanted),
        _ => Pattern::starts_with(wanted),
    };
    let weight = pattern.weight();
    Ok((pattern, weight))
}

/// The result of a search whose constants are the same for all rows; `None` for every other call.
pub(super) fn with_constants(function: &str, arguments: &[ColumnarValue]) -> Result<Option<ColumnarValue>> {
    let [ColumnarValue::Array(texts), wanted @ ..] = arguments else { return Ok(None) };
    if !SEARCHES.contains(&function) {
        return Ok(None);
    }
    let Some(constants) = wanted.iter().map(constant_text).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let texts = Column::new(texts)?;
    let rows = match &texts {
        Column::Null => return Ok(None),
        Column::Text(array) | Column::Integer(array) | Column::Real(array) => array.len(),
    };
    let has_null = constants.iter().any(Option::is_none);
    let constants: Vec<String> = constants.into_iter().flatten().collect();
    let (pattern, _) = search(function, &constants).map_err(DataFusionError::Execution)?;
    let met = |row| Some(pattern.matches(&texts.cell(row).text()?)).filter(|met| *met || !has_null);
    let matches: BooleanArray = (0..rows).map(met).collect();
    Ok(Some(ColumnarValue::Array(Arc::new(matches))))
}

fn searched<'a>(function: &str, cells: Given<'_>) -> Called<'a> {
    let mut texts = cells.iter().map(Cell::text);
    let Some(Some(text)) = texts.next() else { return Ok(Cell::Null) };
    let (mut has_null, mut wanted) = (false, Vec::with_capacity(cells.len()));
    for one in texts {
        match one {
            Some(one) => wanted.push(one),
            None => has_null = true,
        }
    }
    let met = search(function, &wanted)?.0.matches(&text);
    Ok(if has_null && !met { Cell::Null } else { Cell::Integer(i64::from(met)) })
}

pub(super) fn cidr_match<'a>(cells: Given<'a>) -> Called<'a> {
    searched("cidr_match", cells)
}

pub(super) fn icontains<'a>(cells: Given<'a>) -> Called<'a> {
    searched("icontains", cells)
}

pub(super) fn iends_with<'a>(cells: Given<'a>) -> Called<'a> {
    searched("iends_with", cells)
}

pub(super) fn iequals<'a>(cells: Given<'a>) -> Called<'a> {
    searched("iequals", cells)
}

pub(super) fn istarts_with<'a>(cells: Given<'a>) -> Called<'a> {
    searched("istarts_with", cells)
}

/// The number that the whole text is; NULL where it is none.
pub(super) fn number<'a>(cells: Given<'a>) -> Called<'a> {
    Ok(match cells.first() {
        Some(Cell::Text(text)) => text.parse().map_or(Cell::Null, Cell::Real),
        Some(other) => other.real().map_or(Cell::Null, Cell::Real),
        None => Cell::Null,
    })
}

fn document(cells: Given<'_>) -> std::result::Result<Option<Json>, String> {
    let Some(text) = cells.first().and_then(Cell::text) else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|_| "malformed JSON".to_owned())
}

/// All texts of a JSON document, each on a line of its own; keys are none.
pub(super) fn json_texts<'a>(cells: Given<'a>) -> Called<'a> {
    let Some(document) = document(cells)? else { return Ok(Cell::Null) };
    let mut texts = Vec::new();
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        match value {
            Json::String(text) => texts.push(text.as_str()),
            Json::Array(items) => left.extend(items.iter().rev()),
            Json::Object(entries) => left.extend(entries.values().rev()),
            _ => {}
        }
    }
    Ok(Cell::owned(texts.join("\n")))
}

/// `document ->> key`: the value as text. A key is that of an object, a whole number the place in an array, from its end when
/// it is negative.
pub(super) fn json_value<'a>(cells: Given<'a>) -> Called<'a> {
    let Some(document) = document(cells)? else { return Ok(Cell::Null) };
    let found = match cells.get(1) {
        Some(Cell::Text(key)) if key.starts_with('$') => {
            return Err(format!("the path `{key}` is not supported: name a key"));
        }
        Some(Cell::Text(key)) => document.get(key.as_ref()),
        Some(Cell::Integer(place)) => document.as_array().and_then(|items| {
            let place = if *place < 0 { i64::try_from(items.len()).ok()?.checked_add(*place)? } else { *place };
            items.get(usize::try_from(place).ok()?)
        }),
        _ => None,
    };
    Ok(match found {
        None | Some(Json::Null) => Cell::Null,
        Some(Json::String(text)) => Cell::owned(text.as_str()),
        Some(Json::Bool(truth)) => Cell::owned(if *truth { "1" } else { "0" }),
        Some(other) => Cell::owned(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Cell<'_> {
        Cell::Text(text.into())
    }

    #[test]
    fn one_of_the_texts_is_enough_whatever_the_case() {
        let of = |function, own: &str, wanted: &[&str]| {
            let cells: Vec<_> = std::iter::once(own).chain(wanted.iter().copied()).map(text).collect();
            searched(function, &cells).unwrap() == Cell::Integer(1)
        };
        for (function, own, wanted, met) in [
            ("icontains", "C:\\Windows\\CMD.exe", &["powershell", "cmd.EXE"][..], true),
            ("icontains", "ÄRGER 日本", &["ärger 日"], true),
            ("icontains", "x", &[""], true),
            ("icontains", "50_", &["50%"], false),
            ("iends_with", "/usr/bin/BASH", &["/sh", "/bash"], true),
            ("iends_with", "/usr/bin/bash -c", &["/bash"], false),
            ("istarts_with", "/TMP/x", &["/tmp/"], true),
            ("iequals", "Root", &["root"], true),
            ("iequals", "root ", &["root"], false),
            ("iequals", "\u{212a}", &["K"], true),
            ("cidr_match", "10.2.3.4", &["192.168.0.0/16", "10.0.0.0/8"], true),
            ("cidr_match", "no address", &["10.0.0.0/8"], false),
        ] {
            assert_eq!(of(function, own, wanted), met, "{function}({own}, {wanted:?})");
        }
        assert_eq!(icontains(&[Cell::Null, text("x")]), Ok(Cell::Null));
        assert_eq!(icontains(&[text("x"), Cell::Null, text("x")]), Ok(Cell::Integer(1)));
        assert_eq!(icontains(&[text("x"), Cell::Null, text("y")]), Ok(Cell::Null));
        assert_eq!(iequals(&[Cell::Integer(7), text("7")]), Ok(Cell::Integer(1)));
        assert!(cidr_match(&[text("::1"), text("10.0.0.0/40")]).unwrap_err().contains("is no network"));
    }

    #[test]
    fn a_text_is_a_number_as_a_whole_or_none() {
        for (own, wanted) in
            [("7", Some(7.0)), ("-1.5", Some(-1.5)), ("1e3", Some(1000.0)), ("7x", None), (" 7", None), ("", None)]
        {
            assert_eq!(number(&[text(own)]), Ok(wanted.map_or(Cell::Null, Cell::Real)), "{own}");
        }
        assert_eq!(number(&[Cell::Integer(7)]), Ok(Cell::Real(7.0)));
    }

    #[test]
    fn json_is_looked_into() {
        let json = r#"{"a": "x", "n": 7, "t": true, "z": null, "l": ["p", {"q": "r"}]}"#;
        let value = |key| {
            let cells = [text(json), key];
            json_value(&cells).unwrap().text().map(std::borrow::Cow::into_owned)
        };
        for (key, found) in [("a", "x"), ("n", "7"), ("t", "1"), ("l", r#"["p",{"q":"r"}]"#)] {
            assert_eq!(value(text(key)).as_deref(), Some(found));
        }
        assert_eq!([value(text("z")), value(text("none")), value(Cell::Integer(0))], [None, None, None]);
        assert_eq!(json_value(&[text("[1,2]"), Cell::Integer(-1)]), Ok(text("2")));
        assert_eq!(json_value(&[text("[1,2]"), Cell::Integer(-3)]), Ok(Cell::Null));
        assert_eq!(json_texts(&[text(json)]), Ok(text("x\np\nr")));
        assert_eq!(json_texts(&[Cell::Null]), Ok(Cell::Null));
        assert!(json_texts(&[text("{")]).is_err() && json_value(&[text(json), text("$.a")]).is_err());
    }
}
