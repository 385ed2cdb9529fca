//! A private place on disk for one monitor, and the commands that work in it.

use crate::{Failure, find_binary, poll};
use rustix::process::Signal;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// What a command wrote and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; -1 when a signal ended it.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Data, runtime and rules directories, a configuration file and a home of one monitor, all in one temporary directory.
///
/// The path is short, because those of sockets are limited to 108 bytes, and has no hidden component. Dropping the site
/// ends every process that was started on its data directory, however it was started, and removes the directory.
pub struct Site {
    root: TempDir,
    rules: PathBuf,
    programs: Option<PathBuf>,
    user: Option<u32>,
    variables: Vec<(String, String)>,
    test_mode: bool,
}

/// Where procmond sees processes.
const SOURCE: &str = "PROCMOND_PROCMOND__SOURCE";

impl Site {
    /// A new site with an empty rules directory and an empty configuration file.
    pub fn new() -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| Failure::new(format!("cannot make a temporary directory: {error}"));
        let root = tempfile::Builder::new().prefix("daemoneye-").tempdir_in("/tmp").map_err(cannot)?;
        for dir in ["home", "rules"] {
            std::fs::create_dir(root.path().join(dir)).map_err(cannot)?;
        }
        std::fs::write(root.path().join("config.toml"), "").map_err(cannot)?;
        let rules = root.path().join("rules");
        let variables = vec![(SOURCE.to_owned(), "poll".to_owned())];
        Ok(Self { root, rules, programs: None, user: None, variables, test_mode: false })
    }

    /// The same with another source of processes than scans: a site is of its own, and the kernel tells of all others too.
    #[must_use]
    pub fn seeing_by(mut self, source: &str) -> Self {
        self.variables.retain(|(name, _)| name != SOURCE);
        self.with_variable(SOURCE, source)
    }

    /// The same with another rules directory, which stays where it is.
    #[must_use]
    pub fn with_rules(mut self, dir: &Path) -> Self {
        self.rules = dir.to_path_buf();
        self
    }

    /// The same with this configuration file.
    pub fn with_config(self, text: &str) -> Result<Self, Failure> {
        let path = self.config_file();
        std::fs::write(&path, text)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
        Ok(self)
    }

    /// The same with this environment variable for every program.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with an agent in test mode.
    #[must_use]
    pub fn in_test_mode(mut self) -> Self {
        self.test_mode = true;
        self
    }

    /// The same with the programs of this directory, which stays where it is.
    #[must_use]
    pub fn with_programs(mut self, dir: &Path) -> Self {
        self.programs = Some(dir.to_path_buf());
        self
    }

    /// The same with the programs in a directory of the site, `programs`: what is not there yet is linked from where it was
    /// built, so that one can be put into another's place first.
    pub fn with_own_programs(mut self) -> Result<Self, Failure> {
        let dir = self.root().join("programs");
        let cannot = |error: std::io::Error| Failure::new(format!("cannot fill {}: {error}", dir.display()));
        std::fs::create_dir_all(&dir).map_err(cannot)?;
        for name in ["daemoneye-agent", "daemoneye-cli", "procmond"] {
            let (built, own) = (find_binary(name)?, dir.join(name));
            if !own.exists() {
                // Another file system takes no link.
                std::fs::hard_link(&built, &own).or_else(|_| std::fs::copy(&built, &own).map(drop)).map_err(cannot)?;
            }
        }
        self.programs = Some(dir);
        Ok(self)
    }

    /// The same with everything in it owned by this user, as whom all programs run; only root can do this.
    pub fn as_user(self, uid: u32) -> Result<Self, Failure> {
        let mut site = self.with_own_programs()?;
        let own = |path: &Path| {
            std::os::unix::fs::chown(path, Some(uid), Some(uid))
                .map_err(|error| Failure::new(format!("cannot give {} to user {uid}: {error}", path.display())))
        };
        for place in [site.root(), &site.root().join("home"), &site.root().join("rules"), &site.config_file()] {
            own(place)?;
        }
        site.user = Some(uid);
        Ok(site)
    }

    /// The directory that holds everything else; tests may put more into it.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The data directory; made by the programs themselves.
    pub fn data_dir(&self) -> PathBuf {
        self.root().join("data")
    }

    /// The runtime directory; made by the programs themselves.
    pub fn runtime_dir(&self) -> PathBuf {
        self.root().join("run")
    }

    /// The rules directory.
    pub fn rules_dir(&self) -> &Path {
        &self.rules
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.root().join("config.toml")
    }

    /// Writes `<rules>/<id>/rule.toml`.
    pub fn write_rule(&self, id: &str, text: &str) -> Result<(), Failure> {
        let dir = self.rules.join(id);
        std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::write(dir.join("rule.toml"), text))
            .map_err(|error| Failure::new(format!("cannot write a rule in {}: {error}", dir.display())))
    }

    /// One of our programs, told to work in this site and nowhere else: no environment variable, home or configuration
    /// file of the machine reaches it, only the variables of this site.
    pub fn command(&self, program: &str) -> Result<Command, Failure> {
        let path = match &self.programs {
            Some(dir) => dir.join(program),
            None => find_binary(program)?,
        };
        let mut command = Command::new(path);
        if let Some(uid) = self.user {
            command.uid(uid).gid(uid);
        }
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["DAEMONEYE_", "PROCMOND_", "XDG_"].iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("HOME", self.root().join("home")).current_dir(self.root());
        command.arg("--config").arg(self.config_file());
        command.arg("--data-dir").arg(self.data_dir());
        command.arg("--runtime-dir").arg(self.runtime_dir());
        Ok(command)
    }

    /// The agent's `run` with this site's rules.
    pub fn agent(&self) -> Result<Command, Failure> {
        let mut command = self.command("daemoneye-agent")?;
        command.arg("run").arg("--rules-dir").arg(&self.rules);
        if self.test_mode {
            command.env("DAEMONEYE_AGENT_TEST_MODE", "1");
        }
        Ok(command)
    }

    /// Runs `daemoneye-cli` with these arguments to its end.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output, Failure> {
        self.cli_with_input(arguments, b"")
    }

    /// The same with something on its standard input.
    pub fn cli_with_input(&self, arguments: &[&str], input: &[u8]) -> Result<Output, Failure> {
        let cannot = |error: std::io::Error| Failure::new(format!("cannot run daemoneye-cli {arguments:?}: {error}"));
        let mut stdin = tempfile::tempfile().map_err(cannot)?;
        stdin.write_all(input).and_then(|()| std::io::Seek::rewind(&mut stdin)).map_err(cannot)?;
        let mut command = self.command("daemoneye-cli")?;
        let output = command.args(arguments).stdin(Stdio::from(stdin)).output().map_err(cannot)?;
        Ok(Output {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The running processes of this site as pid and name: agents and collectors, whoever started them.
    pub fn processes(&self) -> Vec<(u32, String)> {
        crate::host::started_on(&self.data_dir())
    }

    /// The pid of this site's process with this name.
    pub fn pid_of(&self, name: &str) -> Option<u32> {
        self.processes().into_iter().find_map(|(pid, found)| (found == name).then_some(pid))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // One that is killed may have started another just before.
        let ended = poll(Duration::from_secs(10), || {
            let left = self.processes();
            for (pid, _) in &left {
                if let Ok(pid) = crate::host::pid_of(*pid) {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
            left.is_empty()
        });
        if ended.is_none() {
            eprintln!("{} is left with processes: {:?}", self.root().display(), self.processes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Child, wait_for};

    #[test]
    fn a_socket_in_the_runtime_directory_has_a_legal_path() {
        let site = Site::new().unwrap();
        assert!(site.runtime_dir().join("agent.sock").as_os_str().len() < 60);
        assert!(!site.root().to_string_lossy().contains("/."));
    }

    #[test]
    fn dropping_a_site_ends_what_was_started_on_it_and_nothing_else() {
        let (site, other) = (Site::new().unwrap(), Site::new().unwrap());
        let start = |site: &Site| {
            let mut sleeper = Command::new("sh");
            // Two commands, so that the shell stays and keeps its arguments.
            sleeper.args(["-c", "sleep 600; exit 0", "sh", "--data-dir"]).arg(site.data_dir());
            Child::spawn(sleeper).unwrap()
        };
        let (mut ours, mut theirs) = (start(&site), start(&other));
        wait_for("both to start", Duration::from_secs(10), || {
            site.pid_of("sh") == Some(ours.pid()) && other.pid_of("sh") == Some(theirs.pid())
        });
        let root = site.root().to_path_buf();
        drop(site);
        ours.wait_timeout(Duration::from_secs(5)).unwrap();
        assert!(!root.exists());
        assert!(theirs.exited().unwrap().is_none());
    }
}
