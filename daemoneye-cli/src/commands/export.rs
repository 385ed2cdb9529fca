//! `data export`: rows from the agent into a file, which is there whole or not at all.

use crate::executor::{Query, QueryExecutor, fetch_all};
use crate::failure::{Failure, Kind};
use crate::output::{Outcome, Parquet, Screen, Sheet, Style};
use crate::parameters;
use daemoneye_lib::config::OutputFormat;
use daemoneye_lib::models::catalog::Table;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{Cell, Completeness, ResultColumn};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file; it must not exist
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Write over a file that exists
    #[arg(long)]
    force: bool,
    /// The table
    #[arg(long, value_name = "TABLE", default_value = "processes.events", value_parser = table)]
    table: String,
    /// Only events from this time on, as `2026-01-31` or `2026-01-31 12:00`, UTC
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<String>,
    /// Only events up to this time
    #[arg(long, value_name = "TIME", value_parser = instant)]
    to: Option<String>,
    /// Only rows of which this condition in SQL is true
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
}

/// How data is printed, or written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Shown(OutputFormat),
    Parquet,
}

impl Format {
    pub(crate) const PARQUET: &'static str = "parquet";
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet => Self::PARQUET,
            Self::Shown(OutputFormat::Table) => "table",
            Self::Shown(OutputFormat::Json) => "json",
            Self::Shown(OutputFormat::Jsonl) => "jsonl",
            Self::Shown(OutputFormat::Csv) => "csv",
        })
    }
}

fn table(name: &str) -> Result<String, String> {
    let name = name.to_ascii_lowercase();
    Table::find(&name).map(|_| name).ok_or_else(|| "there is no such table".to_owned())
}

fn instant(text: &str) -> Result<String, String> {
    let ns = time::parse(text).ok_or_else(|| "write it as 2026-01-31 or 2026-01-31 12:00".to_owned())?;
    Ok(time::sql_text(ns))
}

impl Arguments {
    /// The question; values are parameters.
    fn query(&self) -> Result<(Query, Vec<String>), Failure> {
        let time = Table::find(&self.table).and_then(Table::time_column);
        if time.is_none() && (self.from.is_some() || self.to.is_some()) {
            let message = format!("--from and --to are for tables of events and of snapshots, not for {}", self.table);
            return Err(Failure::new(Kind::Usage, message).hint("use --where"));
        }
        let mut conditions = Vec::new();
        let time = time.unwrap_or_default();
        conditions.extend(self.from.as_ref().map(|_| format!("{time} >= ?")));
        conditions.extend(self.to.as_ref().map(|_| format!("{time} <= ?")));
        // On lines of its own: a comment in it ends there.
        conditions.extend(self.condition.as_ref().map(|condition| format!("(\n{condition}\n)")));
        let condition =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let sql = format!("SELECT * FROM {}{condition}", self.table);
        Ok((Query::from(sql.as_str()), self.from.iter().chain(&self.to).cloned().collect()))
    }
}

pub(crate) async fn run(
    arguments: &Arguments,
    executor: &impl QueryExecutor,
    format: Option<Format>,
    screen: &mut Screen<'_>,
) -> Result<Outcome, Failure> {
    let format = match format {
        Some(format @ (Format::Parquet | Format::Shown(OutputFormat::Csv | OutputFormat::Jsonl))) => format,
        Some(other) => {
            return Err(Failure::new(Kind::Usage, format!("`{other}` is no format of files"))
                .hint("use --format parquet, csv or jsonl"));
        }
        None => {
            return Err(Failure::new(Kind::Usage, "an export needs --format parquet, csv or jsonl"));
        }
    };
    let (query, values) = arguments.query()?;
    let values = values.iter().map(|value| parameters::text(value)).collect();
    let target = Target::new(&arguments.output, arguments.force)?;
    let mut file = BufWriter::new(target.create()?);
    let mut rows = 0;
    let written = {
        let mut nowhere = io::sink();
        let mut page;
        let sheet: Box<dyn Sheet + '_> = match format {
            Format::Parquet => Box::new(Parquet::new(&mut file)),
            Format::Shown(format) => {
                page = Screen { out: &mut file, err: &mut nowhere, width: 0, terminal: false, colours: false };
                page.sheet(format, Style::default())
            }
        };
        fetch_all(executor, &query, values, &mut Counting { sheet, rows: &mut rows }).await
    };
    let completeness = match written {
        Ok(completeness) => completeness,
        Err(failure) => {
            drop(file);
            target.discard();
            return Err(failure);
        }
    };
    target.finish(file)?;
    writeln!(screen.out, "{rows} rows in {}", arguments.output.display())?;
    screen.conclude(OutputFormat::Table, &completeness)
}

/// A sheet, and how many rows are on it.
struct Counting<'a> {
    sheet: Box<dyn Sheet + 'a>,
    rows: &'a mut u64,
}

impl Sheet for Counting<'_> {
    fn begin(&mut self, columns: &[ResultColumn]) -> io::Result<()> {
        self.sheet.begin(columns)
    }

    fn row(&mut self, cells: Vec<Cell>) -> io::Result<()> {
        *self.rows += 1;
        self.sheet.row(cells)
    }

    fn end(&mut self, completeness: &Completeness) -> io::Result<()> {
        self.sheet.end(completeness)
    }
}

/// The file to be, and where it is written until it is whole.
struct Target<'a> {
    path: &'a Path,
    partial: PathBuf,
    force: bool,
}

impl<'a> Target<'a> {
    fn new(path: &'a Path, force: bool) -> Result<Self, Failure> {
        let target = Self { path, partial: partial(path), force };
        target.check()?;
        Ok(target)
    }

    fn check(&self) -> Result<(), Failure> {
        if !self.force && self.path.symlink_metadata().is_ok() {
            let message = format!("{} exists", self.path.display());
            return Err(Failure::new(Kind::Failed, message).hint("name another file, or give --force"));
        }
        Ok(())
    }

    fn create(&self) -> Result<File, Failure> {
        OpenOptions::new().write(true).create_new(true).open(&self.partial).map_err(|error| {
            let failure = Failure::new(Kind::Failed, format!("cannot write {}: {error}", self.partial.display()));
            match error.kind() {
                io::ErrorKind::AlreadyExists => failure.hint("another export may be writing it; if none is, remove it"),
                _ => failure,
            }
        })
    }

    fn finish(&self, file: BufWriter<File>) -> Result<(), Failure> {
        let moved = file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(|error| Failure::new(Kind::Failed, format!("cannot write {}: {error}", self.partial.display())))
            .and_then(|()| self.check())
            .and_then(|()| {
                fs::rename(&self.partial, self.path).map_err(|error| {
                    Failure::new(Kind::Failed, format!("cannot write {}: {error}", self.path.display()))
                })
            });
        if moved.is_err() {
            self.discard();
        }
        moved
    }

    /// What is half a file is none.
    fn discard(&self) {
        let _ = fs::remove_file(&self.partial);
    }
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Script, integer, shown, text};
    use daemoneye_lib::proto::ipc::ColumnKind;
    use std::io::Write as _;

    #[test]
    fn times_are_parameters_and_a_condition_stays_in_its_parentheses() {
        let mut arguments = Arguments {
            output: PathBuf::from("x"),
            force: false,
            table: "processes.events".to_owned(),
            from: Some(instant("2026-01-31").unwrap()),
            to: None,
            condition: Some("pid = 1 -- only".to_owned()),
        };
        let (query, values) = arguments.query().unwrap();
        assert_eq!(query.sql, "SELECT * FROM processes.events WHERE event_time >= ? AND (\npid = 1 -- only\n)");
        assert_eq!(values, ["2026-01-31 00:00:00.000000"]);
        arguments.table = "alerts".to_owned();
        assert!(arguments.query().is_err());
        arguments.from = None;
        assert!(arguments.query().is_ok());
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let export = |name: &str, script: &Script| {
            let arguments = Arguments {
                output: dir.path().join(name),
                force: false,
                table: "alerts".to_owned(),
                from: None,
                to: None,
                condition: Some("pid = 7".to_owned()),
            };
            let format = Some(Format::Shown(OutputFormat::Csv));
            shown(80, async |screen| run(&arguments, script, format, screen).await)
        };
        let script =
            || Script::new(&[("pid", ColumnKind::Integer), ("name", ColumnKind::Text)]).row([integer(7), text("sh")]);
        let whole = script();
        let (out, _, code) = export("whole.csv", &whole);
        assert_eq!((out, code), (format!("1 rows in {}\n", dir.path().join("whole.csv").display()), 0));
        assert_eq!(fs::read_to_string(dir.path().join("whole.csv")).unwrap(), "pid,name\r\n7,sh\r\n");
        assert_eq!(whole.asked.borrow()[0].0, "SELECT * FROM alerts WHERE (\npid = 7\n)");
        for script in [script().cut_off(), script().broken()] {
            assert_eq!(export("half.csv", &script).2, 1);
        }
        assert_eq!(export("degraded.csv", &script().degraded("polling")).2, 3);
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["degraded.csv", "whole.csv"], "nothing is left of half a file");
    }

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.csv");
        let write = |force, bytes: &[u8]| {
            let target = Target::new(&path, force)?;
            let mut file = BufWriter::new(target.create()?);
            file.write_all(bytes)?;
            target.finish(file)
        };
        write(false, b"one").unwrap();
        assert!(write(false, b"two").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(true, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }
}
