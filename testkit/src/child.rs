//! A child process with everything it starts, ended at the latest when its owner is dropped.

use crate::{Failure, host, poll};
use rustix::process::Signal;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A child process, leader of a process group of its own; its output goes to files, so that it never waits for a reader.
///
/// Dropping it kills the group and waits for the child. A process that left the group is not reached.
pub struct Child {
    process: std::process::Child,
    pid: u32,
    files: TempDir,
    stderr: PathBuf,
}

impl Child {
    /// Starts the command with an empty standard input.
    pub fn spawn(command: Command) -> Result<Self, Failure> {
        Self::spawn_with_input(command, b"")
    }

    /// Starts the command; its standard input is a file with these bytes.
    pub fn spawn_with_input(command: Command, input: &[u8]) -> Result<Self, Failure> {
        Self::start(command, None, input, None)
    }

    /// Starts the command with this for its standard input.
    pub fn spawn_with_stdin(command: Command, stdin: Stdio) -> Result<Self, Failure> {
        Self::start(command, Some(stdin), b"", None)
    }

    /// Starts the command; its standard error, and that of what it starts, is added to the end of this file.
    pub fn spawn_logging(command: Command, log: &Path) -> Result<Self, Failure> {
        Self::start(command, None, b"", Some(log))
    }

    fn start(mut command: Command, stdin: Option<Stdio>, input: &[u8], log: Option<&Path>) -> Result<Self, Failure> {
        let program = PathBuf::from(command.get_program());
        let cannot = |error: std::io::Error| Failure::new(format!("cannot start {}: {error}", program.display()));
        let files = tempfile::Builder::new().prefix("daemoneye-child-").tempdir().map_err(cannot)?;
        let at = |name| files.path().join(name);
        std::fs::write(at("stdin"), input).map_err(cannot)?;
        let stderr = log.map_or_else(|| at("stderr"), Path::to_path_buf);
        let log = OpenOptions::new().create(true).append(true).open(&stderr).map_err(cannot)?;
        let stdin = match stdin {
            Some(stdin) => stdin,
            None => File::open(at("stdin")).map_err(cannot)?.into(),
        };
        command
            .stdin(stdin)
            .stdout(Stdio::from(File::create(at("stdout")).map_err(cannot)?))
            .stderr(Stdio::from(log))
            .process_group(0);
        let process = command.spawn().map_err(cannot)?;
        Ok(Self { pid: process.id(), process, files, stderr })
    }

    /// Its pid, which is also the id of its process group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.files.path().join("stdout"))
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Sends it a signal; an error when it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Failure> {
        if let Some(status) = self.exited()? {
            return Err(Failure::new(format!("process {} has ended already: {status}", self.pid)));
        }
        rustix::process::kill_process(host::pid_of(self.pid)?, signal)
            .map_err(|error| Failure::new(format!("cannot signal process {}: {error}", self.pid)))
    }

    /// How it ended, or `None` while it runs.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.process.try_wait().map_err(|error| Failure::new(format!("cannot wait for process {}: {error}", self.pid)))
    }

    /// Waits for its end; a failure with its stderr when it still runs after `timeout`.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<ExitStatus, Failure> {
        let ended = poll(timeout, || self.exited().transpose());
        ended.unwrap_or_else(|| {
            let pid = self.pid;
            Err(Failure::new(format!("process {pid} still runs after {timeout:?}; its stderr:\n{}", self.stderr())))
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The group may outlive its leader. The id cannot be another group's: pids come round only after all others.
        if let Ok(group) = host::pid_of(self.pid) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_for;

    const LIMIT: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_input_and_status_are_kept() {
        let mut child = Child::spawn_with_input(shell("cat; echo oops >&2; exit 7"), b"hello").unwrap();
        assert_eq!(child.wait_timeout(LIMIT).unwrap().code(), Some(7));
        assert_eq!(child.stdout(), "hello");
        assert_eq!(child.stderr(), "oops\n");
        assert!(child.signal(Signal::TERM).is_err());
    }

    #[test]
    fn dropping_ends_what_the_child_started_even_after_its_own_end() {
        let mut child = Child::spawn(shell("sleep 600 & echo $!")).unwrap();
        child.wait_timeout(LIMIT).unwrap();
        let grandchild = child.stdout().trim().to_owned();
        let stat = format!("/proc/{grandchild}/stat");
        assert!(Path::new(&stat).exists());
        drop(child);
        wait_for("the grandchild's end", LIMIT, || std::fs::read_to_string(&stat).map_or(true, |s| s.contains(") Z ")));
    }

    #[test]
    fn a_child_that_does_not_end_is_a_failure() {
        let mut child = Child::spawn(shell("echo busy >&2; exec sleep 600")).unwrap();
        wait_for("its message", LIMIT, || child.stderr() == "busy\n");
        let failure = child.wait_timeout(Duration::from_millis(50)).unwrap_err();
        assert!(failure.to_string().contains("busy"), "{failure}");
    }
}
