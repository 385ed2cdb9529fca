//! Records of what the kernel told: everything in them was so at that moment.

use super::{Scene, Teller, names_of, put_parent};
use crate::differ::Known;
use crate::kernel::{Exec, Exit, Who};
use crate::procfs::{arguments, cgroup, tty};
use crate::provenance as why;
use daemoneye_lib::models::key::process_key;
use daemoneye_lib::models::text::escape_bytes;
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::common::{Arguments, ProcessRecord};

impl Teller {
    /// What all three tell.
    fn who(&self, who: &Who<'_>, scene: &Scene<'_>, how: &str) -> ProcessRecord {
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
        record.provenance.insert(why::EVERY.to_owned(), how.to_owned());
        record
    }

    /// Of a process that is a copy of another one.
    pub(super) fn forked(&self, who: &Who<'_>, known: &Known, scene: &Scene<'_>, how: &str) -> ProcessRecord {
        let mut record = self.who(who, scene, how);
        program_of(known, &mut record);
        put_parent(&mut record, known.ppid, known.parent_start, scene);
        why::absent(&mut record, &["end_time"], why::RUNNING);
        record.provenance.insert(why::NONE.to_owned(), why::NOT_FORKED.to_owned());
        record
    }

    /// Of a process that has ended, with what was known of it.
    pub(super) fn ended(&self, exit: &Exit<'_>, known: &Known, scene: &Scene<'_>, how: &str) -> ProcessRecord {
        let mut record = self.who(&exit.who, scene, how);
        program_of(known, &mut record);
        record.ppid = Some(known.ppid);
        record.parent_key = known.parent_key(scene.boot);
        record.end_time = Some(scene.time(exit.who.at));
        let signal = exit.status & 0x7f;
        if signal == 0 {
            record.exit_code = Some((exit.status >> 8) & 0xff);
            why::absent(&mut record, &["exit_signal"], why::NO_SIGNAL);
        } else {
            record.exit_signal = Some(signal);
            why::absent(&mut record, &["exit_code"], why::BY_SIGNAL);
        }
        record.cpu_time_ns = exit.cpu;
        record.max_rss = exit.max_resident_bytes;
        record.provenance.insert(why::NONE.to_owned(), why::NOT_KEPT.to_owned());
        record
    }

    /// Of a process that begins to run a program; all but the parent and the hash.
    pub(super) fn begun(&self, exec: &Exec<'_>, argv: &[u8], cut: bool, scene: &Scene<'_>) -> ProcessRecord {
        let mut record = self.who(&exec.who, scene, why::CAPTURED);
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
        record.provenance.insert(why::NONE.to_owned(), why::RUNNING.to_owned());
        record
    }

    /// Of a process that ran a program and ended before it could be looked at.
    pub(super) fn unseen(&self, pid: u32, known: &Known, scene: &Scene<'_>) -> ProcessRecord {
        let mut record = ProcessRecord {
            process_key: process_key(&scene.boot.id, pid, known.start_ticks),
            pid,
            start_time: Some(scene.boot.time_of(known.start_ticks)),
            uid: known.uid,
            user: known.uid.and_then(|uid| self.users.name(uid)).map(str::to_owned),
            source: scene.source.to_owned(),
            collection_time: now_ns(),
            ..ProcessRecord::default()
        };
        put_parent(&mut record, known.ppid, known.parent_start, scene);
        record.provenance.insert(why::EVERY.to_owned(), why::INFERRED.to_owned());
        record.provenance.insert(why::NONE.to_owned(), why::ENDED.to_owned());
        record
    }

    fn environment(&self, exec: &Exec<'_>, record: &mut ProcessRecord, masked: &mut Vec<&str>) {
        let names = names_of(&self.variables);
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

/// The program that the process runs, as it was told when it began to.
fn program_of(known: &Known, record: &mut ProcessRecord) {
    record.executable_path.clone_from(&known.program);
    record.command_line.clone_from(&known.command_line);
    record.command_line_truncated = known.command_line.is_some().then_some(known.command_line_cut);
}
