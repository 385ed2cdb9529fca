//! Running cargo, and building the programs where this executable was built.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::{Failure, workspace_root};

/// Cargo, in the root of the workspace; the one that started this program, if one did.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(workspace_root());
    command
}

/// Builds all programs in the target directory of this executable, and in its profile where no other is named.
pub(crate) fn build(profile: Option<&str>) -> Result<(), Failure> {
    let this = this_program()?;
    let (target_dir, own) = target_of(&this)?;
    // Whether the message arrives does not matter.
    let _ = writeln!(io::stderr(), "building the programs in {}", target_dir.display());
    let mut command = cargo();
    command.args(["build", "--workspace", "--bins", "--profile"]).arg(profile.map_or(own, OsStr::new));
    command.arg("--target-dir").arg(target_dir);
    let status = command.status().map_err(|error| Failure::new(format!("cannot run {command:?}: {error}")))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{command:?} ended with {status}"))) }
}

/// Whether this executable was built in the profile.
pub(crate) fn is_built_in(profile: &str) -> Result<bool, Failure> {
    Ok(target_of(&this_program()?)?.1 == profile)
}

/// Where a program is once it is built in the profile, in the target directory of this executable.
pub(crate) fn in_profile(profile: &str, program: &str) -> Result<PathBuf, Failure> {
    let dir = if profile == "dev" { "debug" } else { profile };
    Ok(target_of(&this_program()?)?.0.join(dir).join(program))
}

/// Copies this program; also when building has put another in its place since it was started.
pub(crate) fn copy_of_this(to: &Path) -> Result<(), Failure> {
    std::fs::copy("/proc/self/exe", to)
        .map(drop)
        .map_err(|error| Failure::new(format!("cannot copy this program to {}: {error}", to.display())))
}

fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::new(format!("cannot find this program: {error}")))
}

/// The target directory and the profile of an executable.
fn target_of(executable: &Path) -> Result<(&Path, &OsStr), Failure> {
    let profile_dir = executable.parent();
    match (profile_dir.and_then(Path::parent), profile_dir.and_then(Path::file_name)) {
        (Some(target), Some(dir)) => Ok((target, if dir == "debug" { OsStr::new("dev") } else { dir })),
        _ => Err(Failure::new(format!("{} is in no target directory of cargo", executable.display()))),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_built_where_this_one_was() {
        let target = Path::new("/t");
        assert_eq!(target_of(Path::new("/t/debug/xtask")).unwrap(), (target, OsStr::new("dev")));
        assert_eq!(target_of(Path::new("/t/release/xtask")).unwrap(), (target, OsStr::new("release")));
        assert!(target_of(Path::new("xtask")).is_err());
    }
}
