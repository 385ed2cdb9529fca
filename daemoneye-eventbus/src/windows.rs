//! What the bus needs of Windows: private files and directories, the named pipe, and who is at the other end.
//!
//! A pipe is no file: the one of a socket's path is named after it, and the lock file beside the path keeps two brokers
//! apart. Access is the system's default for pipes: only the creator, administrators and the system may open one for
//! writing, and nobody comes in without writing a `Hello`. So whoever is let in by the system stands for the one user
//! that there is, [`THE_USER`]. A stranger may open the pipe for reading, and is cut off when he has said nothing in time.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use interprocess::local_socket::{
    GenericNamespaced, ListenerOptions, Name, ToNsName as _,
    tokio::{Listener, Stream},
    traits::{StreamCommon as _, tokio::Stream as _},
};

use crate::auth::PeerIds;

/// There are no uids here; this stands for whoever the pipe lets in.
const THE_USER: u32 = 0;

/// The system's limit for `\\.\pipe\NAME`, and what stands before the name.
const MAX_PIPE: usize = 256;
const PIPES: usize = r"\\.\pipe\".len();

/// The most bytes that a socket's path may have here, where this one has more.
pub(crate) fn over_path_limit(path: &Path) -> Option<usize> {
    let limit = MAX_PIPE - PIPES;
    // What the pipe's name is longer than the path, the path must be shorter.
    let (name, plain) = (pipe_name(path).len(), path.as_os_str().len());
    (name > limit).then(|| (limit + plain).saturating_sub(name))
}

/// Connects to a pipe.
pub(crate) async fn connect(path: &Path) -> io::Result<Stream> {
    Stream::connect(socket_name(path)?).await
}

/// What the system calls the socket at a path.
fn socket_name(path: &Path) -> io::Result<Name<'_>> {
    pipe_name(path).to_ns_name::<GenericNamespaced>()
}

/// A backslash ends a part of a pipe's name, and a percent sign stands for what is written by its number here: two paths
/// never have one name.
fn pipe_name(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut name = String::from("daemoneye-");
    for character in absolute.to_string_lossy().chars() {
        match character {
            '\\' | '/' => name.push_str("%5C"),
            '%' => name.push_str("%25"),
            other => name.extend(other.to_lowercase()),
        }
    }
    name
}

/// The one user.
pub(crate) fn own_uid() -> Option<u32> {
    Some(THE_USER)
}

/// The one user, and the pid of whoever connected.
pub(crate) fn peer_ids(stream: &Stream) -> io::Result<PeerIds> {
    Ok(PeerIds { uid: Some(THE_USER), pid: stream.peer_creds()?.pid() })
}

/// Files have the access list that their directory hands down: whoever may read one may read all.
pub(crate) fn is_private(path: &Path) -> io::Result<bool> {
    fs::metadata(path).map(|_| true)
}

/// Creates a directory, and those above it that are missing, with the access list that the one above hands down.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path)
}

/// Replaces a file; a crash leaves the old content or the new.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = with_suffix(path, ".new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&fresh, path)
}

/// Opens the file whose lock keeps two brokers from one socket.
pub(crate) fn open_lock(socket: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(with_suffix(socket, ".lock"))
}

/// What is at the place of a socket.
#[expect(dead_code, reason = "a pipe leaves with the process that listened on it: nothing is ever found in its place")]
pub(crate) enum Place {
    Empty,
    Dead,
    Live,
    Other,
}

/// Nothing is in the place of a pipe, and the lock is ours; that somebody else has its name shows when we listen.
pub(crate) fn look_at(_path: &Path) -> io::Result<Place> {
    Ok(Place::Empty)
}

/// Listens on the pipe, of which this must be the first instance.
pub(crate) fn listen(path: &Path) -> io::Result<Listener> {
    ListenerOptions::new().name(socket_name(path)?).create_tokio()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
