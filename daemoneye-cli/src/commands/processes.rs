//! `processes`: what runs now, as a list or as a family tree.

use crate::executor::{Query, QueryExecutor, fetch};
use crate::failure::Failure;
use crate::output::{Kept, Outcome, Screen, Style, plain};
use crate::tree::{Branch, Link, grow};
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::proto::ipc::{Cell, ColumnKind, ResultColumn, cell};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// As a family tree
    #[arg(long)]
    tree: bool,
}

const LIST: &str = "SELECT pid, ppid, user, name, cpu_usage, memory_usage, start_time, command_line \
    FROM processes WHERE end_time IS NULL ORDER BY pid";

/// The links of the tree come first.
const TREE: &str = "SELECT process_key, parent_key, pid, user, name, command_line \
    FROM processes WHERE end_time IS NULL ORDER BY pid";

pub(crate) async fn run(
    arguments: &Arguments,
    executor: &impl QueryExecutor,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    if arguments.tree {
        return tree(executor, format, screen).await;
    }
    let style = Style { show: Some(for_people), ..Style::default() };
    let completeness = fetch(executor, &Query::from(LIST), Vec::new(), &mut *screen.sheet(format, style)).await?;
    screen.conclude(format, &completeness)
}

/// Memory in units, shares with one decimal, times without fractions of a second.
pub(crate) fn for_people(column: &str, cell: &Cell) -> Option<String> {
    match (column, cell.value.as_ref()?) {
        ("memory_usage", cell::Value::Integer(bytes)) => Some(in_units(*bytes)),
        ("cpu_usage", cell::Value::Real(share)) => Some(format!("{share:.1}")),
        ("start_time", cell::Value::Text(time)) => time.split('.').next().map(str::to_owned),
        _ => None,
    }
}

fn in_units(bytes: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut amount = bytes as f64;
    for unit in ["B", "K", "M", "G"] {
        if amount < 1024.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{amount:.1}{unit}") };
        }
        amount /= 1024.0;
    }
    format!("{amount:.1}T")
}

/// The number of rows is bounded by the agent.
async fn tree(
    executor: &impl QueryExecutor,
    format: OutputFormat,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let mut found = Kept::default();
    let completeness = fetch(executor, &Query::from(TREE), Vec::new(), &mut found).await?;
    let keys: Vec<_> = found.rows.iter().map(|row| (at(row, 0).unwrap_or_default(), at(row, 1))).collect();
    let links: Vec<_> = keys.iter().map(|(key, parent)| Link { key, parent: parent.as_deref() }).collect();
    let branches = grow(&links);
    let rows = if format == OutputFormat::Table { drawn(&found, &branches) } else { with_depth(&found, &branches) };
    screen.print(format, Style::default(), &rows, &completeness)
}

fn at(row: &[Cell], column: usize) -> Option<String> {
    row.get(column).and_then(plain)
}

/// pid, user, then the name behind the lines of the tree, then the command line.
fn drawn(found: &Kept, branches: &[Branch]) -> Kept {
    let row = |branch: &Branch| {
        let row = found.rows.get(branch.index).map(Vec::as_slice).unwrap_or_default();
        let name = format!("{}{}", branch.lines, at(row, 4).unwrap_or_default());
        let cell = |column| row.get(column).cloned().unwrap_or_default();
        vec![cell(2), cell(3), Cell { value: Some(cell::Value::Text(name)) }, cell(5)]
    };
    let columns = found.columns.iter().skip(2).cloned().collect();
    Kept { columns, rows: branches.iter().map(row).collect() }
}

/// All columns behind the number of ancestors, in the order of the tree.
fn with_depth(found: &Kept, branches: &[Branch]) -> Kept {
    let row = |branch: &Branch| {
        let depth = i64::try_from(branch.depth).ok().map(cell::Value::Integer);
        let row = found.rows.get(branch.index).cloned().unwrap_or_default();
        std::iter::once(Cell { value: depth }).chain(row).collect()
    };
    let depth = ResultColumn { name: "depth".to_owned(), kind: ColumnKind::Integer.into() };
    let columns = std::iter::once(depth).chain(found.columns.iter().cloned()).collect();
    Kept { columns, rows: branches.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Script, integer, real, shown, text};

    fn show(script: &Script, tree: bool, format: OutputFormat) -> String {
        shown(90, async |screen| run(&Arguments { tree }, script, format, screen).await).0
    }

    #[test]
    fn the_list_shows_amounts_as_people_read_them() {
        let columns = [
            ("pid", ColumnKind::Integer),
            ("ppid", ColumnKind::Integer),
            ("user", ColumnKind::Text),
            ("name", ColumnKind::Text),
            ("cpu_usage", ColumnKind::Real),
            ("memory_usage", ColumnKind::Integer),
            ("start_time", ColumnKind::Time),
            ("command_line", ColumnKind::Text),
        ];
        let start = "2026-01-02 03:04:05.678901";
        let script = Script::new(&columns)
            .row([
                integer(1),
                None,
                text("root"),
                text("init"),
                real(0.04),
                integer(12_900_000),
                text(start),
                text("/sbin/init splash"),
            ])
            .row([
                integer(4711),
                integer(1),
                None,
                text("x"),
                None,
                integer(900),
                text(start),
                text(&"/usr/bin/x ".repeat(9)),
            ]);
        insta::assert_snapshot!(show(&script, false, OutputFormat::Table), @r"
         pid  ppid  user  name  cpu_usage  memory_usage  start_time           command_line
           1        root  init        0.0         12.3M  2026-01-02 03:04:05  /sbin/init splash
        4711     1        x                        900B  2026-01-02 03:04:05  /usr/bin/x /usr/bin…
        ");
        assert_eq!(script.asked.borrow()[0].0, LIST);
    }

    fn family() -> Script {
        let columns = [
            ("process_key", ColumnKind::Text),
            ("parent_key", ColumnKind::Text),
            ("pid", ColumnKind::Integer),
            ("user", ColumnKind::Text),
            ("name", ColumnKind::Text),
            ("command_line", ColumnKind::Text),
        ];
        Script::new(&columns)
            .row([text("k1"), None, integer(1), text("root"), text("init"), text("/sbin/init")])
            .row([text("k3"), text("k2"), integer(30), text("op"), text("sh"), text("-sh")])
            .row([text("k2"), text("k1"), integer(40), text("root"), text("sshd"), text("sshd -D")])
    }

    #[test]
    fn the_tree_is_joined_by_keys() {
        insta::assert_snapshot!(show(&family(), true, OutputFormat::Table), @r"
        pid  user  name      command_line
          1  root  init      /sbin/init
         40  root  └─ sshd   sshd -D
         30  op       └─ sh  -sh
        ");
    }

    #[test]
    fn the_tree_for_programs_tells_the_depth() {
        insta::assert_snapshot!(show(&family(), true, OutputFormat::Jsonl), @r#"
        {"depth":0,"process_key":"k1","parent_key":null,"pid":1,"user":"root","name":"init","command_line":"/sbin/init"}
        {"depth":1,"process_key":"k2","parent_key":"k1","pid":40,"user":"root","name":"sshd","command_line":"sshd -D"}
        {"depth":2,"process_key":"k3","parent_key":"k2","pid":30,"user":"op","name":"sh","command_line":"-sh"}
        "#);
    }
}
