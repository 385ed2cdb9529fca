//! The store beside SQLite, on the same rows, each in a process of its own.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot be made ends with its reason")]

mod ours;
mod queries;
mod sqlite;

use clap::{Parser, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

#[derive(Parser)]
struct Arguments {
    /// `cargo bench` gives it
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Compare the store with SQLite
    Compare {
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
    },
    /// One side of the comparison
    #[command(hide = true)]
    Ours { dir: PathBuf, events: u64 },
    /// One side of the comparison
    #[command(hide = true)]
    Sqlite { dir: PathBuf, events: u64 },
}

/// Rows of a commit.
const COMMIT: u64 = 2_000;
/// 2026-01-01, and 2 ms between two events: a million are half an hour.
const START: i64 = 1_767_225_600_000_000_000;
const STEP: i64 = 2_000_000;

fn main() {
    match Arguments::parse().verb {
        Verb::Compare { events } => compare(events),
        Verb::Ours { dir, events } => ours::run(&dir, events),
        Verb::Sqlite { dir, events } => sqlite::run(&dir, events),
    }
}

/// A figure of a side: its name, then its value.
fn tell(name: &str, value: impl std::fmt::Display) {
    println!("{name}\t{value}");
}

/// Resident memory now and at most, in megabytes of 1,000,000 bytes.
fn memory() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |key: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1_024.0 / 1e6
    };
    (of("VmRSS:"), of("VmHWM:"))
}

fn compare(events: u64) {
    let side = |verb: &str| -> BTreeMap<String, String> {
        let dir = tempfile::Builder::new().prefix("daemoneye-bench-").tempdir_in("/tmp").unwrap();
        let this = std::env::current_exe().unwrap();
        let output = Command::new(this).arg(verb).arg(dir.path()).arg(events.to_string()).output().unwrap();
        assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| line.split_once('\t')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
    };
    let (ours, sqlite) = (side("ours"), side("sqlite"));
    println!("| {events} events | the store | SQLite |\n|---|---:|---:|");
    let names = ["rows a second in", "bytes of the file for each event", "bytes of that for events alone"];
    let names =
        names.into_iter().chain(queries::all(0).into_iter().map(|query| query.name)).chain(["one process by its key"]);
    for name in names.chain(["resident after all of it, MB", "resident at most, MB"]) {
        let cell = |side: &BTreeMap<String, String>| side.get(name).cloned().unwrap_or_default();
        println!("| {name} | {} | {} |", cell(&ours), cell(&sqlite));
    }
    // Two that answer differently are not compared.
    for (name, rows) in ours.iter().filter(|(name, _)| name.starts_with("rows of ")) {
        assert_eq!(Some(rows), sqlite.get(name), "{name}");
    }
}
