//! SQLite: the events in a table, each rule a query over all of them.

use crate::Run;
use crate::made::Rule;
use daemoneye_lib::detection::Cost;
use daemoneye_lib::models::event::IdentifiedEvent;
use daemoneye_lib::proto::common::ProcessRecord;
use regex::Regex;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, params};
use std::sync::Arc;

pub(crate) fn run(rules: &[Rule], events: &[IdentifiedEvent]) -> Run {
    let mut database = Connection::open_in_memory().unwrap();
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    database
        .create_scalar_function("regexp", 2, flags, |call| {
            let expression: Arc<Regex> =
                call.get_or_create_aux(0, |text| Regex::new(text.as_str()?).map_err(Failed::from))?;
            Ok(call.get_raw(1).as_str().is_ok_and(|text| expression.is_match(text)))
        })
        .unwrap();
    database
        .execute_batch("CREATE TABLE events (executable_path TEXT, command_line TEXT, parent_executable_path TEXT)")
        .unwrap();
    let none = ProcessRecord::default();
    let filling = database.transaction().unwrap();
    for event in events {
        let record = event.event.process().unwrap_or(&none);
        let row = params![record.executable_path, record.command_line, record.parent_executable_path];
        filling.execute("INSERT INTO events VALUES (?, ?, ?)", row).unwrap();
    }
    filling.commit().unwrap();
    let queries: Vec<String> =
        rules.iter().map(|rule| format!("SELECT count(*) FROM events WHERE {}", rule.sql())).collect();
    let mut statements: Vec<_> = queries.iter().map(|query| database.prepare(query).unwrap()).collect();
    let cost = Cost::start();
    let counts = statements.iter_mut().map(|statement| statement.query_row([], |row| row.get::<_, i64>(0)).unwrap());
    let matches = u64::try_from(counts.sum::<i64>()).unwrap();
    Run { seconds: cost.so_far().as_secs_f64(), events: events.len(), matches }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;
