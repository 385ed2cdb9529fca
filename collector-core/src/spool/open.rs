//! What stands in a spool's directory when a collector starts, and whether its tail can be proven intact.
//!
//! Nothing is changed here but the removal of half-made `.tmp` files: a damaged tail stays as it is until a newer
//! segment stands behind it, so that a crash during start-up finds the same evidence again.

use super::SpoolError;
use super::segment::{FoundHeader, FoundRecord, Header, VERSION, read_header, read_record};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

const EXTENSION: &str = "seg";

/// Why the spool begins a new epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NewEpoch {
    /// There was no spool.
    Created,
    /// The newest segment does not end with a whole record.
    TornTail(PathBuf),
    /// The newest segment has no valid header.
    DamagedHeader(PathBuf),
    /// The host has booted since: writes that were on their way to the disk may be gone.
    HostBooted,
    /// The agent has committed sequences that this spool has never assigned: the directory is an older copy.
    BehindAgent,
    /// The agent knows nothing of the epoch, of which something was acknowledged: its store is another one.
    ForgottenByAgent,
}

impl fmt::Display for NewEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("there was no spool"),
            Self::TornTail(path) => write!(f, "the newest segment is cut or damaged: {}", path.display()),
            Self::DamagedHeader(path) => write!(f, "the newest segment has no valid header: {}", path.display()),
            Self::HostBooted => f.write_str("the host has booted since"),
            Self::BehindAgent => f.write_str("the agent knows later sequences than this spool"),
            Self::ForgottenByAgent => f.write_str("the agent no longer has what it acknowledged"),
        }
    }
}

/// A segment file as it was found.
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// Bytes on the disk, whatever they are.
    pub(super) file_bytes: u64,
    /// Absent when the header is damaged.
    pub(super) intact: Option<Intact>,
}

/// The part of a segment that can be read.
pub(super) struct Intact {
    pub(super) header: Header,
    pub(super) header_bytes: u64,
    pub(super) header_crc: u32,
    pub(super) records: u64,
    /// Header and intact records.
    pub(super) bytes: u64,
    /// The checksum that the next record goes on from.
    pub(super) crc: u32,
    /// Whether the file ends with its last intact record.
    pub(super) whole: bool,
}

/// Reads every segment in the directory, oldest first.
pub(super) fn scan(dir: &Path) -> Result<Vec<Found>, SpoolError> {
    let failed = |source| SpoolError::Io { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(&path).map_err(|source| SpoolError::Io { path, source })?;
        } else if let Some(number) = number_of(&path) {
            found.push(look_at(number, path)?);
        }
    }
    found.sort_by_key(|segment| segment.number);
    Ok(found)
}

/// Whether the epoch of the newest segment can go on, and if not, why.
pub(super) fn judge(found: &[Found], boot_id: &[u8]) -> Option<NewEpoch> {
    let Some(newest) = found.last() else { return Some(NewEpoch::Created) };
    match &newest.intact {
        None => Some(NewEpoch::DamagedHeader(newest.path.clone())),
        Some(intact) if !intact.whole => Some(NewEpoch::TornTail(newest.path.clone())),
        Some(intact) if intact.header.boot_id != boot_id => Some(NewEpoch::HostBooted),
        Some(_) => None,
    }
}

/// The file of the segment with this number.
pub(super) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.{EXTENSION}"))
}

fn number_of(path: &Path) -> Option<u64> {
    if path.extension()? != EXTENSION {
        return None;
    }
    let stem = path.file_stem()?.to_str()?;
    let number = u64::from_str_radix(stem, 16).ok()?;
    // Only names that this spool gives, and room for more of them.
    (path_of(path.parent()?, number) == path && number < u64::MAX / 2).then_some(number)
}

fn look_at(number: u64, path: PathBuf) -> Result<Found, SpoolError> {
    let read = || -> io::Result<(u64, Result<Option<Intact>, u16>)> {
        let file = File::open(&path)?;
        let file_bytes = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let (header, header_bytes, header_crc) = match read_header(&mut reader)? {
            FoundHeader::Header(header, bytes, crc) => (header, bytes, crc),
            FoundHeader::Version(version) => return Ok((file_bytes, Err(version))),
            FoundHeader::Damaged => return Ok((file_bytes, Ok(None))),
        };
        let (mut records, mut bytes, mut crc) = (0, header_bytes, header_crc);
        let mut payload = Vec::new();
        let whole = loop {
            match read_record(&mut reader, crc, &mut payload)? {
                FoundRecord::Record(next) => {
                    crc = next;
                    records += 1;
                    bytes += super::record_bytes(payload.len());
                }
                FoundRecord::End => break true,
                FoundRecord::Torn => break false,
            }
        };
        Ok((file_bytes, Ok(Some(Intact { header, header_bytes, header_crc, records, bytes, crc, whole }))))
    };
    match read() {
        Ok((file_bytes, Ok(intact))) => Ok(Found { number, path, file_bytes, intact }),
        Ok((_, Err(found))) => Err(SpoolError::Version { path, found, supported: VERSION }),
        Err(source) => Err(SpoolError::Io { path, source }),
    }
}
