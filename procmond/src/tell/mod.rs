//! From what the kernel tells to events: `fork`, `exec`, `exit`, and those of [`acts`].
//!
//! The table of known processes is the same that scans use, so that a scan finds what was told here known, and tells only what
//! was missed. A process is told with what its entry adds: the parent that it came from, also when that has ended, and, for
//! who only forks or exits, the program that it runs.
//!
//! An event is told before the table takes note of it, as by scans: should telling fail, nothing is held for told.

mod acts;
mod image;
mod notice;
mod record;
#[cfg(test)]
mod tests;

pub(crate) use acts::users_of;

use crate::boot::Boot;
use crate::differ::{Identity, Known, Table, Tell, event, inferred_exit, without_unlike};
use crate::kernel::{Exec, Exit, Fork, Happening};
use crate::mask::Masker;
use crate::procfs::link::DELETED;
use crate::procfs::users::Users;
use crate::scan::{ImageHashes, Interrupted, VariableNames, look_digest};
use daemoneye_lib::models::text::escape_bytes;
use daemoneye_lib::proto::common::EventType;
use image::Awaited;
use record::put_parent;
use std::collections::HashMap;

/// What events are told with, beside what is known of processes.
pub(crate) struct Teller {
    users: Users,
    masker: Masker,
    variables: VariableNames,
    hashes: ImageHashes,
    max_command_line: usize,
    /// Our mount namespace, where that is known.
    mounts: Option<u32>,
    awaited: HashMap<u32, Awaited>,
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
            mounts: None,
            awaited: HashMap::new(),
            shed: 0,
            shed_connections: 0,
            tells_security: false,
            nameless: 0,
        }
    }

    /// Looks for images by their paths too, where those are paths in this mount namespace, which is ours.
    pub(crate) fn in_mounts(mut self, mounts: Option<u32>) -> Self {
        self.mounts = mounts;
        self
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
            Happening::Fork(fork) => self.fork(&fork, scene, tell),
            Happening::Exec(exec) => self.exec(&exec, scene, tell),
            Happening::Exit(exit) => self.exit(&exit, scene, tell),
            Happening::Connection(connection) => self.connection(&connection, scene, tell),
            Happening::Deed(deed) => self.deed(&deed, scene, tell),
        }
    }

    fn fork(&mut self, fork: &Fork<'_>, scene: &mut Scene<'_>, tell: &mut Tell<'_>) -> Result<(), Interrupted> {
        let who = &fork.who;
        let start_ticks = scene.ticks(who.start);
        if !begins(who.pid, start_ticks, scene, tell)? {
            return Ok(());
        }
        let original = fork.original.map(|(pid, start)| (pid, scene.ticks(start)));
        let known = Known {
            start_ticks,
            ppid: who.parent,
            parent_start: who.parent_start.map(|start| scene.ticks(start)),
            uid: Some(who.uid),
            euid: Some(who.euid),
            name: escape_bytes(who.name),
            ..copied(original, scene.time(who.at), scene)
        };
        if scene.crowded {
            self.shed += 1;
        } else {
            let record = self.forked(who, &known, scene);
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
        if before.is_some_and(|known| known.was_seen_with(who.exec_id, digest)) {
            return self.gained(exec, users, scene, tell);
        }
        let (ppid, parent_start) = match before {
            Some(known) => (known.ppid, known.parent_start),
            None => (who.parent, who.parent_start.map(|start| scene.ticks(start))),
        };
        let mut record = self.begun(exec, arguments, cut, scene);
        let waits_for = self.hash(exec, &mut record);
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
        self.await_hash(who.pid, start_ticks, waits_for);
        Ok(())
    }

    fn exit(&mut self, exit: &Exit<'_>, scene: &mut Scene<'_>, tell: &mut Tell<'_>) -> Result<(), Interrupted> {
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
        let mut record = self.ended(exit, &known, scene);
        self.put_late_hash(who.pid, &known, &mut record);
        tell(event(EventType::Exit, at, record))?;
        if scene.table.get(who.pid).is_none() {
            scene.table.put(who.pid, known);
        }
        scene.table.end(who.pid);
        self.awaited.remove(&who.pid);
        Ok(())
    }
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

/// Whether this is the first that is heard of the process; a scan may have been quicker.
fn begins(pid: u32, start_ticks: u64, scene: &mut Scene<'_>, tell: &mut Tell<'_>) -> Result<bool, Interrupted> {
    if scene.table.find(pid, start_ticks).is_some() {
        return Ok(false);
    }
    end_stale(pid, start_ticks, scene, tell)?;
    Ok(true)
}

/// A copy is what the original was, until it says otherwise.
fn copied(original: Option<(u32, u64)>, at: i64, scene: &Scene<'_>) -> Known {
    let original = original.and_then(|(pid, start)| scene.table.find(pid, start)).cloned().unwrap_or_default();
    Known { cpu_ticks: 0, cpu_at: at, scan: scene.scan, seen_exec: None, ..original }
}

/// Another process had the pid, and its end was lost.
fn end_stale(pid: u32, start_ticks: u64, scene: &mut Scene<'_>, tell: &mut Tell<'_>) -> Result<(), Interrupted> {
    if let Some(known) = scene.table.get(pid).filter(|known| known.start_ticks != start_ticks) {
        tell(inferred_exit(scene.boot, pid, known))?;
        scene.table.end(pid);
    }
    Ok(())
}
