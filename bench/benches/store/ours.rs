//! Our side.

use crate::{COMMIT, START, STEP, memory, queries, tell};
use bench::Host;
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::detection::query::{Queries, rows};
use daemoneye_lib::detection::source::{Batches, SourceError, TableSource, Wanted};
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::domain::Domain;
use daemoneye_lib::models::event::Epoch;
use daemoneye_lib::storage::{Arrived, Evaluated, Snapshot, Store, TimeRange, Understood};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Stored(Snapshot);

impl TableSource for Stored {
    fn scan(&self, table: Table, wanted: &Wanted) -> Result<Batches, SourceError> {
        let range = TimeRange { from: wanted.from, to: wanted.to };
        let rows = self.0.rows(table, &wanted.projection, range, &wanted.conditions)?;
        let rows = rows.ok_or_else(|| format!("{table:?} is not in the store"))?;
        Ok(Box::new(rows.map(|batch| batch.map_err(SourceError::from))))
    }
}

pub(crate) fn run(dir: &Path, events: u64) {
    let (store, _) = Store::open(&dir.join("events.redb")).unwrap();
    let mut host = Host::new(START, STEP);
    let mut spent = Duration::ZERO;
    let mut evaluated = 0;
    for commit in 0..events / COMMIT {
        let (first_sequence, items) = (commit * COMMIT + 1, host.items(COMMIT));
        let batch = Arrived {
            collector: "procmond".to_owned(),
            domains: [Domain::Process].into_iter().collect(),
            epoch: Epoch([7; 16]),
            first_sequence,
            items,
        };
        let started = Instant::now();
        evaluated = store.append(&[Understood::from(batch)], Evaluated::Before(evaluated)).unwrap().next_row;
        spent += started.elapsed();
    }
    store.commit_alerts(&[], &[], evaluated).unwrap();
    tell("rows a second in", format!("{:.0}", events as f64 / spent.as_secs_f64()));
    tell("bytes of the file for each event", format!("{:.0}", store.file_bytes().unwrap() as f64 / events as f64));
    let sizes = store.snapshot().unwrap().sizes().unwrap();
    let own: u64 = sizes.iter().filter(|size| size.table.starts_with("processes.events")).map(|size| size.bytes).sum();
    tell("bytes of that for events alone", format!("{:.0}", own as f64 / events as f64));

    let engine = Queries::new(64 << 20).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().thread_stack_size(8 << 20).build().unwrap();
    let ask = |sql: &str| -> (usize, Vec<daemoneye_lib::proto::ipc::ResultRow>) {
        runtime.block_on(async {
            let source = Arc::new(Stored(store.snapshot().unwrap()));
            let mut answer = engine.run(sql, &Parameters::default(), source).await.unwrap();
            let mut found = 0;
            let mut first = Vec::new();
            while let Some(batch) = answer.next().await {
                let batch = batch.unwrap();
                let all = rows(&batch);
                found += all.len();
                if first.is_empty() {
                    first = all;
                }
            }
            (found, first)
        })
    };
    for query in queries::all(host.now()) {
        let (found, _) = ask(&query.sql);
        tell(&format!("rows of {}", query.name), found);
        tell(query.name, millis(|| ask(&query.sql).0));
    }
    let (_, first) = ask("SELECT process_key FROM processes.events WHERE pid = 4711");
    let key = daemoneye_lib::detection::query::json_value(
        daemoneye_lib::proto::ipc::ColumnKind::Text,
        &first.first().unwrap().cells[0],
    );
    let key = key.as_str().unwrap().to_owned();
    let sql = format!("SELECT * FROM processes.events WHERE process_key = '{key}'");
    tell("rows of one process by its key", ask(&sql).0);
    tell("one process by its key", millis(|| ask(&sql).0));
    let (now, most) = memory();
    tell("resident after all of it, MB", format!("{now:.0}"));
    tell("resident at most, MB", format!("{most:.0}"));
}

/// The median of five.
pub(crate) fn millis(work: impl Fn() -> usize) -> String {
    let mut times: Vec<_> = (0..5)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(work());
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let ms = times[2].as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}
