//! Where the workspace, its binaries and the corpus are.

use crate::Failure;
use std::path::{Path, PathBuf};

/// The root of the workspace that this was compiled from.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The corpus of public rules and events: `DAEMONEYE_CORPUS`, else `../shared/corpus` beside the workspace; `None` when
/// it is not there.
pub fn corpus() -> Option<PathBuf> {
    let dir =
        std::env::var_os("DAEMONEYE_CORPUS").map_or_else(|| workspace_root().join("../shared/corpus"), PathBuf::from);
    dir.is_dir().then_some(dir)
}

/// The built binary `name` of the workspace, in the target directory that the running executable belongs to.
///
/// # Panics
///
/// When it has not been built; the message holds the command that builds it.
pub fn binary(name: &str) -> PathBuf {
    match find_binary(name) {
        Ok(path) => path,
        Err(failure) => panic!("{failure}"),
    }
}

/// Like [`binary`], without the panic.
pub fn find_binary(name: &str) -> Result<PathBuf, Failure> {
    let running = std::env::current_exe()
        .map_err(|error| Failure::new(format!("cannot find the running executable: {error}")))?;
    let path = profile_dir(&running).join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if path.is_file() {
        Ok(path)
    } else {
        Err(Failure::new(format!(
            "{} does not exist; build it with `cargo build --workspace --bins` (same profile, same target directory)",
            path.display()
        )))
    }
}

/// Test executables are in `deps` (examples in `examples`) below the directory that holds the binaries.
fn profile_dir(executable: &Path) -> &Path {
    let dir = executable.parent().unwrap_or(executable);
    match dir.file_name().and_then(|name| name.to_str()) {
        Some("deps" | "examples") => dir.parent().unwrap_or(dir),
        _ => dir,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_sought_beside_binaries_and_above_test_executables() {
        let dir = Path::new("/t/debug");
        assert_eq!(profile_dir(Path::new("/t/debug/xtask")), dir);
        assert_eq!(profile_dir(Path::new("/t/debug/deps/it-0f")), dir);
        assert_eq!(profile_dir(Path::new("/t/debug/examples/bench")), dir);
    }

    #[test]
    fn a_missing_binary_is_answered_with_the_command_that_builds_it() {
        let failure = find_binary("no-such-binary").unwrap_err();
        assert!(failure.to_string().contains("cargo build --workspace --bins"), "{failure}");
    }

    #[test]
    fn the_workspace_root_holds_the_workspace() {
        assert!(workspace_root().join("testkit/src/places.rs").is_file());
    }
}
