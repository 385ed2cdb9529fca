//! Rows that are kept, for commands that need all of them before they print.

use super::Sheet;
use daemoneye_lib::proto::ipc::{Cell, Completeness, ResultColumn};
use std::io;

/// A whole answer. Only for queries whose number of rows is bounded by what they ask.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) columns: Vec<ResultColumn>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Sheet for Kept {
    fn begin(&mut self, columns: &[ResultColumn]) -> io::Result<()> {
        self.columns = columns.to_vec();
        Ok(())
    }

    fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        self.rows.push(cells);
        Ok(())
    }

    fn end(&mut self, _: &Completeness) -> io::Result<()> {
        Ok(())
    }
}
