//! What a query would read, as a page of rows.

use daemoneye_lib::detection::explain::Explained;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, Completeness, QueryPage, ResultColumn, ResultRow, cell};

const COLUMNS: [(&str, ColumnKind); 7] = [
    // `read` for each reading of a table, `plan` for each line of the plan.
    ("step", ColumnKind::Text),
    ("table_name", ColumnKind::Text),
    ("columns", ColumnKind::Json),
    ("pushed_down", ColumnKind::Json),
    ("from_time", ColumnKind::Time),
    ("to_time", ColumnKind::Time),
    ("detail", ColumnKind::Text),
];

/// Readings first, then the plan.
pub(crate) fn page(explained: &Explained) -> QueryPage {
    let list = |texts: &[String]| text(&serde_json::json!(texts).to_string());
    let at = |ns: Option<i64>| ns.map_or_else(Cell::default, |ns| text(&time::sql_text(ns)));
    let none = Cell::default;
    let reads = explained.reads.iter().map(|read| {
        let from_to = [at(read.from), at(read.to)];
        let named = [text("read"), text(&read.name), list(&read.columns), list(&read.pushed_down)];
        named.into_iter().chain(from_to).chain([none()]).collect()
    });
    let steps = explained.plan.iter().map(|step| {
        let [a, b, c, d, e] = [(); 5].map(|()| none());
        vec![text("plan"), a, b, c, d, e, text(step)]
    });
    let column = |(name, kind): &(&str, ColumnKind)| ResultColumn { name: (*name).to_owned(), kind: (*kind).into() };
    QueryPage {
        columns: COLUMNS.iter().map(column).collect(),
        rows: reads.chain(steps).map(|cells| ResultRow { cells }).collect(),
        completeness: Some(Completeness::default()),
    }
}

fn text(text: &str) -> Cell {
    Cell { value: Some(cell::Value::Text(text.to_owned())) }
}
