//! `cargo xtask bench-store`: the store beside SQLite, built only when it is asked for.

use crate::programs::cargo;
use testkit::Failure;

/// Builds and runs the measurement, with the features that the whole workspace has, so that nothing is compiled twice.
pub(crate) fn run(profile: &str, arguments: &[String]) -> Result<(), Failure> {
    let mut command = cargo();
    command.args(["bench", "--workspace", "--bench", "store", "--locked", "--profile", profile, "--"]).args(arguments);
    let status = command.status().map_err(|error| Failure::new(format!("cannot run {command:?}: {error}")))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{command:?} ended with {status}"))) }
}
