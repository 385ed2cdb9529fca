//! Running cargo, and building the programs where this executable was built.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;
use testkit::{Failure, workspace_root};

/// Cargo, in the root of the workspace; the one that started this program, if one did.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(workspace_root());
    command
}

/// Builds all programs in the profile and the target directory of this executable.
pub(crate) fn build() -> Result<(), Failure> {
    let this = std::env::current_exe().map_err(|error| Failure::new(format!("cannot find this program: {error}")))?;
    let Some((target_dir, profile)) = target_of(&this) else {
        return Err(Failure::new(format!("{} is in no target directory of cargo", this.display())));
    };
    // Whether the message arrives does not matter.
    let _ = writeln!(io::stderr(), "building the programs in {}", target_dir.display());
    let mut command = cargo();
    command.args(["build", "--workspace", "--bins", "--profile"]).arg(profile).arg("--target-dir").arg(target_dir);
    let status = command.status().map_err(|error| Failure::new(format!("cannot run {command:?}: {error}")))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{command:?} ended with {status}"))) }
}

fn target_of(executable: &Path) -> Option<(&Path, &OsStr)> {
    let profile_dir = executable.parent()?;
    let profile = profile_dir.file_name()?;
    Some((profile_dir.parent()?, if profile == "debug" { OsStr::new("dev") } else { profile }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_built_where_this_one_was() {
        let target = Path::new("/t");
        assert_eq!(target_of(Path::new("/t/debug/xtask")), Some((target, OsStr::new("dev"))));
        assert_eq!(target_of(Path::new("/t/release/xtask")), Some((target, OsStr::new("release"))));
        assert_eq!(target_of(Path::new("xtask")), None);
    }
}
