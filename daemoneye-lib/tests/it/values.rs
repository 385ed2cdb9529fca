//! From cells to JSON.

use crate::fixture::{Answered, ask_of, host};
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::detection::query::json_value;
use serde_json::json;
use std::sync::Arc;

#[test]
fn json_shows_each_kind_as_what_it_is() {
    let sql = "SELECT pid, cpu_usage, file_exists, namespaces, end_time, name, ppid FROM processes WHERE pid IN (100, 200) ORDER BY pid";
    let Answered { columns, rows } = ask_of(Arc::new(host()), sql, &Parameters::default()).unwrap();
    let shown: Vec<Vec<_>> = rows
        .iter()
        .map(|row| columns.iter().zip(row).map(|(column, cell)| json_value(column.kind(), cell)).collect())
        .collect();
    assert_eq!(
        json!(shown),
        json!([
            [100, 2.25, false, { "pid": 7 }, null, "nginx", 1],
            [200, null, true, null, "2024-01-01T00:02:00.000000Z", "sh", 100],
        ])
    );
}
