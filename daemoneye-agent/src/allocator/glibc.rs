use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// What an operator sets himself stays as it is; the first also says that the settings are made.
const SETTINGS: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "131072")];

/// Begins this program again with the settings, unless they are made; returns why it could not.
pub(crate) fn settle() -> Option<std::io::Error> {
    if std::env::var_os(SETTINGS[0].0).is_some() {
        return None;
    }
    let this = match std::env::current_exe() {
        Ok(this) => this,
        Err(error) => return Some(error),
    };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(this);
    command.arg0(arguments.next().as_deref().unwrap_or(OsStr::new("daemoneye-agent"))).args(arguments);
    command.envs(SETTINGS.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()));
    Some(command.exec())
}
