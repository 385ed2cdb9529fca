//! Rows on the screen: tables for people, JSON, JSON lines and CSV for programs.
//!
//! Rows go out as they arrive; only a table keeps its first rows, to measure them. Text that came from the host cannot
//! command a terminal: tables and CSV show control characters as escapes where a terminal reads them, JSON always does.

mod cell;
mod csv;
mod json;
mod kept;
mod layout;
mod parquet;
mod table;

pub(crate) use cell::plain;
pub(crate) use kept::Kept;
pub(crate) use parquet::Parquet;
pub(crate) use table::Style;

use crate::failure::Failure;
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, Completeness, ResultColumn};
use std::io::{self, Write};

/// Where a command writes, and what it is like.
pub(crate) struct Screen<'a> {
    pub(crate) out: &'a mut dyn Write,
    pub(crate) err: &'a mut dyn Write,
    /// Columns that a line for people may have.
    pub(crate) width: usize,
    /// Whether a terminal reads `out`.
    pub(crate) terminal: bool,
    /// Whether `out` may be coloured.
    pub(crate) colours: bool,
}

/// Something that rows are laid on: `begin`, then each `row`, then `end`, which is left out when the answer broke off.
pub(crate) trait Sheet {
    fn begin(&mut self, columns: &[ResultColumn]) -> io::Result<()>;
    fn row(&mut self, cells: Vec<Cell>) -> io::Result<()>;
    /// Shows what has been laid on it so far, where the form allows it.
    fn show(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn end(&mut self, completeness: &Completeness) -> io::Result<()>;
}

/// Whether an answer is whole; the exit code tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Outcome {
    Done = 0,
    /// Done, and the answer is that something is wrong.
    Wanting = 1,
    Degraded = 3,
    Refused = 5,
}

impl Screen<'_> {
    /// A sheet of this format on stdout.
    pub(crate) fn sheet(&mut self, format: OutputFormat, style: Style) -> Box<dyn Sheet + '_> {
        match format {
            OutputFormat::Table => Box::new(table::Table::new(&mut *self.out, self.width, self.colours, style)),
            OutputFormat::Json => Box::new(json::Document::new(&mut *self.out)),
            OutputFormat::Jsonl => Box::new(json::Lines::new(&mut *self.out)),
            OutputFormat::Csv => Box::new(csv::Csv::new(&mut *self.out, self.terminal)),
        }
    }

    /// Says on stderr whether the answer is whole, where the format has no place for it.
    pub(crate) fn conclude(&mut self, format: OutputFormat, completeness: &Completeness) -> Result<Outcome, Failure> {
        self.out.flush()?;
        let outcome = if completeness.degraded { Outcome::Degraded } else { Outcome::Done };
        match (format, outcome) {
            (OutputFormat::Json, _) | (OutputFormat::Table, Outcome::Done) => {}
            (_, Outcome::Done) => writeln!(self.err, "completeness: complete")?,
            _ => {
                let reasons: Vec<_> = completeness.reasons.iter().map(|reason| for_terminal(reason)).collect();
                writeln!(self.err, "completeness: degraded: {}", reasons.join("; "))?;
            }
        }
        Ok(outcome)
    }

    /// Prints rows that are here already.
    pub(crate) fn print(
        &mut self,
        format: OutputFormat,
        style: Style,
        rows: &Kept,
        completeness: &Completeness,
    ) -> Result<Outcome, Failure> {
        let mut sheet = self.sheet(format, style);
        sheet.begin(&rows.columns)?;
        for row in &rows.rows {
            sheet.row(row.clone())?;
        }
        sheet.end(completeness)?;
        drop(sheet);
        self.conclude(format, completeness)
    }
}

/// Columns of text, for what does not come from a query.
pub(crate) fn text_columns(names: &[&str]) -> Vec<ResultColumn> {
    let column = |name: &&str| ResultColumn { name: (*name).to_owned(), kind: ColumnKind::Text.into() };
    names.iter().map(column).collect()
}

/// The names of the columns, each different from all others: the second `pid` is `pid:1`.
fn unique_names(columns: &[ResultColumn]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(columns.len());
    for column in columns {
        let numbered = (1..).map(|n| format!("{}:{n}", column.name));
        let taken =
            |name: &String| names.contains(name) || (name != &column.name && columns.iter().any(|c| c.name == *name));
        names.extend(std::iter::once(column.name.clone()).chain(numbered).find(|name| !taken(name)));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_unique() {
        let names = |names: &[&str]| unique_names(&text_columns(names));
        assert_eq!(names(&["pid", "pid", "name", "pid"]), ["pid", "pid:1", "name", "pid:2"]);
        assert_eq!(names(&["pid", "pid", "pid:1"]), ["pid", "pid:2", "pid:1"]);
        assert_eq!(names(&["pid:1", "pid:1"]), ["pid:1", "pid:1:1"]);
    }
}
