//! The command line as operators and scripts meet it: the real program against an agent that follows a script.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod agent;
mod connection;
mod offline;
mod sigma;
mod streams;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What a run of the program left: stdout, stderr, exit code.
type Ran = (String, String, i32);

/// The program with nothing of ours in its environment and its state below `home`.
fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daemoneye-cli"));
    command.env_clear().env("HOME", home).current_dir(home).stdin(Stdio::null());
    command
}

fn finish(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().expect("it was not killed"))
}

/// Runs the program on directories below `home`.
fn cli<S: AsRef<OsStr>>(home: &Path, arguments: &[S]) -> Ran {
    let mut command = program(home);
    command.arg("--data-dir").arg(home.join("d")).args(arguments);
    finish(command)
}

/// A directory whose path is short enough for a socket.
fn short_dir() -> TempDir {
    tempfile::Builder::new().prefix("de").tempdir_in("/tmp").unwrap()
}
