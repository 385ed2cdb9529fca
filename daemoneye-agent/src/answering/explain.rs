//! What a query would read, as a page of rows.

use daemoneye_lib::detection::explain::Explained;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, Completeness, QueryPage, ResultColumn, ResultRow, cell};

const COLUMNS: [(&str, ColumnKind); 10] = [
    // `read` for each reading of a table, `plan` for each line of the plan.
    ("step", ColumnKind::Text),
    ("table_name", ColumnKind::Text),
    ("columns", ColumnKind::Json),
    ("pushed_down", ColumnKind::Json),
    ("from_time", ColumnKind::Time),
    ("to_time", ColumnKind::Time),
    // Of the table; of these what conditions and times leave; rows that are looked at, at most.
    ("blocks", ColumnKind::Integer),
    ("blocks_read", ColumnKind::Integer),
    ("rows_at_most", ColumnKind::Integer),
    ("detail", ColumnKind::Text),
];

/// Readings first, then the plan.
pub(crate) fn page(explained: &Explained) -> QueryPage {
    let list = |texts: &[String]| text(&serde_json::json!(texts).to_string());
    let at = |ns: Option<i64>| ns.map_or_else(Cell::default, |ns| text(&time::sql_text(ns)));
    let none = Cell::default;
    let reads = explained.reads.iter().map(|read| {
        let from_to = [at(read.from), at(read.to)];
        let survey = read.survey.map(|survey| [survey.blocks, survey.blocks_read, survey.rows_at_most]);
        let survey = survey.map_or_else(|| [none(), none(), none()], |numbers| numbers.map(number));
        let named = [text("read"), text(&read.name), list(&read.columns), list(&read.pushed_down)];
        named.into_iter().chain(from_to).chain(survey).chain([none()]).collect()
    });
    let steps = explained.plan.iter().map(|step| {
        let nothing = (0..COLUMNS.len() - 2).map(|_| none());
        std::iter::once(text("plan")).chain(nothing).chain([text(step)]).collect()
    });
    let column = |(name, kind): &(&str, ColumnKind)| ResultColumn { name: (*name).to_owned(), kind: (*kind).into() };
    QueryPage {
        columns: COLUMNS.iter().map(column).collect(),
        rows: reads.chain(steps).map(|cells| ResultRow { cells }).collect(),
        completeness: Some(Completeness::default()),
    }
}

fn number(number: u64) -> Cell {
    Cell { value: Some(cell::Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))) }
}

fn text(text: &str) -> Cell {
    Cell { value: Some(cell::Value::Text(text.to_owned())) }
}
