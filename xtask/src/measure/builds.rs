//! How large the programs are.

use super::table::{Table, mb};
use std::path::Path;
use std::process::Command;
use testkit::{Failure, find_binary};

pub(super) fn sizes() -> Result<Table, Failure> {
    let mut table = Table::new(&["program", "file", "without symbols"]);
    for program in ["procmond", "daemoneye-agent", "daemoneye-cli"] {
        let path = find_binary(program)?;
        table.row([program.to_owned(), mb(size(&path)?), stripped(&path)?.map_or("no `strip` here".to_owned(), mb)]);
    }
    Ok(table)
}

/// `None` where there is no `strip`.
fn stripped(path: &Path) -> Result<Option<u64>, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("cannot strip a copy of {}: {error}", path.display()));
    let copy = tempfile::NamedTempFile::new().map_err(failed)?;
    match Command::new("strip").arg("-s").arg("-o").arg(copy.path()).arg(path).status() {
        Ok(status) if status.success() => size(copy.path()).map(Some),
        Ok(status) => Err(failed(std::io::Error::other(format!("`strip` ended with {status}")))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn size(path: &Path) -> Result<u64, Failure> {
    let found = std::fs::metadata(path);
    found.map(|file| file.len()).map_err(|error| Failure::new(format!("cannot examine {}: {error}", path.display())))
}
