//! A process table in memory, for tests: it gives the bytes that a kernel would.

use super::{FileId, Owner, ProcFs, Unreadable};
use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;

/// A process; tests change its fields between scans.
#[derive(Clone)]
pub(crate) struct FakeProcess {
    pub(crate) comm: &'static [u8],
    pub(crate) state: char,
    pub(crate) ppid: u32,
    pub(crate) start: u64,
    pub(crate) flags: u32,
    pub(crate) ticks: u64,
    pub(crate) command_line: Vec<u8>,
    pub(crate) program: Option<&'static [u8]>,
    pub(crate) image: FileId,
    pub(crate) owner: Owner,
    pub(crate) cgroup: &'static str,
    pub(crate) loginuid: u32,
    /// What answers "denied".
    pub(crate) denied: Vec<&'static CStr>,
    /// What answers "gone", as everything does when a process ends in the middle.
    pub(crate) gone: Vec<&'static CStr>,
}

impl FakeProcess {
    pub(crate) fn new(comm: &'static str, ppid: u32, start: u64) -> Self {
        Self {
            comm: comm.as_bytes(),
            state: 'S',
            ppid,
            start,
            flags: 0,
            ticks: 0,
            command_line: format!("{comm}\0--flag\0").into_bytes(),
            program: Some(b"/bin/program"),
            image: file(1),
            owner: Owner { euid: 1000, egid: 1000 },
            cgroup: "0::/user.slice\n",
            loginuid: 1000,
            denied: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// As it is when its parent has not yet asked for its end.
    pub(crate) fn zombie(&self) -> Self {
        Self { state: 'Z', command_line: Vec::new(), program: None, ..self.clone() }
    }
}

pub(crate) fn file(inode: u64) -> FileId {
    FileId {
        device: (8, 1),
        inode,
        links: 1,
        size: 1,
        modified: (1, 0),
        changed: (1, 0),
        mode: 0o100_755,
        owner: Owner { euid: 0, egid: 0 },
    }
}

/// All processes, and the files at some paths.
#[derive(Clone, Default)]
pub(crate) struct FakeProc {
    pub(crate) processes: BTreeMap<u32, FakeProcess>,
    /// In the root directory of every process.
    pub(crate) files: HashMap<&'static [u8], FileId>,
    /// In ours alone.
    pub(crate) our_files: HashMap<&'static [u8], FileId>,
    /// The list of processes cannot be read.
    pub(crate) broken: bool,
    /// A process that runs and is not listed.
    pub(crate) unlisted: Option<u32>,
    /// A process that is listed, and of which nothing can be read.
    pub(crate) hidden: Option<u32>,
}

impl FakeProc {
    pub(crate) fn new(processes: impl IntoIterator<Item = (u32, FakeProcess)>) -> Self {
        Self {
            processes: processes.into_iter().collect(),
            files: HashMap::from([(&b"/bin/program"[..], file(1))]),
            ..Self::default()
        }
    }

    fn ask<'a>(&'a self, pid: &u32, name: &CStr) -> Result<&'a FakeProcess, Unreadable> {
        let process = self.processes.get(pid).ok_or(Unreadable::Gone)?;
        if process.gone.contains(&name) {
            Err(Unreadable::Gone)
        } else if process.denied.contains(&name) {
            Err(Unreadable::Denied)
        } else {
            Ok(process)
        }
    }
}

impl ProcFs for FakeProc {
    type Process = u32;

    fn pids(&mut self, into: &mut Vec<u32>) -> Result<(), Unreadable> {
        if self.broken {
            return Err(Unreadable::Failed(rustix::io::Errno::IO));
        }
        into.clear();
        into.extend(self.processes.keys().copied().filter(|pid| self.unlisted != Some(*pid)));
        Ok(())
    }

    fn open(&self, pid: u32) -> Result<u32, Unreadable> {
        if self.hidden == Some(pid) {
            return Err(Unreadable::Denied);
        }
        self.ask(&pid, c"").map(|_| pid)
    }

    fn owner(&self, pid: &u32) -> Result<Owner, Unreadable> {
        Ok(self.ask(pid, c"")?.owner)
    }

    fn read(&self, pid: &u32, name: &CStr, limit: usize, into: &mut Vec<u8>) -> Result<bool, Unreadable> {
        let process = self.ask(pid, name)?;
        let FakeProcess { state, ppid, start, flags, ticks, owner, loginuid, .. } = process;
        into.clear();
        match name.to_bytes() {
            b"stat" => {
                into.extend(format!("{pid} (").bytes());
                into.extend(process.comm);
                into.extend(
                    format!(") {state} {ppid} 1 1 34816 -1 {flags} 0 0 0 0 {ticks} 0 0 0 20 0 1 0 {start} 0 10\n")
                        .bytes(),
                );
            }
            b"status" => into.extend(format!("Uid:\t{0}\t{0}\nGid:\t{1}\t{1}\n", owner.euid, owner.egid).bytes()),
            b"cmdline" => into.extend(&process.command_line),
            b"cgroup" => into.extend(process.cgroup.bytes()),
            b"loginuid" | b"sessionid" => into.extend(loginuid.to_string().bytes()),
            b"environ" => into.extend(b"HOME=/\0LD_PRELOAD=/evil.so\0"),
            _ => return Err(Unreadable::Gone),
        }
        let cut = into.len() > limit;
        into.truncate(limit);
        Ok(cut)
    }

    fn link(&self, pid: &u32, name: &CStr, into: &mut Vec<u8>) -> Result<(), Unreadable> {
        let process = self.ask(pid, name)?;
        into.clear();
        match name.to_bytes() {
            b"exe" => into.extend(process.program.ok_or(Unreadable::Gone)?),
            b"cwd" => into.extend(b"/home"),
            b"ns/pid" => into.extend(b"pid:[7]"),
            _ => return Err(Unreadable::Gone),
        }
        Ok(())
    }

    fn image(&self, pid: &u32) -> Result<FileId, Unreadable> {
        Ok(self.ask(pid, c"exe")?.image)
    }

    fn file_in_root(&self, pid: &u32, path: &[u8]) -> Result<FileId, Unreadable> {
        self.ask(pid, c"root")?;
        self.files.get(path).copied().ok_or(Unreadable::Gone)
    }

    fn file(&self, path: &[u8]) -> Result<FileId, Unreadable> {
        self.our_files.get(path).copied().ok_or(Unreadable::Gone)
    }

    fn hides(&self, pid: u32) -> bool {
        self.unlisted == Some(pid)
    }
}
