//! Names of tables, columns and results, and what kind of values a result says it has.

use crate::fixture::{ask_of, assert_answers, host};
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::proto::ipc::ColumnKind;
use std::sync::Arc;

/// Names and kinds of the result's columns.
fn columns(sql: &str) -> Vec<(String, ColumnKind)> {
    let answered =
        ask_of(Arc::new(host()), sql, &Parameters::default()).unwrap_or_else(|error| panic!("{sql}: {error}"));
    answered.columns.into_iter().map(|column| (column.name.clone(), column.kind())).collect()
}

fn names(sql: &str) -> Vec<String> {
    columns(sql).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn every_column_of_every_table_can_be_named_as_it_is() {
    for table in Table::ALL {
        let (schema, own) = table.qualified_name();
        let expected: Vec<_> = table.columns().into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect();
        let all: Vec<_> = expected.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(columns(&format!("SELECT {} FROM {schema}.{own}", all.join(", "))), expected);
        assert_eq!(columns(&format!("SELECT * FROM {schema}.{own}")), expected);
        let qualified = all.join(&format!(", {schema}.{own}."));
        assert_eq!(columns(&format!("SELECT {schema}.{own}.{qualified} FROM {schema}.{own}")), expected);
        let conditions: Vec<_> = all.iter().map(|name| format!("t.{name} IS NULL AND {name} IS NULL")).collect();
        names(&format!(
            "SELECT 1 FROM {schema}.{own} t WHERE {} ORDER BY {}",
            conditions.join(" AND "),
            all.join(", ")
        ));
        if let Some(short) = table.short_name() {
            assert_eq!(columns(&format!("SELECT {short}.* FROM {short}")), expected);
        }
    }
}

#[test]
fn a_table_is_called_by_its_name_in_any_length() {
    assert_answers(&[
        ("SELECT processes.pid FROM processes WHERE processes.name = 'sh'", "200"),
        ("SELECT current.pid FROM processes.current WHERE processes.current.name = 'sh'", "200"),
        ("SELECT events.pid FROM processes.events WHERE processes.events.event_id = 'e-1'", "1"),
        ("SELECT PROCESSES.EVENTS.PID FROM Processes.Events WHERE EVENTS.event_id = 'e-1'", "1"),
        ("SELECT p.pid FROM processes AS P WHERE p.NAME = 'sh'", "200"),
    ]);
}

#[test]
fn results_are_called_as_they_were_written() {
    for (sql, expected) in [
        ("SELECT pid, ppid AS Parent, count FROM processes, (SELECT 1 AS count)", &["pid", "Parent", "count"][..]),
        ("SELECT COUNT(*), max(pid) FROM processes", &["COUNT(*)", "max(pid)"]),
        ("SELECT pid, pid, ppid AS pid FROM processes", &["pid", "pid:1", "pid:2"]),
        ("SELECT a.pid, b.pid FROM processes a, processes b", &["pid", "pid:1"]),
        ("SELECT pid AS \"the pid\", 1 FROM processes", &["the pid", "1"]),
        ("SELECT Name FROM processes", &["name"]),
        ("SELECT PID AS PID FROM processes WHERE pid = 1 ORDER BY pid", &["PID"]),
        ("SELECT Big FROM (SELECT pid AS Big FROM processes)", &["Big"]),
        ("SELECT pid AS n FROM processes UNION SELECT ppid FROM processes", &["n"]),
    ] {
        assert_eq!(names(sql), expected, "{sql}");
    }
}

#[test]
fn an_alias_in_capitals_hides_nothing() {
    assert_answers(&[
        ("SELECT pid AS PID FROM processes WHERE pid < 3 ORDER BY PID DESC", "2; 1"),
        ("SELECT count(*) AS Total FROM processes GROUP BY source HAVING total > 1 ORDER BY TOTAL", "5"),
        ("SELECT name AS Pid FROM processes p WHERE p.pid = 1", "systemd"),
        ("WITH a AS (SELECT pid AS X FROM processes) SELECT x FROM a WHERE X = 1", "1"),
        (
            "SELECT q.Key FROM (SELECT process_key AS KEY, pid FROM processes) AS Q WHERE Q.pid = 1",
            "00000000000000000000000000000001",
        ),
    ]);
}

#[test]
fn a_wildcard_stands_beside_named_columns() {
    let all = Table::Processes.columns().len();
    let plus = names("SELECT *, pid FROM processes");
    assert_eq!((plus.len(), plus.last().map(String::as_str)), (all + 1, Some("pid:1")));
    let before = names("SELECT pid, name AS n, p.* FROM processes p");
    assert_eq!(
        (before.len(), before[0].as_str(), before[1].as_str(), before[4].as_str()),
        (all + 2, "pid", "n", "pid:1")
    );
    assert_eq!(names("SELECT * FROM processes a JOIN processes b ON a.pid = b.ppid").len(), 2 * all);
    assert_answers(&[("SELECT pid FROM (SELECT *, pid + 1 AS next FROM processes) WHERE next = 2", "1")]);
}

#[test]
fn kinds_of_values_last_through_a_query() {
    use ColumnKind::{Boolean, Integer, Json, Real, Text, Time};
    for (sql, expected) in [
        (
            "SELECT event_time AS t, file_exists f, namespaces, cpu_usage, name, pid FROM processes.events",
            &[Time, Boolean, Json, Real, Text, Integer][..],
        ),
        ("SELECT t FROM (SELECT event_time AS t FROM processes.events) AS x ORDER BY t DESC LIMIT 1", &[Time]),
        ("WITH a AS (SELECT start_time s FROM processes) SELECT s FROM a WHERE s IS NOT NULL", &[Time]),
        ("SELECT min(event_time), max(event_time) AS newest, count(*) FROM processes.events", &[Time, Time, Integer]),
        ("SELECT name, max(start_time) FROM processes GROUP BY name ORDER BY 2", &[Text, Time]),
        ("SELECT DISTINCT end_time FROM processes", &[Time]),
        ("SELECT start_time FROM processes UNION ALL SELECT end_time FROM processes", &[Time]),
        (
            "SELECT p.start_time, e.event_time FROM processes p LEFT JOIN processes.events e USING (process_key)",
            &[Time, Time],
        ),
        ("SELECT (SELECT max(event_time) FROM processes.events)", &[Time]),
        (
            "SELECT name LIKE 's%', pid > 1, length(name), pid / 2.0, datetime(end_time), event_time || '' FROM processes, (SELECT event_time FROM processes.events)",
            &[Integer, Integer, Integer, Real, Text, Text],
        ),
        ("SELECT NULL, 1, 1.5, 'x'", &[Text, Integer, Real, Text]),
    ] {
        let kinds: Vec<_> = columns(sql).into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(kinds, expected, "{sql}");
    }
}
