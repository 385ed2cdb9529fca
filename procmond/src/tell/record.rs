//! Records of what the kernel told: everything in them was so at that moment.

use super::{Scene, Teller};
use crate::differ::Known;
use crate::kernel::{Exec, Exit, Who};
use crate::procfs::{arguments, cgroup, tty};
use crate::provenance as why;
use daemoneye_lib::models::key::process_key;
use daemoneye_lib::models::text::escape_bytes;
use daemoneye_lib::proto::common::{Arguments, ProcessRecord};
use std::sync::Arc;

impl Teller {
    /// What all three tell.
    fn who(&self, who: &Who<'_>, scene: &Scene<'_>) -> ProcessRecord {
        let start_ticks = scene.ticks(who.start);
        let mut record = ProcessRecord {
            process_key: process_key(&scene.boot.id, who.pid, start_ticks),
            pid: who.pid,
            name: (!who.name.is_empty()).then(|| escape_bytes(who.name)),
            start_time: Some(scene.boot.time_of(start_ticks)),
            uid: Some(who.uid),
            gid: Some(who.gid),
            euid: Some(who.euid),
            egid: Some(who.egid),
            user: self.users.name(who.uid).map(str::to_owned),
            session_id: Some(who.session),
            tty: tty::name(who.tty),
            loginuid: who.login,
            audit_session: who.audit_session,
            source: scene.source.to_owned(),
            collection_time: scene.time(who.at),
            ..ProcessRecord::default()
        };
        record.provenance.insert(why::EVERY.to_owned(), why::CAPTURED.to_owned());
        record
    }

    /// Of a process that is a copy of another one.
    pub(super) fn forked(&self, who: &Who<'_>, known: &Known, scene: &Scene<'_>) -> ProcessRecord {
        let mut record = self.who(who, scene);
        known.put_program(&mut record);
        put_parent(&mut record, known.ppid, known.parent_start, scene);
        why::absent(&mut record, &["end_time"], why::RUNNING);
        record.provenance.insert(why::NONE.to_owned(), why::NOT_FORKED.to_owned());
        record
    }

    /// Of a process that has ended, with what was known of it.
    pub(super) fn ended(&self, exit: &Exit<'_>, known: &Known, scene: &Scene<'_>) -> ProcessRecord {
        let mut record = self.who(&exit.who, scene);
        put_end(known, exit.status, scene.time(exit.who.at), scene, &mut record);
        record.cpu_time_ns = exit.cpu;
        record.max_rss = exit.max_resident_bytes;
        record
    }

    /// Of a process that begins to run a program; all but the parent and the hash.
    pub(super) fn begun(&self, exec: &Exec<'_>, argv: &[u8], cut: bool, scene: &Scene<'_>) -> ProcessRecord {
        let mut record = self.who(&exec.who, scene);
        let mut masked = Vec::new();
        record.status = Some("running".to_owned());
        record.executable_path = Some(escape_bytes(&exec.path));
        record.file_exists = Some(!exec.image_unlinked);
        record.image_mismatch = Some(exec.image_unlinked);
        record.cwd = Some(escape_bytes(&exec.cwd));
        record.cgroup = Some(escape_bytes(&exec.cgroup));
        cgroup::put_membership(Some(&exec.cgroup), &mut record);
        record.invoked_path = Some(escape_bytes(exec.invoked));
        let namespaces = exec.namespaces.iter().filter(|(_, inode)| *inode != 0);
        record.namespaces = namespaces.map(|(kind, inode)| ((*kind).to_owned(), u64::from(*inode))).collect();

        let mut arguments = arguments::split(argv, cut);
        if self.masker.arguments(&mut arguments.values) {
            masked.extend(["argv", "command_line"]);
        }
        record.command_line = Some(arguments.line());
        record.command_line_truncated = Some(arguments.cut);
        record.argv = Some(Arguments { values: arguments.values });
        self.environment(exec, &mut record, &mut masked);

        if !masked.is_empty() {
            record.platform_data.insert("masked".to_owned(), masked.join(","));
        }
        for (column, missing, reason) in [
            ("container_id", record.container_id.is_none(), why::NOT_CONTAINED),
            ("tty", record.tty.is_none(), why::NO_TERMINAL),
            ("user", record.user.is_none(), why::UNKNOWN_USER),
            ("loginuid", record.loginuid.is_none(), why::NOT_SET),
            ("audit_session", record.audit_session.is_none(), why::NOT_SET),
            ("fuzzy_hash", true, why::NOT_HASHED),
        ] {
            if missing {
                why::absent(&mut record, &[column], reason);
            }
        }
        why::absent(&mut record, &["end_time", "exit_code", "exit_signal"], why::RUNNING);
        record.provenance.insert(why::NONE.to_owned(), why::NOT_EXECUTED.to_owned());
        record
    }

    fn environment(&self, exec: &Exec<'_>, record: &mut ProcessRecord, masked: &mut Vec<&str>) {
        let names = Arc::clone(&self.variables.borrow());
        let Some(bytes) = exec.environment.filter(|_| !names.is_empty()) else {
            return why::absent(record, &["environment"], why::NOT_COLLECTED);
        };
        let (mut variables, value_cut) = arguments::variables(bytes, &names);
        let mut any = false;
        for (name, value) in &mut variables {
            any |= self.masker.variable(name, value);
        }
        if any {
            masked.push("environment");
        }
        record.environment = variables;
        if exec.environment_cut || value_cut {
            record.platform_data.insert("cut".to_owned(), "environment".to_owned());
        }
    }
}

/// What was known of a process, and how it ended.
pub(super) fn put_end(known: &Known, status: i32, at: i64, scene: &Scene<'_>, record: &mut ProcessRecord) {
    known.put_program(record);
    record.ppid = Some(known.ppid);
    record.parent_key = known.parent_key(scene.boot);
    record.end_time = Some(at);
    let signal = status & 0x7f;
    if signal == 0 {
        record.exit_code = Some((status >> 8) & 0xff);
        why::absent(record, &["exit_signal"], why::NO_SIGNAL);
    } else {
        record.exit_signal = Some(signal);
        why::absent(record, &["exit_code"], why::BY_SIGNAL);
    }
    record.provenance.insert(why::NONE.to_owned(), why::NOT_KEPT.to_owned());
}

/// Fills the columns about the parent from what is known of it.
pub(super) fn put_parent(record: &mut ProcessRecord, ppid: u32, start: Option<u64>, scene: &Scene<'_>) {
    record.ppid = Some(ppid);
    let Some(start) = start else {
        let reason = if ppid == 0 { why::NO_PARENT } else { why::PARENT_ENDED };
        why::absent(record, &["parent_key"], reason);
        return why::absent(record, &why::OF_PARENT, reason);
    };
    record.parent_key = Some(process_key(&scene.boot.id, ppid, start));
    let Some(parent) = scene.table.find(ppid, start) else {
        return why::absent(record, &why::OF_PARENT, why::PARENT_GONE);
    };
    record.parent_name = (!parent.name.is_empty()).then(|| parent.name.clone());
    record.parent_executable_path.clone_from(&parent.program);
    record.parent_command_line.clone_from(&parent.command_line);
    let missing =
        [record.parent_name.is_none(), record.parent_executable_path.is_none(), record.parent_command_line.is_none()];
    for (column, _) in why::OF_PARENT.into_iter().zip(missing).filter(|(_, missing)| *missing) {
        why::absent(record, &[column], why::PARENT_UNKNOWN);
    }
    if parent.command_line.is_some() {
        for (is_so, list) in [(parent.command_line_cut, "cut"), (parent.command_line_masked, "masked")] {
            if is_so {
                why::note(record, list, "parent_command_line");
            }
        }
    }
}
