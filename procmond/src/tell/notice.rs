//! Events that come of notices, which name a pid: of the process there is no more in them than was known, or could be read.

use super::record::{put_end, put_parent};
use super::{Scene, Teller, begins, copied};
use crate::differ::{Identity, Known, Tell, event};
use crate::poller::Glimpse;
use crate::procfs::tty;
use crate::provenance as why;
use crate::scan::Interrupted;
use daemoneye_lib::models::key::process_key;
use daemoneye_lib::models::text::escape_bytes;
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::common::{EventType, ProcessRecord};

impl Teller {
    /// Tells a fork. Of a child that was gone before the first look, the start is the time of the notice.
    pub(crate) fn forked_by_notice(
        &mut self,
        at: u64,
        (pid, parent): (u32, u32),
        glimpse: Option<Glimpse>,
        scene: &mut Scene<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        let start_ticks = glimpse.as_ref().map_or_else(|| scene.ticks(at), |seen| seen.start_ticks);
        if !begins(pid, start_ticks, scene, tell)? {
            return Ok(());
        }
        let parent_start = scene.table.get(parent).map(|known| known.start_ticks);
        // Of a copy whose parent is not the original, that is all that is told.
        let original = parent_start.map(|start| (parent, start));
        let known = copied(original, scene.time(at), scene);
        let mut known = Known { start_ticks, ppid: parent, parent_start, ..known };
        if let Some(seen) = &glimpse {
            (known.name, known.euid) = (escape_bytes(&seen.name), Some(seen.euid));
        }
        if scene.crowded {
            self.shed += 1;
        } else {
            let record = self.fork_of_notice(pid, &known, glimpse.as_ref(), scene);
            tell(event(EventType::Fork, scene.time(at), record))?;
        }
        scene.table.put(pid, known);
        Ok(())
    }

    /// Tells that a process ran another program, which had ended before anybody could look at it.
    pub(crate) fn exec_unseen(
        &mut self,
        at: u64,
        pid: u32,
        scene: &mut Scene<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        let Some(known) = scene.table.get(pid) else {
            // Neither its beginning nor anything else of it was seen: nothing tells one such process from another.
            self.nameless += 1;
            return Ok(());
        };
        let mut record = ProcessRecord { name: None, ..self.known(pid, known, scene, why::INFERRED) };
        put_parent(&mut record, known.ppid, known.parent_start, scene);
        record.provenance.insert(why::NONE.to_owned(), why::ENDED.to_owned());
        tell(event(EventType::Exec, scene.time(at), record))?;
        if let Some(mut known) = scene.table.remove(pid) {
            (known.glance, known.identity) = (0, Identity::default());
            (known.program, known.command_line, known.name) = (None, None, String::new());
            scene.table.put(pid, known);
        }
        Ok(())
    }

    /// Tells an end; of a process of which nothing is known, none.
    pub(crate) fn exited_by_notice(
        &mut self,
        at: u64,
        pid: u32,
        status: i32,
        scene: &mut Scene<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        let Some(known) = scene.table.get(pid) else { return Ok(()) };
        let mut record = self.known(pid, known, scene, why::SCRAPED);
        put_end(known, status, scene.time(at), scene, &mut record);
        for column in ["end_time", "exit_code", "exit_signal"] {
            // Where it has no value, the reason is there already.
            record.provenance.entry(column.to_owned()).or_insert_with(|| why::CAPTURED.to_owned());
        }
        tell(event(EventType::Exit, scene.time(at), record))?;
        scene.table.end(pid);
        Ok(())
    }

    fn fork_of_notice(&self, pid: u32, known: &Known, glimpse: Option<&Glimpse>, scene: &Scene<'_>) -> ProcessRecord {
        let how = if glimpse.is_some() { why::SCRAPED } else { why::INFERRED };
        let mut record = self.known(pid, known, scene, how);
        put_parent(&mut record, known.ppid, known.parent_start, scene);
        known.put_program(&mut record);
        if let Some(seen) = glimpse {
            (record.euid, record.egid) = (Some(seen.euid), Some(seen.egid));
            (record.session_id, record.tty) = (Some(seen.session), tty::name(seen.tty));
            if record.tty.is_none() {
                why::absent(&mut record, &["tty"], why::NO_TERMINAL);
            }
            // As its parent's.
            for (column, is_known) in [("uid", record.uid.is_some()), ("user", record.user.is_some())] {
                if is_known {
                    why::from(&mut record, column, why::INFERRED);
                }
            }
        } else {
            why::absent(&mut record, &["euid", "egid", "session_id", "tty"], why::ENDED);
        }
        why::absent(&mut record, &["end_time"], why::RUNNING);
        record.provenance.insert(why::NONE.to_owned(), why::NOT_FORKED.to_owned());
        record
    }

    /// What is known of a process, and how.
    fn known(&self, pid: u32, known: &Known, scene: &Scene<'_>, how: &str) -> ProcessRecord {
        let mut record = ProcessRecord {
            process_key: process_key(&scene.boot.id, pid, known.start_ticks),
            pid,
            name: (!known.name.is_empty()).then(|| known.name.clone()),
            start_time: Some(scene.boot.time_of(known.start_ticks)),
            uid: known.uid,
            user: known.uid.and_then(|uid| self.users.name(uid)).map(str::to_owned),
            source: scene.source.to_owned(),
            collection_time: now_ns(),
            ..ProcessRecord::default()
        };
        record.provenance.insert(why::EVERY.to_owned(), how.to_owned());
        if record.uid.is_some() && record.user.is_none() {
            why::absent(&mut record, &["user"], why::UNKNOWN_USER);
        }
        record
    }
}
