//! What a query may take, and that it gives it back.

use crate::fixture::{Fixed, collect, host, process, runtime};
use arrow::array::RecordBatch;
use daemoneye_lib::detection::Parameters;
use daemoneye_lib::detection::query::{Queries, QueryError};
use daemoneye_lib::detection::source::{Batches, SourceError, TableSource, Wanted};
use daemoneye_lib::models::batch::batch_of;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::columns::PROCESS;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Processes without end.
#[derive(Default)]
struct Endless {
    produced: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

struct Ending {
    produced: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    columns: Vec<usize>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

impl Iterator for Ending {
    type Item = Result<RecordBatch, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = u32::try_from(self.produced.fetch_add(1, Ordering::SeqCst)).unwrap() * 1_000;
        let records: Vec<_> = (first..first + 1_000).map(|pid| process(pid, &format!("process-{pid}"))).collect();
        Some(batch_of(Table::Processes, PROCESS, &self.columns, records.iter()).map_err(SourceError::from))
    }
}

impl TableSource for Endless {
    fn scan(&self, _: Table, wanted: &Wanted) -> Result<Batches, SourceError> {
        Ok(Box::new(Ending {
            produced: Arc::clone(&self.produced),
            ended: Arc::clone(&self.ended),
            columns: wanted.projection.clone(),
        }))
    }
}

#[test]
fn a_query_beyond_its_memory_fails_and_gives_it_back() {
    runtime().block_on(async {
        let queries = Queries::new(4 << 20).unwrap();
        for sql in [
            "SELECT name, count(*) FROM processes GROUP BY name",
            "SELECT name FROM processes ORDER BY name",
            "SELECT DISTINCT name, pid FROM processes",
            "SELECT count(*) FROM processes a JOIN processes b ON a.name = b.name",
            "SELECT group_concat(name) FROM processes",
            "SELECT count(DISTINCT name) FROM processes",
        ] {
            let answer = queries.run(sql, &Parameters::default(), Arc::new(Endless::default())).await.unwrap();
            let ended = collect(answer).await.map(|answered| answered.rows.len());
            assert!(matches!(ended, Err(QueryError::Memory(_))), "{sql}: {ended:?}");
        }
        let small =
            queries.run("SELECT name FROM processes ORDER BY name", &Parameters::default(), Arc::new(host())).await;
        assert_eq!(collect(small.unwrap()).await.unwrap().rows.len(), 5, "the memory is there again");
    });
}

#[test]
fn an_answer_that_is_dropped_stops_reading() {
    runtime().block_on(async {
        let source = Endless::default();
        let (produced, ended) = (Arc::clone(&source.produced), Arc::clone(&source.ended));
        let queries = Queries::new(4 << 20).unwrap();
        let mut answer =
            queries.run("SELECT name FROM processes", &Parameters::default(), Arc::new(source)).await.unwrap();
        assert!(answer.next().await.unwrap().is_ok());
        let so_far = produced.load(Ordering::SeqCst);
        assert!((1..10).contains(&so_far), "{so_far} batches for the first");
        drop(answer);
        assert!(ended.load(Ordering::SeqCst), "the rows are still being read");
        assert_eq!(produced.load(Ordering::SeqCst), so_far);
    });
}

#[test]
fn a_limit_reads_no_more_than_it_needs() {
    runtime().block_on(async {
        let source = Endless::default();
        let produced = Arc::clone(&source.produced);
        let queries = Queries::new(4 << 20).unwrap();
        let answer =
            queries.run("SELECT name FROM processes LIMIT 1500", &Parameters::default(), Arc::new(source)).await;
        assert_eq!(collect(answer.unwrap()).await.unwrap().rows.len(), 1_500);
        assert!(produced.load(Ordering::SeqCst) < 10);
    });
}

#[test]
fn a_source_that_fails_fails_the_query_with_its_reason() {
    struct Broken;
    impl TableSource for Broken {
        fn scan(&self, _: Table, _: &Wanted) -> Result<Batches, SourceError> {
            Err("the disk is gone".into())
        }
    }
    runtime().block_on(async {
        let queries = Queries::new(4 << 20).unwrap();
        let answer = queries.run("SELECT pid FROM processes", &Parameters::default(), Arc::new(Broken)).await.unwrap();
        let error = collect(answer).await.map(|answered| answered.rows.len()).unwrap_err();
        assert_eq!(error.to_string(), "the query failed: the disk is gone");
    });
}

#[test]
fn what_a_query_touched_is_told() {
    runtime().block_on(async {
        let queries = Queries::new(4 << 20).unwrap();
        let sql = "SELECT count(*) FROM processes.events e JOIN processes p USING (process_key) \
                   WHERE e.event_time >= '2024-01-01' AND e.event_time < '2024-01-02'";
        let answer = queries.run(sql, &Parameters::default(), Arc::new(host())).await.unwrap();
        let day = crate::fixture::MIDNIGHT..crate::fixture::MIDNIGHT + 86_400_000_000_000;
        assert!(answer.touched().contains(&(Table::ProcessEvents, day.start, day.end + 999)), "{:?}", answer.touched());
        let mut tables = answer.tables().to_vec();
        tables.sort_by_key(|table| table.qualified_name());
        assert_eq!(tables, [Table::Processes, Table::ProcessEvents]);
    });
}

#[test]
fn work_that_has_no_end_can_be_ended() {
    let many = |count| (0..count).map(|pid| process(pid, "p")).collect();
    for (rows, sql) in [
        (20_000, "SELECT count(*) FROM processes a, processes b, processes c"),
        (
            20_000,
            "SELECT count(*) FROM processes a JOIN processes b ON a.pid + b.pid < 0 JOIN processes c ON c.pid > b.pid",
        ),
        (
            20_000,
            "SELECT max(a.pid) FROM processes a JOIN processes b ON a.name = b.name JOIN processes c ON c.name = b.name",
        ),
        (20_000, "SELECT count(*) FROM processes a JOIN processes b ON a.name = b.name AND a.pid + b.pid < 0"),
        (2_000, "SELECT a.pid FROM processes a, processes b, processes c WHERE a.pid * b.pid - c.pid = 0.5"),
    ] {
        let source = Fixed { processes: many(rows), ..Fixed::default() };
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let ended = runtime.block_on(async {
                let queries = Queries::new(256 << 20).unwrap();
                let answer = queries.run(sql, &Parameters::default(), Arc::new(source)).await.unwrap();
                tokio::time::timeout(Duration::from_millis(100), collect(answer)).await
            });
            done.send(ended.is_err()).unwrap();
        });
        match is_done.recv_timeout(Duration::from_secs(60)) {
            Ok(was_cut) => assert!(was_cut, "it ended by itself: {sql}"),
            Err(_) => panic!("nothing ends it: {sql}"),
        }
    }
}
