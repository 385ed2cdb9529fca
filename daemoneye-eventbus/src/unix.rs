//! What the bus needs of a Unix system: private files and directories, the socket file, and who is at the other end.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
        net::{SocketAddr, UnixStream},
    },
    path::{Path, PathBuf},
};

use interprocess::{
    local_socket::{
        GenericFilePath, ListenerOptions, Name, ToFsName as _,
        tokio::{Listener, Stream},
        traits::StreamCommon as _,
    },
    os::unix::{local_socket::ListenerOptionsExt as _, uds_local_socket::tokio::Stream as UnixDomainStream},
};

use crate::auth::PeerIds;

/// The most bytes that a socket's path may have here, where this one has more.
pub(crate) fn over_path_limit(path: &Path) -> Option<usize> {
    let fits = |length: &usize| SocketAddr::from_pathname("x".repeat(*length)).is_ok();
    let limit = (1..=1024).take_while(fits).last().unwrap_or(0);
    (path.as_os_str().len() > limit).then_some(limit)
}

/// Connects to a socket; `WouldBlock` while the listener's backlog is full, which `interprocess` takes for a connection under
/// way and returns as one.
pub(crate) async fn connect(path: &Path) -> io::Result<Stream> {
    Ok(UnixDomainStream::from(tokio::net::UnixStream::connect(path).await?).into())
}

/// What the system calls the socket at a path.
fn socket_name(path: &Path) -> io::Result<Name<'_>> {
    path.to_fs_name::<GenericFilePath>()
}

/// The effective uid of this process.
pub(crate) fn own_uid() -> Option<u32> {
    Some(rustix::process::geteuid().as_raw())
}

/// The uid and pid of whoever connected.
pub(crate) fn peer_ids(stream: &Stream) -> io::Result<PeerIds> {
    let credentials = stream.peer_creds()?;
    Ok(PeerIds { uid: credentials.euid(), pid: credentials.pid().and_then(|pid| u32::try_from(pid).ok()) })
}

/// Creates a directory, and those above it that are missing, for this user alone.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces a file by one of mode 0600; a crash leaves the old content or the new.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = with_suffix(path, ".new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Whether nobody but its owner and root can read or write a file.
pub(crate) fn is_private(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o077 == 0)
}

/// Opens the file whose lock keeps two brokers from one socket.
pub(crate) fn open_lock(socket: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(with_suffix(socket, ".lock"))
}

/// What is at the place of a socket.
pub(crate) enum Place {
    Empty,
    /// A socket that nobody listens on.
    Dead,
    /// A socket that somebody listens on.
    Live,
    /// Something that is not ours to remove.
    Other,
}

/// Looks at the place of a socket.
pub(crate) fn look_at(path: &Path) -> io::Result<Place> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Place::Empty),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => Ok(Place::Other),
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Place::Dead),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            _ => Ok(Place::Live),
        },
    }
}

/// Creates the socket with mode 0600 and listens on it; dropping the listener removes the file.
pub(crate) fn listen(path: &Path) -> io::Result<Listener> {
    ListenerOptions::new().name(socket_name(path)?).mode(0o600).create_tokio()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
