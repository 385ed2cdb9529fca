//! CSV after RFC 4180: a header, rows, NULL as an empty field.

use super::{Sheet, cell, unique_names};
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::proto::ipc::{Cell, Completeness, ResultColumn};
use std::io::{self, Write};

/// CSV; for a terminal with control characters escaped, for all others byte for byte.
pub(super) struct Csv<'a> {
    out: csv::Writer<&'a mut dyn Write>,
    terminal: bool,
}

impl<'a> Csv<'a> {
    pub(super) fn new(out: &'a mut dyn Write, terminal: bool) -> Self {
        let ending = if terminal { csv::Terminator::Any(b'\n') } else { csv::Terminator::CRLF };
        Self { out: csv::WriterBuilder::new().terminator(ending).from_writer(out), terminal }
    }

    fn record(&mut self, fields: impl Iterator<Item = String>) -> io::Result<()> {
        let terminal = self.terminal;
        let shown = fields.map(|field| if terminal { for_terminal(&field).into_owned() } else { field });
        self.out.write_record(shown).map_err(|error| match error.into_kind() {
            // As it is: a closed pipe must be known as one.
            csv::ErrorKind::Io(error) => error,
            other => io::Error::other(format!("{other:?}")),
        })
    }
}

impl Sheet for Csv<'_> {
    fn show(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn begin(&mut self, columns: &[ResultColumn]) -> io::Result<()> {
        self.record(unique_names(columns).into_iter())
    }

    fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        self.record(cells.iter().map(|cell| cell::plain(cell).unwrap_or_default()))
    }

    fn end(&mut self, _: &Completeness) -> io::Result<()> {
        self.out.flush()
    }
}
