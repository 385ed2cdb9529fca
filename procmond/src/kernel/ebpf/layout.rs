//! The records of `bpf/events.bpf.c`: numbers in the host's byte order, then text. Both change together.

use crate::hashing::Version;
use crate::kernel::{Exec, Exit, Fork, Who};
use crate::procfs::link::DELETED;

const FORK: u32 = 1;
const EXEC: u32 = 2;
const EXIT: u32 = 3;
const MORE_ARGUMENTS: u32 = 4;

/// So many bytes of arguments go with the event; the pieces before it begin at multiples.
pub(super) const PIECE: usize = 16_384;

/// An audit id that was never set.
const UNSET: u32 = u32::MAX;
const PROGRAM_UNLINKED: u32 = 1;
const CWD_UNLINKED: u32 = 2;

/// A record of the ring.
#[derive(Debug, PartialEq)]
pub(super) enum Record<'a> {
    Fork(Fork<'a>),
    Exec(Box<Exec<'a>>, Argued),
    Exit(Exit<'a>),
    /// A piece of the arguments of the exec event that this process is about to have.
    More {
        process: (u32, u64),
        at: usize,
        bytes: &'a [u8],
    },
}

/// How many bytes of arguments the process has in all.
pub(super) type Argued = u64;

/// Reads a record, which has an environment if the programs were set to copy it; `None` for one of another layout.
pub(super) fn parse(bytes: &[u8], page_size: u64, environment: bool) -> Option<Record<'_>> {
    let mut cursor = Cursor(bytes);
    let kind = cursor.u32()?;
    let _cpu = cursor.u32()?;
    let at = cursor.u64()?;
    match kind {
        FORK => {
            let (who, _) = who(&mut cursor, at)?;
            let start = cursor.u64()?;
            let [original, _] = cursor.u32s()?;
            let original = (original != 0).then_some((original, start));
            Some(Record::Fork(Fork { who, original }))
        }
        EXEC => exec(cursor, at, environment),
        EXIT => {
            let (who, _) = who(&mut cursor, at)?;
            let (cpu, pages) = (cursor.u64()?, cursor.u64()?);
            let status = cursor.u32()?.cast_signed();
            let max_resident_bytes = Some(pages.saturating_mul(page_size)).filter(|bytes| *bytes > 0);
            Some(Record::Exit(Exit { who, status, cpu: Some(cpu), max_resident_bytes }))
        }
        MORE_ARGUMENTS => {
            let (start, pid) = (cursor.u64()?, cursor.u32()?);
            let at = usize::try_from(cursor.u32()?).ok()?;
            Some(Record::More { process: (pid, start), at, bytes: cursor.0 })
        }
        _ => None,
    }
}

/// The size of `struct who`.
pub(super) const WHO: usize = 88;

/// A `struct who`, and the flags of the task.
pub(super) fn who<'a>(cursor: &mut Cursor<'a>, at: u64) -> Option<(Who<'a>, u32)> {
    let (start, parent_start) = (cursor.u64()?, cursor.u64()?);
    let exec_id = cursor.u64()?;
    let [pid, parent, uid, gid, euid, egid, login, audit_session, session, tty, flags, _] = cursor.u32s()?;
    let name = cursor.take(16)?;
    let name = &name[..name.iter().position(|byte| *byte == 0).unwrap_or(name.len())];
    let set = |number| Some(number).filter(|number| *number != UNSET);
    let parent_start = (parent != 0).then_some(parent_start);
    let audited = Who { login: set(login), audit_session: set(audit_session), ..Who::default() };
    let who =
        Who { at, pid, start, parent, parent_start, exec_id, uid, gid, euid, egid, session, tty, name, ..audited };
    Some((who, flags))
}

fn exec(mut cursor: Cursor<'_>, at: u64, copied: bool) -> Option<Record<'_>> {
    let (who, _) = who(&mut cursor, at)?;
    let [mnt, net, uts, ipc, cgroup, pid, user, _] = cursor.u32s()?;
    let [inode, size, modified, changed] = [cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u64()?];
    let [modified_ns, changed_ns, device, links, mode, unlinked] = cursor.u32s()?;
    let (argued, environment_bytes) = (cursor.u64()?, cursor.u64()?);
    let lengths: [u32; 6] = cursor.u32s()?;
    let mut parts = [&b""[..]; 6];
    for (part, length) in parts.iter_mut().zip(lengths) {
        *part = cursor.take(usize::try_from(length).ok()?)?;
    }
    let [names, cwd, group, invoked, environment, arguments] = parts;
    let mut cwd = path(cwd);
    if unlinked & CWD_UNLINKED != 0 {
        cwd.extend_from_slice(DELETED);
    }
    let exec = Exec {
        who,
        namespaces: [
            ("cgroup", cgroup),
            ("ipc", ipc),
            ("mnt", mnt),
            ("net", net),
            ("pid", pid),
            ("user", user),
            ("uts", uts),
        ],
        image: Some(Version {
            // The kernel's own form of a device's number.
            device: (device >> 20, device & 0xf_ffff),
            inode,
            size,
            modified: (modified.cast_signed(), modified_ns),
            // Since 6.13 the highest bit says that somebody has asked for the time.
            changed: (changed.cast_signed(), changed_ns & 0x7fff_ffff),
        }),
        mode: Some(mode),
        image_unlinked: links == 0 || unlinked & PROGRAM_UNLINKED != 0,
        path: path(names),
        cwd,
        cgroup: path(group),
        invoked: invoked.strip_suffix(b"\0").unwrap_or(invoked),
        environment: copied.then_some(environment),
        environment_cut: copied && (environment.len() as u64) < environment_bytes,
        arguments: arguments.into(),
        arguments_cut: false,
    };
    Some(Record::Exec(Box::new(exec), argued))
}

/// A path from its names, the last of them first, each with a NUL at its end. An empty name stands for those that there was
/// no room for.
pub(super) fn path(names: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(names.len() + 1);
    for name in names.strip_suffix(b"\0").unwrap_or(names).rsplit(|byte| *byte == 0) {
        path.push(b'/');
        path.extend_from_slice(if name.is_empty() && !names.is_empty() { b"..." } else { name });
    }
    path
}

/// Takes numbers from the front of bytes.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_ne_bytes)
    }

    pub(super) fn u16s<const N: usize>(&mut self) -> Option<[u16; N]> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = self.take(2)?.try_into().ok().map(u16::from_ne_bytes)?;
        }
        Some(numbers)
    }

    pub(super) fn u32s<const N: usize>(&mut self) -> Option<[u32; N]> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = self.u32()?;
        }
        Some(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_become_a_path() {
        for (names, expected) in [
            (&b""[..], &b"/"[..]),
            (b"true\0bin\0usr\0", b"/usr/bin/true"),
            (b"memfd:x\0", b"/memfd:x"),
            (b"b\0a\0\0", b"/.../a/b"),
        ] {
            assert_eq!(path(names), expected);
        }
    }

    #[test]
    fn what_no_program_copied_is_not_an_environment_without_variables() {
        let record = [&EXEC.to_ne_bytes()[..], &[0; 300]].concat();
        for (copied, expected) in [(true, Some(&b""[..])), (false, None)] {
            let Some(Record::Exec(exec, _)) = parse(&record, 4096, copied) else { panic!("an exec") };
            assert_eq!(exec.environment, expected);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, kind in 0_u32..6) {
            let _ = parse(&bytes, 4096, true);
            let _ = parse(&[&kind.to_ne_bytes()[..], &bytes].concat(), 4096, true);
        }

        #[test]
        fn a_record_cut_short_is_none(kind in 1_u32..4, cut in 0_usize..128) {
            let whole = [&kind.to_ne_bytes()[..], &[0; 300]].concat();
            prop_assert!(parse(&whole, 4096, true).is_some());
            prop_assert_eq!(parse(&whole[..cut.min(100)], 4096, true), None);
        }
    }
}
