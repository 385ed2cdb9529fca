//! The other side: the same rows in one table with three indexes, as durable at each commit.

use crate::ours::millis;
use crate::{COMMIT, START, STEP, memory, queries, tell};
use bench::Host;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::columns::{Value, event_value};
use daemoneye_lib::models::event::{Epoch, IdentifiedEvent, event_id};
use daemoneye_lib::proto::ipc::ColumnKind;
use regex::Regex;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, ToSql};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Cell<'a>(Value<'a>);

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match &self.0 {
            Value::Null => rusqlite::types::Null.into(),
            Value::Text(text) => text.as_ref().into(),
            Value::Integer(number) => (*number).into(),
            Value::Real(number) => (*number).into(),
        })
    }
}

pub(crate) fn run(dir: &Path, events: u64) {
    let path = dir.join("events.sqlite");
    let mut database = Connection::open_in_memory().unwrap();
    database.execute("ATTACH ? AS processes", [path.to_string_lossy()]).unwrap();
    database.execute_batch("PRAGMA processes.journal_mode = WAL; PRAGMA processes.synchronous = FULL;").unwrap();
    let columns = Table::ProcessEvents.columns();
    let declared: Vec<String> = columns
        .iter()
        .map(|(name, kind)| match kind {
            ColumnKind::Text | ColumnKind::Json => format!("{name} TEXT"),
            ColumnKind::Real => format!("{name} REAL"),
            _ => format!("{name} INTEGER"),
        })
        .collect();
    database
        .execute_batch(&format!(
            "CREATE TABLE processes.events ({});
             CREATE INDEX processes.by_time ON events (event_time);
             CREATE INDEX processes.by_key ON events (process_key);
             CREATE INDEX processes.by_name ON events (name);",
            declared.join(", ")
        ))
        .unwrap();
    let insert = format!("INSERT INTO processes.events VALUES ({})", vec!["?"; columns.len()].join(", "));
    let mut host = Host::new(START, STEP);
    let mut spent = Duration::ZERO;
    let mut sequence = 0;
    for _ in 0..events / COMMIT {
        let rows: Vec<IdentifiedEvent> = (0..COMMIT)
            .map(|_| {
                sequence += 1;
                IdentifiedEvent { event_id: event_id(Epoch([7; 16]), sequence), event: host.event().into() }
            })
            .collect();
        let started = Instant::now();
        let transaction = database.transaction().unwrap();
        {
            let mut statement = transaction.prepare(&insert).unwrap();
            for row in &rows {
                let cells = (0..columns.len()).map(|column| Cell(event_value(row, column)));
                statement.execute(rusqlite::params_from_iter(cells)).unwrap();
            }
        }
        transaction.commit().unwrap();
        spent += started.elapsed();
    }
    tell("rows a second in", format!("{:.0}", events as f64 / spent.as_secs_f64()));
    database.query_row("PRAGMA processes.wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len();
    tell("bytes of the file for each event", format!("{:.0}", bytes as f64 / events as f64));

    database
        .create_scalar_function("regexp", 2, FunctionFlags::SQLITE_DETERMINISTIC, |context| {
            let pattern: Arc<Regex> = context.get_or_create_aux(0, |value| {
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Regex::new(value.as_str()?)?)
            })?;
            Ok(context.get_raw(1).as_str().is_ok_and(|text| pattern.is_match(text)))
        })
        .unwrap();
    let ask = |sql: &str| -> usize {
        let mut statement = database.prepare(sql).unwrap();
        let width = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut found = 0;
        while let Some(row) = rows.next().unwrap() {
            for column in 0..width {
                let _: rusqlite::types::Value = row.get(column).unwrap();
            }
            found += 1;
        }
        found
    };
    for query in queries::all(host.now()) {
        let sql = query.for_sqlite();
        tell(&format!("rows of {}", query.name), ask(&sql));
        tell(query.name, millis(|| ask(&sql)));
    }
    let key: String =
        database.query_row("SELECT process_key FROM processes.events WHERE pid = 4711", [], |row| row.get(0)).unwrap();
    let sql = format!("SELECT * FROM processes.events WHERE process_key = '{key}'");
    tell("rows of one process by its key", ask(&sql));
    tell("one process by its key", millis(|| ask(&sql)));
    let (now, most) = memory();
    tell("resident after all of it, MB", format!("{now:.0}"));
    tell("resident at most, MB", format!("{most:.0}"));
}
