//! The questions: the same text for both, but for the form of times.

use bench::{COMMON, RARE};
use daemoneye_lib::models::time;

/// What stands before a time, with the first quote of its text.
const AFTER: &str = "event_time > '";

pub(crate) struct Query {
    pub(crate) name: &'static str,
    pub(crate) sql: String,
}

impl Query {
    /// The text with times as integers.
    pub(crate) fn for_sqlite(&self) -> String {
        let mut sql = self.sql.clone();
        while let Some(at) = sql.find(AFTER).map(|at| at + AFTER.len() - 1) {
            let text: String = sql.chars().skip(at + 1).take(26).collect();
            let ns = time::parse(&text).unwrap();
            sql.replace_range(at..at + 28, &ns.to_string());
        }
        sql
    }
}

/// All questions about events of which the newest is at `newest`.
pub(crate) fn all(newest: i64) -> Vec<Query> {
    let since = |minutes: i64| format!("event_time > '{}'", time::sql_text(newest - minutes * 60_000_000_000));
    let five = since(5);
    let query = |name, sql: String| Query { name, sql };
    vec![
        query("`LIKE` on the name", "SELECT pid, name FROM processes.events WHERE name LIKE '%ython%'".to_owned()),
        query(
            "`GROUP BY` name",
            "SELECT name, count(*) FROM processes.events GROUP BY name HAVING count(*) > 50".to_owned(),
        ),
        query(
            "regular expression on the command line",
            "SELECT pid FROM processes.events WHERE command_line REGEXP 'shard 4[0-9]+7$'".to_owned(),
        ),
        query("a rare name", format!("SELECT pid, command_line FROM processes.events WHERE name = '{RARE}'")),
        query("a common name", format!("SELECT pid, command_line FROM processes.events WHERE name = '{COMMON}'")),
        query(
            "`LIKE`, last five minutes",
            format!("SELECT pid, name FROM processes.events WHERE name LIKE '%ython%' AND {five}"),
        ),
        query(
            "`GROUP BY`, last five minutes",
            format!("SELECT name, count(*) FROM processes.events WHERE {five} GROUP BY name HAVING count(*) > 50"),
        ),
        query(
            "regular expression, last five minutes",
            format!("SELECT pid FROM processes.events WHERE {five} AND command_line REGEXP 'shard 4[0-9]+7$'"),
        ),
        query(
            "a rare name, last five minutes",
            format!("SELECT pid, command_line FROM processes.events WHERE name = '{RARE}' AND {five}"),
        ),
        query(
            "parent and child, last ten minutes",
            format!(
                "SELECT c.pid, p.name FROM processes.events c JOIN processes.events p ON c.parent_key = p.process_key \
                 WHERE c.{ten} AND p.{ten} AND c.name = 'perl' AND c.event_type = 'exec' AND p.event_type = 'exec'",
                ten = since(10)
            ),
        ),
    ]
}
