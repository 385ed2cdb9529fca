//! JSON: one document, or an object on each line.

use super::{Sheet, unique_names};
use daemoneye_lib::models::columns;
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, Completeness, ResultColumn};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::io::{self, Write};

/// `{"columns":[…],"rows":[{…}],"completeness":{…}}`. Until `end` it does not parse.
pub(super) struct Document<'a> {
    out: &'a mut dyn Write,
    rows: Rows,
    first: bool,
}

impl<'a> Document<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, rows: Rows::default(), first: true }
    }
}

impl Sheet for Document<'_> {
    fn show(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn begin(&mut self, columns: &[ResultColumn]) -> io::Result<()> {
        self.rows = Rows::new(columns);
        write!(self.out, "{{\"columns\":")?;
        write(self.out, &json!(self.rows.names))?;
        write!(self.out, ",\"rows\":[")
    }

    fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        write!(self.out, "{}", if std::mem::take(&mut self.first) { "\n" } else { ",\n" })?;
        write(self.out, &self.rows.object(&cells))
    }

    fn end(&mut self, completeness: &Completeness) -> io::Result<()> {
        let status = if completeness.degraded { "degraded" } else { "complete" };
        write!(self.out, "\n],\"completeness\":")?;
        write(self.out, &json!({ "status": status, "reasons": completeness.reasons }))?;
        writeln!(self.out, "}}")
    }
}

/// An object on each line.
pub(super) struct Lines<'a> {
    out: &'a mut dyn Write,
    rows: Rows,
}

impl<'a> Lines<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, rows: Rows::default() }
    }
}

impl Sheet for Lines<'_> {
    fn show(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn begin(&mut self, columns: &[ResultColumn]) -> io::Result<()> {
        self.rows = Rows::new(columns);
        Ok(())
    }

    fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        write(self.out, &self.rows.object(&cells))?;
        writeln!(self.out)
    }

    fn end(&mut self, _: &Completeness) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct Rows {
    names: Vec<String>,
    kinds: Vec<ColumnKind>,
}

impl Rows {
    fn new(columns: &[ResultColumn]) -> Self {
        Self { names: unique_names(columns), kinds: columns.iter().map(ResultColumn::kind).collect() }
    }

    fn object(&self, cells: &[Cell]) -> Value {
        let values = self.kinds.iter().zip(cells).map(|(kind, cell)| columns::Value::from(cell).json(*kind));
        Value::Object(self.names.iter().cloned().zip(values).collect::<Map<_, _>>())
    }
}

fn write(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Harmless)).map_err(io::Error::from)
}

/// Compact JSON in which every character that could command a terminal is an escape. Nothing is lost by it.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let is_harmless = |text: &str| matches!(for_terminal(text), Cow::Borrowed(_));
        if is_harmless(fragment) {
            return writer.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            let (mut utf8, mut utf16) = ([0; 4], [0; 2]);
            let text = c.encode_utf8(&mut utf8);
            if is_harmless(text) {
                writer.write_all(text.as_bytes())?;
            } else {
                c.encode_utf16(&mut utf16).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }
}
