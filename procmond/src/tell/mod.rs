//! From what the kernel tells to events: `fork`, `exec`, `exit`, and those of [`acts`].
//!
//! The table of known processes is the same that scans use, so that a scan finds what was told here known, and tells only what
//! was missed. A process is told with what its entry adds: the parent that it came from, also when that has ended, and, for
//! who only forks or exits, the program that it runs.
//!
//! An event is told before the table takes note of it, as by scans: should telling fail, nothing is held for told.

mod acts;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use acts::users_of;

use crate::boot::Boot;
use crate::differ::{Identity, Known, Table, Tell, event, inferred_exit, without_unlike};
use crate::hashing::{Handle, Source, Version};
use crate::kernel::{Exec, Exit, Happening, Who};
use crate::mask::Masker;
use crate::procfs::link::DELETED;
use crate::procfs::users::Users;
use crate::provenance as why;
use crate::scan::image_hash;
use crate::scan::{ImageHashes, Interrupted, VariableNames, look_digest};
use daemoneye_lib::models::key::process_key;
use daemoneye_lib::models::text::escape_bytes;
use daemoneye_lib::proto::common::{EventType, ProcessRecord};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

/// So many processes may wait for their hash; of those beyond it is told by the scan whose turn they are in.
const MAX_AWAITED: usize = 1024;
/// So many files are known under both of their numbers.
const MAX_IMAGES: usize = 4096;
/// Of a parent's command line; every child repeats it.
const MAX_PARENT_LINE: usize = 4096;

/// What events are told with, beside what is known of processes.
pub(crate) struct Teller {
    users: Users,
    masker: Masker,
    variables: VariableNames,
    hashes: ImageHashes,
    max_command_line: usize,
    /// Files as the kernel's structures name them, and as stat(2) does: on some file systems the devices differ.
    images: HashMap<Version, Version>,
    awaited: HashMap<u32, (u64, Version)>,
    /// Forks that were not told because the spool was crowded.
    pub(crate) shed: u64,
    /// The same of connections.
    pub(crate) shed_connections: u64,
    tells_security: bool,
    /// Execs of processes of which nothing at all was seen.
    pub(crate) nameless: u64,
}

/// What is known when something happens.
pub(crate) struct Scene<'a> {
    pub(crate) boot: &'a Boot,
    pub(crate) table: &'a mut Table,
    /// The number of the last scan.
    pub(crate) scan: u64,
    /// What tells of it.
    pub(crate) source: &'static str,
    /// When this boot began, by the clock as it is set now.
    pub(crate) clock: i64,
    /// The spool has no room for what says little.
    pub(crate) crowded: bool,
}

impl Scene<'_> {
    fn time(&self, since_boot: u64) -> i64 {
        self.clock.saturating_add_unsigned(since_boot)
    }

    fn ticks(&self, ns: u64) -> u64 {
        self.boot.ticks_of(ns)
    }
}

impl Teller {
    pub(crate) fn new(masker: Masker, variables: VariableNames, hashes: ImageHashes, max_command_line: usize) -> Self {
        Self {
            users: Users::new("/etc/passwd"),
            masker,
            variables,
            hashes,
            max_command_line,
            images: HashMap::new(),
            awaited: HashMap::new(),
            shed: 0,
            shed_connections: 0,
            tells_security: false,
            nameless: 0,
        }
    }

    /// Tells also which programs make a process root.
    pub(crate) fn telling_security(mut self, wanted: bool) -> Self {
        self.tells_security = wanted;
        self
    }

    /// Whether it does.
    pub(crate) const fn tells_security(&self) -> bool {
        self.tells_security
    }

    /// Looks whether the names of users are others by now.
    pub(crate) fn refresh(&mut self) {
        self.users.refresh();
    }

    /// Tells what has happened.
    pub(crate) fn tell(
        &mut self,
        happening: Happening<'_>,
        scene: &mut Scene<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        match happening {
            Happening::Fork(who) => self.fork(&who, scene, tell, why::CAPTURED),
            Happening::Exec(exec) => self.exec(&exec, scene, tell),
            Happening::Exit(exit) => self.exit(&exit, scene, tell, why::CAPTURED),
            Happening::Connection(connection) => self.connection(&connection, scene, tell),
            Happening::Deed(deed) => self.deed(&deed, scene, tell),
        }
    }

    /// Tells a fork of which the kernel told the pids alone; where the child was still there, its ids and its start are its own,
    /// otherwise those of its parent, and the time of the notice.
    pub(crate) fn forked_by_notice(
        &mut self,
        who: &Who<'_>,
        seen: bool,
        scene: &mut Scene<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        let how = if seen { why::SCRAPED } else { why::INFERRED };
        self.fork(who, scene, tell, how)
    }

    /// Tells an end of which the kernel told pid and status.
    pub(crate) fn exited_by_notice(
        &mut self,
        exit: &Exit<'_>,
        scene: &mut Scene<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        self.exit(exit, scene, tell, why::SCRAPED)
    }

    /// Tells that a process ran another program, which had ended before anybody could look at it.
    pub(crate) fn exec_unseen(
        &mut self,
        pid: u32,
        at: u64,
        scene: &mut Scene<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        let Some(known) = scene.table.get(pid).cloned() else {
            // Neither its beginning nor anything else of it was seen: nothing tells one such process from another.
            self.nameless += 1;
            return Ok(());
        };
        let record = self.unseen(pid, &known, scene);
        tell(event(EventType::Exec, scene.time(at), record))?;
        let mut known = known;
        (known.glance, known.identity) = (0, Identity::default());
        (known.program, known.command_line, known.name) = (None, None, String::new());
        scene.table.remove(pid);
        scene.table.put(pid, known);
        Ok(())
    }

    /// The processes that still run and whose hash has come to be known.
    pub(crate) fn hashed(&mut self, table: &Table) -> Vec<u32> {
        let mut come = Vec::new();
        let hashes = &self.hashes.hashes;
        self.awaited.retain(|pid, (start, version)| {
            if table.get(*pid).is_none_or(|known| known.start_ticks != *start) {
                return false;
            }
            let knows = hashes.knows(*version);
            if knows {
                come.push(*pid);
            }
            !knows
        });
        come
    }

    fn fork(
        &mut self,
        who: &Who<'_>,
        scene: &mut Scene<'_>,
        tell: &mut Tell<'_>,
        how: &str,
    ) -> Result<(), Interrupted> {
        let start_ticks = scene.ticks(who.start);
        if scene.table.find(who.pid, start_ticks).is_some() {
            // A scan was quicker.
            return Ok(());
        }
        end_stale(who.pid, start_ticks, scene, tell)?;
        let parent_start = who.parent_start.map(|start| scene.ticks(start));
        let parent: Option<&Known> = parent_start.and_then(|start| scene.table.find(who.parent, start));
        // A copy is what the original was, until it says otherwise.
        let known = Known {
            start_ticks,
            ppid: who.parent,
            parent_start,
            cpu_ticks: 0,
            cpu_at: scene.time(who.at),
            uid: Some(who.uid),
            euid: Some(who.euid),
            name: escape_bytes(who.name),
            scan: scene.scan,
            looked_at: 0,
            ..parent.cloned().unwrap_or_default()
        };
        if scene.crowded {
            self.shed += 1;
        } else {
            let record = self.forked(who, &known, scene, how);
            tell(event(EventType::Fork, scene.time(who.at), record))?;
        }
        scene.table.put(who.pid, known);
        Ok(())
    }

    fn exec(&mut self, exec: &Exec<'_>, scene: &mut Scene<'_>, tell: &mut Tell<'_>) -> Result<(), Interrupted> {
        let who = &exec.who;
        let (start_ticks, at) = (scene.ticks(who.start), scene.time(who.at));
        end_stale(who.pid, start_ticks, scene, tell)?;
        let arguments = &exec.arguments[..exec.arguments.len().min(self.max_command_line)];
        let cut = exec.arguments_cut || arguments.len() < exec.arguments.len();
        let digest = digest(exec, arguments);
        let before = scene.table.get(who.pid);
        let users = before.and_then(users_of);
        if before.is_some_and(|known| is_told(known, at, digest)) {
            return self.gained(exec, users, scene, tell);
        }
        let (ppid, parent_start) = match before {
            Some(known) => (known.ppid, known.parent_start),
            None => (who.parent, who.parent_start.map(|start| scene.ticks(start))),
        };
        let mut record = self.begun(exec, arguments, cut, scene);
        let answer = self.hash(exec, &mut record);
        put_parent(&mut record, ppid, parent_start, scene);
        let known = Known {
            start_ticks,
            ppid,
            parent_start,
            glance: digest,
            identity: Identity::of(&record),
            cpu_at: at,
            scan: scene.scan,
            ..Known::default()
        };
        let known = known.with_texts(&record);
        let replaced = without_unlike(&mut record);
        tell(event(EventType::Exec, at, record))?;
        if let Some(record) = replaced {
            tell(event(EventType::Changed, at, record))?;
        }
        scene.table.put(who.pid, known);
        self.gained(exec, users, scene, tell)?;
        match answer {
            Some(version) if self.awaited.len() < MAX_AWAITED => {
                self.awaited.insert(who.pid, (start_ticks, version));
            }
            _ => _ = self.awaited.remove(&who.pid),
        }
        Ok(())
    }

    fn exit(
        &mut self,
        exit: &Exit<'_>,
        scene: &mut Scene<'_>,
        tell: &mut Tell<'_>,
        how: &str,
    ) -> Result<(), Interrupted> {
        let who = &exit.who;
        let start_ticks = scene.ticks(who.start);
        if scene.table.has_ended(who.pid, start_ticks) {
            // Its last two threads ended together, and each was taken for the last.
            return Ok(());
        }
        end_stale(who.pid, start_ticks, scene, tell)?;
        let at = scene.time(who.at);
        let known = scene.table.get(who.pid).cloned().unwrap_or_else(|| Known {
            start_ticks,
            ppid: who.parent,
            parent_start: who.parent_start.map(|start| scene.ticks(start)),
            uid: Some(who.uid),
            euid: Some(who.euid),
            name: escape_bytes(who.name),
            ..Known::default()
        });
        let record = self.ended(exit, &known, scene, how);
        tell(event(EventType::Exit, at, record))?;
        if scene.table.get(who.pid).is_none() {
            scene.table.put(who.pid, known);
        }
        scene.table.end(who.pid);
        self.awaited.remove(&who.pid);
        Ok(())
    }

    /// Puts the hash of the image into the record, or why there is none; the version of the file where it comes later.
    fn hash(&mut self, exec: &Exec<'_>, record: &mut ProcessRecord) -> Option<Version> {
        let Some(version) = exec.image.and_then(|image| self.image(image, exec)) else {
            image_hash::absent(why::HASH_OUT_OF_REACH, Some(&self.hashes.hashes), record);
            return None;
        };
        let source = || Source { pid: Some(exec.who.pid), path: Some(OsStr::from_bytes(&exec.path).into()) };
        self.hashes.put(version, &exec.path, source, record).then_some(version)
    }

    /// The image as stat(2) names it. The file is opened once for each version of it: through the process, else by its path.
    fn image(&mut self, image: Version, exec: &Exec<'_>) -> Option<Version> {
        if let Some(known) = self.images.get(&image) {
            return Some(*known);
        }
        let same = |handle: Handle| {
            let found = Version::from(&handle.file);
            found.is_same_but_for_device(&image).then_some(found)
        };
        let process = Handle::of_process(exec.who.pid).ok().and_then(same);
        let path = || Handle::of_path(std::path::Path::new(OsStr::from_bytes(&exec.path))).ok().and_then(same);
        let found = process.or_else(path)?;
        if self.images.len() >= MAX_IMAGES {
            self.images.clear();
        }
        self.images.insert(image, found);
        Some(found)
    }
}

/// Whether a look at the process, by a scan, has told this image already: it came after the exec, or saw the same.
fn is_told(known: &Known, at: i64, digest: u64) -> bool {
    /// So long after the look an exec of the very same command may still be the one that it saw.
    const SAME_LOOK_NS: i64 = 100_000_000;
    known.looked_at >= at || (known.looked_at.saturating_add(SAME_LOOK_NS) >= at && known.glance == digest)
}

/// What the first look of a scan would find.
fn digest(exec: &Exec<'_>, arguments: &[u8]) -> u64 {
    let who = &exec.who;
    let mut path = exec.path.clone();
    if exec.image_unlinked {
        path.extend_from_slice(DELETED);
    }
    look_digest([who.session, who.tty, who.euid, who.egid], who.name, [Some(arguments), Some(&path)])
}

/// Another process had the pid, and its end was lost.
fn end_stale(pid: u32, start_ticks: u64, scene: &mut Scene<'_>, tell: &mut Tell<'_>) -> Result<(), Interrupted> {
    if let Some(known) = scene.table.get(pid).filter(|known| known.start_ticks != start_ticks) {
        tell(inferred_exit(scene.boot, pid, known))?;
        scene.table.end(pid);
    }
    Ok(())
}

/// Fills the columns about the parent from what is known of it.
fn put_parent(record: &mut ProcessRecord, ppid: u32, start: Option<u64>, scene: &Scene<'_>) {
    const COLUMNS: [&str; 3] = ["parent_name", "parent_executable_path", "parent_command_line"];
    record.ppid = Some(ppid);
    let Some(start) = start else {
        let reason = if ppid == 0 { why::NO_PARENT } else { why::PARENT_ENDED };
        why::absent(record, &["parent_key"], reason);
        return why::absent(record, &COLUMNS, reason);
    };
    record.parent_key = Some(process_key(&scene.boot.id, ppid, start));
    let Some(parent) = scene.table.find(ppid, start) else {
        return why::absent(record, &COLUMNS, why::PARENT_GONE);
    };
    record.parent_name = Some(parent.name.clone());
    record.parent_executable_path.clone_from(&parent.program);
    let line = parent.command_line.as_deref();
    record.parent_command_line = line.map(|line| line[..line.floor_char_boundary(MAX_PARENT_LINE)].to_owned());
    if parent.command_line_cut {
        record.platform_data.entry("cut".to_owned()).and_modify(|cut| cut.push(',')).or_default().push_str(COLUMNS[2]);
    }
}

/// The names of the variables that are taken.
pub(super) fn names_of(variables: &VariableNames) -> Arc<[String]> {
    Arc::clone(&variables.borrow())
}
