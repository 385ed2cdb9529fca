//! What happens to processes, in the words of the kernel.

use super::{Connection, Deed};
use crate::hashing::Version;
use std::borrow::Cow;

/// What a feed gives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News<'a> {
    /// Something that happened, with all that is told of it.
    Happened(Happening<'a>),
    /// The same, by a feed that knows pids alone.
    Noticed(Noticed),
}

/// Something that happened to a process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Happening<'a> {
    /// It began, as a copy of another one.
    Fork(Fork<'a>),
    /// It runs another program from now on.
    Exec(Box<Exec<'a>>),
    /// It ended.
    Exit(Exit<'a>),
    /// It has a connection, or waits for some.
    Connection(Box<Connection<'a>>),
    /// It did something that matters for security.
    Deed(Box<Deed<'a>>),
}

/// What a feed that knows pids alone tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noticed {
    /// Nanoseconds since boot.
    pub(crate) at: u64,
    pub(crate) pid: u32,
    pub(crate) act: Act,
}

/// What a process was noticed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// It was forked by this one.
    Fork {
        parent: u32,
    },
    Exec,
    /// It has other ids, or another session.
    Change,
    /// As wait(2) gives it.
    Exit {
        status: i32,
    },
}

/// Who a process is. Times are nanoseconds since boot; pids are those of our PID namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Who<'a> {
    /// When it happened.
    pub(crate) at: u64,
    pub(crate) pid: u32,
    /// When the process began.
    pub(crate) start: u64,
    /// 0 for none in our namespace.
    pub(crate) parent: u32,
    pub(crate) parent_start: Option<u64>,
    /// Grows with every program that the process begins; a fork begins with its original's.
    pub(crate) exec_id: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) euid: u32,
    pub(crate) egid: u32,
    pub(crate) login: Option<u32>,
    pub(crate) audit_session: Option<u32>,
    pub(crate) session: u32,
    /// As in `/proc/PID/stat`.
    pub(crate) tty: u32,
    pub(crate) name: &'a [u8],
}

/// A process that began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fork<'a> {
    pub(crate) who: Who<'a>,
    /// Whose copy it is, and when that began; `None` for one outside of our namespace. Not always its parent.
    pub(crate) original: Option<(u32, u64)>,
}

/// A program that a process began to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exec<'a> {
    pub(crate) who: Who<'a>,
    /// Kind to inode number, in the order of the kinds' names; 0 for what this kernel does not have.
    pub(crate) namespaces: [(&'static str, u32); 7],
    /// The file that was loaded.
    pub(crate) image: Option<Version>,
    /// The file's permissions with set-user-id, set-group-id and its type.
    pub(crate) mode: Option<u32>,
    /// The last name of the file was taken away, or it never had one.
    pub(crate) image_unlinked: bool,
    pub(crate) path: Vec<u8>,
    pub(crate) cwd: Vec<u8>,
    pub(crate) cgroup: Vec<u8>,
    /// The string given to `execve`.
    pub(crate) invoked: &'a [u8],
    /// As much of the environment as was taken; `None` where none was wanted.
    pub(crate) environment: Option<&'a [u8]>,
    pub(crate) environment_cut: bool,
    /// The arguments, each with the NUL at its end.
    pub(crate) arguments: Cow<'a, [u8]>,
    pub(crate) arguments_cut: bool,
}

/// A process that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exit<'a> {
    pub(crate) who: Who<'a>,
    /// As wait(2) gives it.
    pub(crate) status: i32,
    /// User and system time of all its threads, in nanoseconds.
    pub(crate) cpu: Option<u64>,
    pub(crate) max_resident_bytes: Option<u64>,
}
