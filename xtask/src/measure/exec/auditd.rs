//! auditd as a watcher: raw, with one rule for programs that are started, and Debian's limits.
//!
//! The kernel's audit belongs to the whole host, so this refuses where somebody uses it already, touches nothing in `/etc/audit`,
//! and puts back what it found: its rule is taken out, then the switch and the limits are what they were.

use super::audit_log;
use super::watcher::{Watcher, count_starts, find, output};
use crate::interrupt::Interrupt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use testkit::{Child, Failure, Signal};

const PACKAGE: &str = "auditd";
const RULE: [&str; 7] = ["always,exit", "-F", "arch=b64", "-S", "execve,execveat", "-k", "bench"];
/// As Debian's `/etc/audit/rules.d/audit.rules` has them: waiting events, and the milliseconds that a program waits for room.
const BACKLOG: &str = "8192";
const BACKLOG_WAIT: &str = "60000";
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Auditd {
    auditctl: PathBuf,
    before: State,
    /// `None` before it has started.
    daemon: Option<Child>,
    dir: TempDir,
    /// The kernel's thread that hands events to the daemon.
    kauditd: Option<u32>,
}

impl Auditd {
    pub(super) fn start(interrupt: &Interrupt) -> Result<Self, Failure> {
        let [auditctl, program] = [find("auditctl", PACKAGE)?, find("auditd", PACKAGE)?];
        let before = State::ask(&auditctl)?;
        before.refuse_if_used(&output(Command::new(&auditctl).arg("-l"))?)?;
        let failed = |error: std::io::Error| Failure::new(format!("cannot write auditd's configuration: {error}"));
        // Below /tmp nobody but root may write it, which auditd insists on.
        let dir = tempfile::Builder::new().prefix("daemoneye-audit-").tempdir_in("/tmp").map_err(failed)?;
        std::fs::create_dir(dir.path().join("plugins.d")).map_err(failed)?;
        std::fs::write(dir.path().join("auditd.conf"), configuration(dir.path())).map_err(failed)?;
        // From here on, whatever fails, the state is put back.
        let mut audit = Self { auditctl, before, daemon: None, dir, kauditd: kernel_thread("kauditd") };
        let mut command = Command::new(program);
        command.arg("-n").arg("-c").arg(audit.dir.path());
        let daemon = audit.daemon.insert(Child::spawn(command)?);
        let auditctl = &audit.auditctl;
        interrupt
            .wait(PATIENCE, || {
                if let Some(status) = daemon.exited()? {
                    let said = daemon.stderr() + &daemon.stdout();
                    return Err(Failure::new(format!("auditd ended with {status}: {}", said.trim())));
                }
                Ok((State::ask(auditctl)?.pid == u64::from(daemon.pid())).then_some(()))
            })
            .map_err(|failure| Failure::new(format!("auditd does not receive the kernel's events: {failure}")))?;
        audit.control(&["-b", BACKLOG])?;
        audit.control(&["--backlog_wait_time", BACKLOG_WAIT])?;
        audit.control(&[&["-a"], RULE.as_slice()].concat())?;
        Ok(audit)
    }

    fn control(&self, arguments: &[&str]) -> Result<(), Failure> {
        output(Command::new(&self.auditctl).args(arguments)).map(drop)
    }

    fn log(&self) -> Result<String, Failure> {
        let path = self.dir.path().join("log");
        let bytes = std::fs::read(&path);
        let bytes = bytes.map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Watcher for Auditd {
    fn pids(&self) -> Vec<u32> {
        self.daemon.as_ref().map(Child::pid).into_iter().chain(self.kauditd).collect()
    }

    fn captured(&self, run: &str) -> Result<u64, Failure> {
        let commands = audit_log::commands(&self.log()?);
        Ok(count_starts(commands.iter().flatten().map(Vec::as_slice), run))
    }

    fn lost(&self) -> Result<u64, Failure> {
        Ok(State::ask(&self.auditctl)?.lost.saturating_sub(self.before.lost))
    }
}

impl Drop for Auditd {
    fn drop(&mut self) {
        // Each by itself: whatever fails, the next may work. The rule first, so that no more events come.
        let _ = self.control(&[&["-d"], RULE.as_slice()].concat());
        let _ = self.control(&["-e", &self.before.enabled.to_string()]);
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.signal(Signal::TERM).and_then(|()| daemon.wait_timeout(PATIENCE));
        }
        let _ = self.control(&["-e", &self.before.enabled.to_string()]);
        let _ = self.control(&["-b", &self.before.backlog_limit.to_string()]);
        let _ = self.control(&["--backlog_wait_time", &self.before.backlog_wait_time.to_string()]);
    }
}

/// Every event to the file as it comes, nothing resolved, nothing rotated, nobody told.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "local_events = yes\nwrite_logs = yes\nlog_file = {dir}/log\nlog_group = root\nlog_format = RAW\n\
         flush = INCREMENTAL_ASYNC\nfreq = 50\npriority_boost = 4\nname_format = NONE\n\
         max_log_file = 8\nmax_log_file_action = IGNORE\nspace_left = 2\nspace_left_action = IGNORE\n\
         admin_space_left = 1\nadmin_space_left_action = IGNORE\n\
         disk_full_action = IGNORE\ndisk_error_action = IGNORE\nuse_libwrap = no\nplugin_dir = {dir}/plugins.d\n"
    )
}

/// What `auditctl -s` says of the kernel's audit.
#[derive(Debug, PartialEq, Eq)]
struct State {
    enabled: u64,
    pid: u64,
    backlog_limit: u64,
    backlog_wait_time: u64,
    lost: u64,
}

impl State {
    fn ask(auditctl: &Path) -> Result<Self, Failure> {
        let text = output(Command::new(auditctl).arg("-s"))?;
        Self::parse(&text).ok_or_else(|| Failure::new(format!("`auditctl -s` says: {text}")))
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            line.trim().parse().ok()
        };
        Some(Self {
            enabled: value("enabled")?,
            pid: value("pid")?,
            backlog_limit: value("backlog_limit")?,
            backlog_wait_time: value("backlog_wait_time")?,
            lost: value("lost")?,
        })
    }

    fn refuse_if_used(&self, rules: &str) -> Result<(), Failure> {
        let pid = self.pid;
        match (self.enabled, pid, rules.trim()) {
            (2, ..) => Err(Failure::new("the kernel's audit is locked until the next boot")),
            (_, 0, "No rules" | "") => Ok(()),
            (_, 0, _) => Err(Failure::new("this host has audit rules of its own, which are left alone")),
            _ => Err(Failure::new(format!("an audit daemon runs already, with pid {pid}, and is left alone"))),
        }
    }
}

fn kernel_thread(name: &str) -> Option<u32> {
    let pids = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // The kernel's threads are kthreadd's children; its pid is 2.
    pids.into_iter().find(|pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let (before, after) = stat.rsplit_once(')').unwrap_or_default();
        before.split_once('(').is_some_and(|(_, comm)| comm == name) && after.split_whitespace().nth(1) == Some("2")
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    const SAID: &str = "enabled 1\nfailure 1\npid 0\nrate_limit 0\nbacklog_limit 64\nlost 3\nbacklog 2\n\
                        backlog_wait_time 15000\nbacklog_wait_time_actual 7\nloginuid_immutable 0 unlocked\n";

    #[test]
    fn the_state_is_read_by_whole_names() {
        let state = State::parse(SAID).unwrap();
        assert_eq!(state, State { enabled: 1, pid: 0, backlog_limit: 64, backlog_wait_time: 15000, lost: 3 });
        assert_eq!(State::parse(&SAID.replace("lost 3\n", "")), None);
    }

    #[test]
    fn what_somebody_uses_is_left_alone() {
        let state = |text: &str| State::parse(text).unwrap();
        assert!(state(SAID).refuse_if_used("No rules\n").is_ok());
        let refused = |state: State, rules: &str| state.refuse_if_used(rules).unwrap_err().to_string();
        assert!(refused(state(SAID), "-a never,task\n").contains("rules of its own"));
        assert!(refused(state(&SAID.replace("pid 0", "pid 77")), "No rules").contains("with pid 77"));
        assert!(refused(state(&SAID.replace("enabled 1", "enabled 2")), "No rules").contains("locked"));
    }

    #[test]
    fn a_program_is_no_thread_of_the_kernel() {
        let own = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(kernel_thread(own.trim_end()), None);
    }
}
