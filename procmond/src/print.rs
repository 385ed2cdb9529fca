//! One scan as JSON lines, for whoever wants to know what procmond sees.

use crate::scan::{Glance, Interrupted, Observed, ProcessCollector, ScanCounts, ScanError, Visitor};
use daemoneye_lib::models::columns::{Column, PROCESS};
use daemoneye_lib::proto::common::ProcessRecord;
use serde_json::Value as Json;
use std::io::{self, Write};

/// Why a scan was not printed to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrintError {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("cannot write the scan")]
    Write(#[from] io::Error),
}

/// Writes a line for each process.
pub(crate) fn scan(collector: &mut impl ProcessCollector, out: impl Write) -> Result<ScanCounts, PrintError> {
    let mut printer = Printer { out, failed: None };
    let counts = collector.enumerate_processes(&mut printer);
    match printer.failed {
        Some(error) => Err(error.into()),
        None => {
            printer.out.flush()?;
            Ok(counts?)
        }
    }
}

struct Printer<W> {
    out: W,
    failed: Option<io::Error>,
}

impl<W: Write> Visitor for Printer<W> {
    fn wants(&mut self, _: &Glance<'_>) -> Result<bool, Interrupted> {
        Ok(true)
    }

    fn observed(&mut self, observed: Observed<'_>) -> Result<(), Interrupted> {
        writeln!(self.out, "{}", json(&observed.record)).map_err(|error| {
            self.failed = Some(error);
            Interrupted
        })
    }

    fn unreadable(&mut self, _: u32) {}
}

fn json(record: &ProcessRecord) -> Json {
    let field = |column: &Column<ProcessRecord>| (column.name.to_owned(), (column.get)(record).json(column.kind));
    Json::Object(PROCESS.iter().map(field).collect())
}

#[cfg(test)]
mod tests {
    use super::json;
    use daemoneye_lib::proto::common::{Arguments, ProcessRecord};

    #[test]
    fn values_have_the_form_that_queries_give_them_in_json() {
        let record = ProcessRecord {
            pid: 7,
            start_time: Some(1_000),
            file_exists: Some(true),
            argv: Some(Arguments { values: vec!["a".into()] }),
            ..ProcessRecord::default()
        };
        let json = json(&record);
        assert_eq!(json["pid"], 7);
        assert_eq!(json["start_time"], "1970-01-01T00:00:00.000001Z");
        assert_eq!(json["file_exists"], true);
        assert_eq!(json["argv"], serde_json::json!(["a"]));
        assert!(json["exit_code"].is_null());
    }
}
