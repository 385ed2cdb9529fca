//! `cargo xtask bench-store` and `bench-rules`: the store beside SQLite, the rules beside other engines, built only when they are asked for.

use crate::programs::cargo;
use std::process::Command;
use testkit::{Failure, workspace_root};

/// Builds and runs a measurement, with the features that the whole workspace has, so that nothing is compiled twice.
pub(crate) fn run(name: &str, profile: &str, arguments: &[String]) -> Result<(), Failure> {
    let mut command = cargo();
    command.args(["bench", "--workspace", "--bench", name, "--locked", "--profile", profile, "--"]).args(arguments);
    succeed(command)
}

/// The rules beside others; the program with `rsigma` is built in a place of its own.
pub(crate) fn rules(rules: &[u32], events: u32, profile: &str) -> Result<(), Failure> {
    let oracle = workspace_root().join("sigma-oracle");
    let target = oracle.join("target");
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--manifest-path"]).arg(oracle.join("Cargo.toml"));
    build.arg("--target-dir").arg(&target);
    succeed(build)?;
    let counts: Vec<_> = rules.iter().map(u32::to_string).collect();
    let program = target.join("release/sigma-oracle");
    let arguments = [
        format!("--rules={}", counts.join(",")),
        format!("--events={events}"),
        format!("--rsigma={}", program.display()),
    ];
    run("rules", profile, &arguments)
}

fn succeed(mut command: Command) -> Result<(), Failure> {
    let status = command.status().map_err(|error| Failure::new(format!("cannot run {command:?}: {error}")))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{command:?} ended with {status}"))) }
}
