//! `LIKE`, `GLOB` and `REGEXP` over columns: a constant pattern is compiled once.

use super::compiled::compiled;
use super::{Cell, Column, constant_text};
use crate::detection::matching::Pattern;
use datafusion::arrow::array::BooleanArray;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use std::sync::Arc;

/// What is wrong with a pattern that stands in a statement.
pub(in crate::detection) fn pattern_problem(function: &str, pattern: &str) -> Option<String> {
    compile(function, pattern, None).err()
}

/// The compiled pattern of a function whose pattern is a constant, and about how many bytes it takes; nothing where it is none.
pub(in crate::detection) fn pattern_of(
    function: &'static str,
    pattern: &str,
    escape: Option<&str>,
) -> Option<(Arc<Pattern>, usize)> {
    let pattern = compiled(function, pattern, one_escape(escape).ok()?).ok()?;
    let weight = pattern.weight();
    Some((pattern, weight))
}

/// The pattern, and about how many bytes it takes.
pub(super) fn compile(function: &str, pattern: &str, escape: Option<char>) -> Result<(Pattern, usize), String> {
    match function {
        "__like" => Pattern::like(pattern, escape).map(with_weight),
        "glob" => Pattern::glob(pattern).map(with_weight),
        _ => Pattern::regexp(pattern),
    }
}

fn with_weight(pattern: Pattern) -> (Pattern, usize) {
    let weight = pattern.weight();
    (pattern, weight)
}

/// The result of a pattern function whose pattern is the same for all rows; `None` for every other call.
pub(super) fn with_constant_pattern(
    function: &'static str,
    arguments: &[ColumnarValue],
) -> Result<Option<ColumnarValue>> {
    if !matches!(function, "__like" | "glob" | "__regexp") {
        return Ok(None);
    }
    let ([pattern, ColumnarValue::Array(texts)] | [pattern, ColumnarValue::Array(texts), _]) = arguments else {
        return Ok(None);
    };
    let Some(pattern) = constant_text(pattern) else { return Ok(None) };
    let escape = match arguments.get(2).map(constant_text) {
        None => None,
        Some(Some(Some(escape))) => Some(escape),
        Some(_) => return Ok(None),
    };
    let texts = Column::new(texts)?;
    let rows = match &texts {
        Column::Null => return Ok(None),
        Column::Text(array) | Column::Integer(array) | Column::Real(array) => array.len(),
    };
    let matches: BooleanArray = match pattern {
        None => BooleanArray::new_null(rows),
        Some(pattern) => {
            let pattern = one_escape(escape.as_deref())
                .and_then(|escape| compiled(function, &pattern, escape))
                .map_err(DataFusionError::Execution)?;
            (0..rows).map(|row| texts.cell(row).text().map(|text| pattern.matches(&text))).collect()
        }
    };
    Ok(Some(ColumnarValue::Array(Arc::new(matches))))
}

fn one_escape(escape: Option<&str>) -> Result<Option<char>, String> {
    let Some(escape) = escape else { return Ok(None) };
    let mut chars = escape.chars();
    match (chars.next(), chars.next()) {
        (Some(one), None) => Ok(Some(one)),
        _ => Err("ESCAPE must be one character".to_owned()),
    }
}

fn matches<'a>(function: &'static str, cells: &[Cell<'_>]) -> Result<Cell<'a>, String> {
    let (Some(pattern), Some(text)) = (cells.first().and_then(Cell::text), cells.get(1).and_then(Cell::text)) else {
        return Ok(Cell::Null);
    };
    let escape = match cells.get(2) {
        None => None,
        Some(cell) => match cell.text() {
            None => return Ok(Cell::Null),
            Some(escape) => one_escape(Some(&escape))?,
        },
    };
    Ok(Cell::Integer(i64::from(compiled(function, &pattern, escape)?.matches(&text))))
}

pub(super) fn like<'a>(cells: &'a [Cell<'a>]) -> Result<Cell<'a>, String> {
    matches("__like", cells)
}

pub(super) fn glob<'a>(cells: &'a [Cell<'a>]) -> Result<Cell<'a>, String> {
    matches("glob", cells)
}

pub(super) fn regexp<'a>(cells: &'a [Cell<'a>]) -> Result<Cell<'a>, String> {
    matches("__regexp", cells)
}
