//! What procmond remembers over its own end: the processes that it told, in one file.
//!
//! With it a process is not told again after a restart, and one that ended meanwhile gets its `exit`. The file is
//! written only when everything that it knows of is in the spool; one that is lost, foreign or damaged costs a repeated
//! `seen` for each process, and never an event.
//!
//! Layout: 8 bytes [`MAGIC`], whose last is the version; 16 bytes, the beginning of BLAKE3 over what follows; then
//! length-delimited protobuf messages, first a [`Header`], then an [`Entry`] for each process. A new file takes the
//! place of the old one by renaming. It is not flushed to the disk: it is of use for this boot only, whose page cache it
//! shares, and the digest finds one that a power failure tore.

use crate::differ::{Known, Table};
use daemoneye_lib::config::{for_owner_alone, open_no_follow};
use prost::Message;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MAGIC: [u8; 8] = *b"DEKNOWN\x02";
const DIGEST: usize = 16;
/// More than a table of all pids that a kernel gives out by default, with its budget of text, takes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Without anything new, the file is written after so long, so that the gap that a crash leaves is not told too long.
const LONGEST: Duration = Duration::from_secs(30);
/// Writing is paced: a second for so many bytes.
const BYTES_PER_SECOND: usize = 256 * 1024;

/// What is remembered beside the processes.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Header {
    /// The boot that all of it belongs to.
    #[prost(string, tag = "1")]
    pub(crate) boot_id: String,
    /// When that was, as it was taken first.
    #[prost(int64, tag = "2")]
    pub(crate) boot_time_ns: i64,
    /// The number of the last scan.
    #[prost(uint64, tag = "3")]
    pub(crate) scan: u64,
    /// When the last whole scan had finished.
    #[prost(int64, tag = "4")]
    pub(crate) finished: i64,
    /// Whether procmond ended in order after that.
    #[prost(bool, tag = "5")]
    pub(crate) clean: bool,
    /// The epoch that all of it was told in; in another one nothing is known to have been told.
    #[prost(bytes = "vec", tag = "6")]
    pub(crate) epoch: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(uint32, tag = "1")]
    pid: u32,
    #[prost(message, required, tag = "2")]
    known: Known,
}

/// All that is remembered.
pub(crate) struct Memory {
    pub(crate) header: Header,
    pub(crate) table: Table,
}

/// Why nothing is remembered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{} is not what this version of procmond remembers, or damaged", .0.display())]
    Foreign(PathBuf),
}

/// Reads the file; `None` when there is none.
pub(crate) fn load(path: &Path) -> Result<Option<Memory>, LoadError> {
    let mut bytes = Vec::new();
    let file = open_no_follow(OpenOptions::new().read(true), path);
    match file.and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)) {
        Ok(_) => decode(&bytes).map(Some).ok_or_else(|| LoadError::Foreign(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LoadError::Read(path.to_owned(), error)),
    }
}

fn decode(bytes: &[u8]) -> Option<Memory> {
    let (digest, mut body) = bytes.strip_prefix(&MAGIC)?.split_at_checked(DIGEST)?;
    if digest != short_digest(body) {
        return None;
    }
    let header = Header::decode_length_delimited(&mut body).ok()?;
    let mut table = Table::default();
    while !body.is_empty() {
        let Entry { pid, known } = Entry::decode_length_delimited(&mut body).ok()?;
        table.put(pid, known);
    }
    Some(Memory { header, table })
}

fn encode(header: &Header, table: &Table) -> Result<Vec<u8>, prost::EncodeError> {
    let mut bytes = [&MAGIC[..], &[0; DIGEST]].concat();
    header.encode_length_delimited(&mut bytes)?;
    for (pid, known) in table.iter() {
        Entry { pid, known: known.clone() }.encode_length_delimited(&mut bytes)?;
    }
    let (head, body) = bytes.split_at_mut(MAGIC.len() + DIGEST);
    head[MAGIC.len()..].copy_from_slice(&short_digest(body));
    Ok(bytes)
}

fn short_digest(body: &[u8]) -> [u8; DIGEST] {
    let mut digest = [0; DIGEST];
    let mut hasher = blake3::Hasher::new();
    hasher.update(body).finalize_xof().fill(&mut digest);
    digest
}

/// Writes the file when it is time to.
pub(crate) struct Keeper {
    path: PathBuf,
    written: Option<Instant>,
    /// What the last write asks to wait for.
    rest: Duration,
    news: bool,
}

impl Keeper {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, written: None, rest: Duration::ZERO, news: false }
    }

    /// There is something that the file does not know.
    pub(crate) fn note_news(&mut self) {
        self.news = true;
    }

    /// Whether it is time to write.
    pub(crate) fn is_due(&self) -> bool {
        let wait = if self.news { self.rest } else { LONGEST };
        self.written.is_none_or(|written| written.elapsed() >= wait)
    }

    /// Writes the file.
    pub(crate) fn write(&mut self, header: &Header, table: &Table) -> io::Result<()> {
        let bytes = encode(header, table).map_err(io::Error::other)?;
        let new = self.path.with_extension("new");
        // An earlier process may have left one.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        open_no_follow(for_owner_alone(&mut options), &new)?.write_all(&bytes)?;
        fs::rename(&new, &self.path)?;
        self.written = Some(Instant::now());
        self.rest = Duration::from_secs((bytes.len() / BYTES_PER_SECOND) as u64).min(LONGEST);
        self.news = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header { boot_id: "boot".into(), boot_time_ns: 5, scan: 7, finished: 9, clean: true, epoch: vec![4; 16] }
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.put(1, Known { start_ticks: 3, name: "init".into(), uid: Some(0), ..Known::default() });
        table.put(9, Known { start_ticks: 4, command_line: Some("sleep 5".into()), ..Known::default() });
        table
    }

    #[test]
    fn what_is_written_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known.bin");
        assert!(load(&path).unwrap().is_none());
        let mut keeper = Keeper::new(path.clone());
        assert!(keeper.is_due());
        keeper.write(&header(), &table()).unwrap();
        assert!(!keeper.is_due());
        keeper.note_news();
        assert!(keeper.is_due(), "a small file is written whenever there is news");
        let memory = load(&path).unwrap().unwrap();
        assert_eq!(memory.header, header());
        assert_eq!(memory.table.iter().len(), 2);
        assert_eq!(memory.table.get(9), table().get(9));
    }

    #[test]
    fn neither_file_is_reached_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (path, precious) = (dir.path().join("known.bin"), dir.path().join("precious"));
        let content = encode(&header(), &table()).unwrap();
        fs::write(&precious, &content).unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        assert!(matches!(load(&path), Err(LoadError::Read(..))));
        std::os::unix::fs::symlink(&precious, path.with_extension("new")).unwrap();
        Keeper::new(path.clone()).write(&header(), &Table::default()).unwrap();
        assert_eq!(fs::read(&precious).unwrap(), content, "the link's target is untouched");
        assert!(fs::symlink_metadata(&path).unwrap().is_file(), "the link gave way to the file");
        assert_eq!(load(&path).unwrap().unwrap().table.iter().len(), 0);
    }

    #[test]
    fn every_damage_is_noticed() {
        let whole = encode(&header(), &table()).unwrap();
        assert!(decode(&whole).is_some());
        for at in 0..whole.len() {
            assert!(decode(&whole[..at]).is_none(), "cut at {at}");
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(decode(&damaged).is_none(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn bytes_with_a_right_digest_do_not_panic_either(body: Vec<u8>) {
            let _ = decode(&[&MAGIC[..], &short_digest(&body), &body].concat());
        }
    }
}
