//! Tables for people.
//!
//! The first rows are kept until there are enough to measure the columns by; then all rows go out as they arrive. Where the
//! columns do not fit side by side, each row becomes a block with a line for each column.

use super::layout::{GAP, Wish, cut, fit, wrap, wrap_words};
use super::{Sheet, cell, unique_names};
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, Completeness, ResultColumn};
use std::io::{self, Write};
use unicode_width::UnicodeWidthStr;

/// So many rows are measured before the first is printed.
const MEASURED: usize = 500;

/// How a table departs from showing cells as SQL does.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    /// Shows a cell of the named column in another way.
    pub(crate) show: Option<fn(&str, &Cell) -> Option<String>>,
    /// Always a block for each row, with long cells wrapped, not cut.
    pub(crate) blocks: bool,
    /// What does not fit into its column goes on in the next line, and is not cut.
    pub(crate) wraps: bool,
}

pub(super) struct Table<'a> {
    out: &'a mut dyn Write,
    width: usize,
    colours: bool,
    style: Style,
    columns: Vec<Heading>,
    measured: Vec<Vec<String>>,
    form: Option<Form>,
    printed: usize,
}

struct Heading {
    /// As the agent named it.
    column: String,
    /// Different from all others, and harmless.
    name: String,
    kind: ColumnKind,
}

enum Form {
    Columns(Vec<usize>),
    Blocks,
}

impl<'a> Table<'a> {
    pub(super) fn new(out: &'a mut dyn Write, width: usize, colours: bool, style: Style) -> Self {
        Self { out, width, colours, style, columns: Vec::new(), measured: Vec::new(), form: None, printed: 0 }
    }

    fn text(&self, heading: &Heading, cell: &Cell) -> String {
        let own = self.style.show.and_then(|show| show(&heading.column, cell));
        let text = own.or_else(|| cell::plain(cell)).unwrap_or_default();
        for_terminal(&text).into_owned()
    }

    /// Decides the form by the rows so far, and prints them.
    fn start(&mut self) -> io::Result<()> {
        let wish = |(index, heading): (usize, &Heading)| {
            let widest = self.measured.iter().filter_map(|row| row.get(index)).map(|text| text.width()).max();
            Wish { natural: widest.unwrap_or(0).max(heading.name.width()), text: heading.is_text() }
        };
        let wishes: Vec<_> = self.columns.iter().enumerate().map(wish).collect();
        let form = match fit(&wishes, self.width).filter(|_| !self.style.blocks) {
            Some(widths) => Form::Columns(widths),
            None => Form::Blocks,
        };
        if let Form::Columns(widths) = &form {
            let names: Vec<_> = self.columns.iter().map(|heading| heading.name.clone()).collect();
            let line = self.line(&names, widths);
            let (bold, normal) = if self.colours { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            writeln!(self.out, "{bold}{line}{normal}")?;
        }
        let rows = std::mem::take(&mut self.measured);
        for row in rows {
            self.print(&form, &row)?;
        }
        self.form = Some(form);
        Ok(())
    }

    fn print(&mut self, form: &Form, row: &[String]) -> io::Result<()> {
        self.printed += 1;
        match form {
            Form::Columns(widths) if self.style.wraps => {
                let cells: Vec<_> = row.iter().zip(widths).map(|(text, width)| wrap_words(text, *width)).collect();
                for index in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                    let part = |lines: &Vec<String>| lines.get(index).cloned().unwrap_or_default();
                    let line = self.line(&cells.iter().map(part).collect::<Vec<_>>(), widths);
                    writeln!(self.out, "{line}")?;
                }
                Ok(())
            }
            Form::Columns(widths) => {
                let line = self.line(row, widths);
                writeln!(self.out, "{line}")
            }
            Form::Blocks => self.block(row),
        }
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((heading, text), width) in self.columns.iter().zip(row).zip(widths) {
            let text = if heading.is_text() { cut(text, *width) } else { text.clone() };
            let blanks = " ".repeat(width.saturating_sub(text.width()));
            let (before, behind) = if heading.is_number() { (blanks.as_str(), "") } else { ("", blanks.as_str()) };
            line.extend([before, &text, behind, &" ".repeat(GAP)]);
        }
        line.truncate(line.trim_end().len());
        line
    }

    fn block(&mut self, row: &[String]) -> io::Result<()> {
        let names = self.columns.iter().map(|heading| heading.name.width()).max().unwrap_or(0);
        let room = self.width.saturating_sub(names + GAP).max(GAP);
        if !self.style.blocks {
            writeln!(self.out, "── row {} ──", self.printed)?;
        }
        for (heading, text) in self.columns.iter().zip(row) {
            let lines = if self.style.blocks { wrap(text, room) } else { vec![cut(text, room)] };
            let labels = std::iter::once(heading.name.as_str()).chain(std::iter::repeat(""));
            for (label, line) in labels.zip(lines) {
                let blanks = " ".repeat(names - label.width() + GAP);
                writeln!(self.out, "{}", format!("{label}{blanks}{line}").trim_end())?;
            }
        }
        Ok(())
    }
}

impl Heading {
    fn is_text(&self) -> bool {
        matches!(self.kind, ColumnKind::Text | ColumnKind::Json)
    }

    fn is_number(&self) -> bool {
        matches!(self.kind, ColumnKind::Integer | ColumnKind::Real)
    }
}

impl Sheet for Table<'_> {
    fn begin(&mut self, columns: &[ResultColumn]) -> io::Result<()> {
        let heading = |(name, column): (String, &ResultColumn)| Heading {
            column: column.name.clone(),
            name: for_terminal(&name).into_owned(),
            kind: column.kind(),
        };
        self.columns = unique_names(columns).into_iter().zip(columns).map(heading).collect();
        Ok(())
    }

    fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        let row: Vec<_> = self.columns.iter().zip(&cells).map(|(heading, cell)| self.text(heading, cell)).collect();
        match self.form.take() {
            Some(form) => {
                let printed = self.print(&form, &row);
                self.form = Some(form);
                printed
            }
            None => {
                self.measured.push(row);
                if self.measured.len() == MEASURED { self.start() } else { Ok(()) }
            }
        }
    }

    fn end(&mut self, _: &Completeness) -> io::Result<()> {
        if self.form.is_none() { self.start() } else { Ok(()) }
    }
}
