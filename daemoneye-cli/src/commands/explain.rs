//! `explain`: what a question would read. People get each reading as a block and the plan as it is indented.

use super::query::Arguments;
use crate::executor::{Query, QueryExecutor, fetch};
use crate::failure::Failure;
use crate::output::{Kept, Outcome, Screen, Style, plain};
use crate::parameters;
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::models::text::for_terminal;
use daemoneye_lib::proto::ipc::{Cell, Completeness};

pub(crate) async fn run(
    arguments: &Arguments,
    executor: &impl QueryExecutor,
    query: Query,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let query = Query { explain: true, ..query };
    let given = parameters::bind(&query.sql, arguments.given());
    if format != OutputFormat::Table {
        let completeness = fetch(executor, &query, given, &mut *screen.sheet(format, Style::default())).await?;
        return screen.conclude(format, &completeness);
    }
    let mut told = Kept::default();
    fetch(executor, &query, given, &mut told).await?;
    let at = |name: &str| told.columns.iter().position(|column| column.name == name);
    let cell = |row: &[Cell], name: &str| at(name).and_then(|index| row.get(index)).and_then(plain);
    let shown =
        ["table_name", "columns", "pushed_down", "from_time", "to_time", "blocks", "blocks_read", "rows_at_most"];
    let (reads, plan): (Vec<_>, Vec<_>) =
        told.rows.iter().partition(|row| cell(row, "step").as_deref() == Some("read"));
    let of = |row: &[Cell], name: &str| at(name).and_then(|index| row.get(index)).cloned().unwrap_or_default();
    let reads = Kept {
        columns: told.columns.iter().filter(|column| shown.contains(&column.name.as_str())).cloned().collect(),
        rows: reads.into_iter().map(|row| shown.iter().map(|name| of(row, name)).collect()).collect(),
    };
    let outcome = screen.print(format, Style { blocks: true, ..Style::default() }, &reads, &Completeness::default())?;
    writeln!(screen.out)?;
    for row in plan {
        writeln!(screen.out, "{}", for_terminal(&cell(row, "detail").unwrap_or_default()))?;
    }
    screen.out.flush()?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Script, shown, text};
    use clap::{Args, FromArgMatches};
    use daemoneye_lib::proto::ipc::ColumnKind;

    #[test]
    fn readings_are_blocks_and_the_plan_keeps_its_shape() {
        let columns = ["step", "table_name", "columns", "pushed_down", "from_time", "to_time", "detail"];
        let columns: Vec<_> = columns.iter().map(|name| (*name, ColumnKind::Text)).collect();
        let script = Script::new(&columns)
            .row([text("read"), text("processes.events"), text("[\"pid\"]"), text("[]"), None, None, None])
            .row([text("plan"), None, None, None, None, None, text("Aggregate")])
            .row([text("plan"), None, None, None, None, None, text("  TableScan")]);
        let command = Arguments::augment_args(clap::Command::new("explain"));
        let matches = command.try_get_matches_from(["explain", "SELECT 1"]).unwrap();
        let arguments = Arguments::from_arg_matches(&matches).unwrap();
        let query = arguments.read(&mut std::io::empty()).unwrap();
        let (out, _, code) =
            shown(80, async |screen| run(&arguments, &script, query, OutputFormat::Table, screen).await);
        assert!(out.contains("table_name") && out.contains("processes.events"), "{out}");
        assert!(out.ends_with("\nAggregate\n  TableScan\n"), "{out}");
        assert_eq!(code, 0);
    }
}
