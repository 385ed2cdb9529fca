//! `cargo xtask up`: becomes the agent, in the foreground, with the rules of this checkout.

use crate::programs;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use testkit::{Failure, find_binary, workspace_root};

/// Replaces this process by the agent, so that Ctrl-C, SIGTERM and the exit code are the agent's own.
pub(crate) fn run(build: bool, agent_arguments: &[OsString]) -> Result<(), Failure> {
    if build {
        programs::build(None)?;
    }
    let mut command = Command::new(find_binary("daemoneye-agent")?);
    command.arg("run").args(["--status", "auto"]);
    if !agent_arguments.iter().any(|argument| names_rules_dir(argument)) {
        command.arg("--rules-dir").arg(workspace_root().join("rules"));
    }
    command.args(agent_arguments);
    let error = command.exec();
    Err(Failure::new(format!("cannot start {command:?}: {error}")))
}

fn names_rules_dir(argument: &OsStr) -> bool {
    argument.to_string_lossy().split('=').next() == Some("--rules-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rules_directory_of_the_caller_replaces_ours() {
        assert!(names_rules_dir(OsStr::new("--rules-dir")));
        assert!(names_rules_dir(OsStr::new("--rules-dir=/r")));
        assert!(!names_rules_dir(OsStr::new("/x/--rules-dir")));
    }
}
