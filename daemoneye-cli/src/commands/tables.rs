//! `tables`: what can be asked about, from the catalog that this program has in common with the agent.

use crate::failure::{Failure, Kind};
use crate::output::{Kept, Outcome, Screen, Style, text_columns};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::detection::nearest;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::describe;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, Completeness, cell};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The table whose columns are wanted
    name: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, format: OutputFormat, screen: &mut Screen<'_>) -> Result<Outcome, Failure> {
    let rows = match &arguments.name {
        None => tables(),
        Some(name) => columns(find(name)?),
    };
    screen.print(format, Style::default(), &rows, &Completeness::default())
}

fn find(name: &str) -> Result<Table, Failure> {
    Table::find(name).ok_or_else(|| {
        let names: Vec<String> = Table::ALL.into_iter().flat_map(names).collect();
        let failure = Failure::new(Kind::NotFound, format!("no such table: {name}"));
        match nearest(name, names.iter().map(String::as_str)) {
            Some(nearest) => failure.hint(format!("did you mean `{nearest}`?")),
            None => failure.hint("`daemoneye-cli tables` names them all"),
        }
    })
}

/// What a table may be called.
fn names(table: Table) -> Vec<String> {
    let (schema, own) = table.qualified_name();
    std::iter::once(format!("{schema}.{own}")).chain(table.short_name().map(str::to_owned)).collect()
}

fn tables() -> Kept {
    let row = |table: Table| {
        let names = names(table);
        let short = names.get(1).map_or_else(Cell::default, |name| text(name));
        let columns = i64::try_from(table.columns().len()).ok().map(cell::Value::Integer);
        let name = names.first().map(String::as_str).unwrap_or_default();
        vec![text(name), short, Cell { value: columns }, text(describe::table(table))]
    };
    let mut columns = text_columns(&["table_name", "short", "columns", "description"]);
    columns
        .iter_mut()
        .filter(|column| column.name == "columns")
        .for_each(|column| column.set_kind(ColumnKind::Integer));
    Kept { columns, rows: Table::ALL.into_iter().map(row).collect() }
}

fn columns(table: Table) -> Kept {
    let row = |(name, kind): (&'static str, ColumnKind)| {
        let described = describe::column(table, name);
        vec![text(name), text(&kind.as_str_name().to_ascii_lowercase()), described.map_or_else(Cell::default, text)]
    };
    let rows = table.columns().into_iter().map(row).collect();
    Kept { columns: text_columns(&["column_name", "kind", "description"]), rows }
}

fn text(text: &str) -> Cell {
    Cell { value: Some(cell::Value::Text(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::shown;

    fn asked(name: Option<&str>) -> (String, String, u8) {
        let arguments = Arguments { name: name.map(str::to_owned) };
        shown(100, async |screen| run(&arguments, OutputFormat::Csv, screen))
    }

    #[test]
    fn every_table_and_every_column_is_told() {
        let (out, _, code) = asked(None);
        assert_eq!((out.lines().count(), code), (1 + Table::ALL.len(), 0), "{out}");
        assert!(out.contains("processes.current,processes,"), "{out}");
        let (out, _, _) = asked(Some("PROCESSES.events"));
        assert_eq!(out.lines().count(), 1 + Table::ProcessEvents.columns().len());
        assert!(out.contains("\r\nevent_time,time,"), "{out}");
    }

    #[test]
    fn a_table_that_is_not_there_is_exit_4_with_the_nearest() {
        let (_, err, code) = asked(Some("process"));
        assert_eq!((err.as_str(), code), ("error: no such table: process\nhint: did you mean `processes`?\n", 4));
    }
}
