//! The few facts about this host's processes that tests ask the kernel for, independently of the code under test.

use crate::Failure;
use rustix::process::{Pid, Signal};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Ends the process with this pid as `kill -9` does.
pub fn kill9(pid: u32) -> Result<(), Failure> {
    rustix::process::kill_process(pid_of(pid)?, Signal::KILL)
        .map_err(|error| Failure::new(format!("cannot kill process {pid}: {error}")))
}

/// When the process started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
pub fn start_ticks(pid: u32) -> Result<u64, Failure> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).map_err(|error| Failure::new(format!("cannot read {path}: {error}")))?;
    // The name in parentheses may hold spaces and parentheses; field 3 follows the last one.
    let ticks = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok());
    ticks.ok_or_else(|| Failure::new(format!("{path} has no field 22: {stat:?}")))
}

/// The kernel's number of the connector among the protocols of netlink. It is no network: it leads to the kernel alone.
const CONNECTOR: &str = "11";

/// The lines of the kernel's tables of network sockets that are about one of this process's, each after its table's name.
pub fn network_sockets(pid: u32) -> Result<Vec<String>, Failure> {
    let path = format!("/proc/{pid}/fd");
    let links = std::fs::read_dir(&path).map_err(|error| Failure::new(format!("cannot read {path}: {error}")))?;
    let links = links.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let inode = |link: std::path::PathBuf| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    let sockets: Vec<String> = links.filter_map(inode).collect();
    let mut found = Vec::new();
    for family in ["tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "packet", "netlink"] {
        // A kernel without the family has no table of it.
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/{family}")).unwrap_or_default();
        let own = |line: &&str| line.split_whitespace().any(|word| sockets.iter().any(|inode| inode == word));
        let counts = |line: &&str| family != "netlink" || line.split_whitespace().nth(1) != Some(CONNECTOR);
        found.extend(table.lines().filter(own).filter(counts).map(|line| format!("{family}: {line}")));
    }
    Ok(found)
}

pub(crate) fn pid_of(pid: u32) -> Result<Pid, Failure> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| Failure::new(format!("{pid} is no pid")))
}

/// The running processes that were started with `--data-dir DIR`, as pid and name. Zombies have no arguments left and
/// are not among them.
pub(crate) fn started_on(data_dir: &Path) -> Vec<(u32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        names_data_dir(&arguments, data_dir.as_os_str())
    })
    .filter_map(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some((pid, name.trim_end().to_owned()))
    })
    .collect()
}

fn names_data_dir(arguments: &[u8], data_dir: &OsStr) -> bool {
    let mut arguments = arguments.split(|byte| *byte == 0);
    arguments.any(|argument| argument == b"--data-dir") && arguments.next() == Some(data_dir.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_socket_is_found_and_a_local_one_is_none() {
        let own = || network_sockets(std::process::id()).unwrap().len();
        let (_one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let before = own();
        let _socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(own(), before + 1);
    }

    #[test]
    fn a_process_belongs_to_the_data_directory_it_was_started_on() {
        let dir = OsStr::new("/tmp/d");
        assert!(names_data_dir(b"procmond\0--data-dir\0/tmp/d\0--runtime-dir\0/r\0", dir));
        assert!(!names_data_dir(b"procmond\0--data-dir\0/tmp/dd\0", dir));
        assert!(!names_data_dir(b"tail\0-f\0/tmp/d\0", dir));
        assert!(!names_data_dir(b"", dir));
    }

    #[test]
    fn the_first_process_started_before_this_one() {
        assert!(start_ticks(1).unwrap() < start_ticks(std::process::id()).unwrap());
    }

    #[test]
    fn pid_zero_is_never_signalled() {
        assert!(kill9(0).is_err());
    }
}
