//! A record of what `sysinfo` says, and a reason for everything that it does not say.

use super::{number, start_ticks};
use crate::boot::Boot;
use crate::mask::Masker;
use crate::procfs::arguments;
use crate::provenance as why;
use crate::reader::Unreadable;
use crate::scan::{Glance, usage};
use daemoneye_lib::models::columns::{PROCESS, Value};
use daemoneye_lib::models::{key::process_key, text::escape_bytes};
use daemoneye_lib::proto::common::{Arguments, ProcessRecord};
use std::ffi::OsStr;
use sysinfo::Process;

/// Of columns that this system, or `sysinfo`, does not have.
pub(super) const NOT_HERE: &str = "unavailable: not available on this system";

/// So much of a parent's command line goes into the records of its children: every child repeats it.
const MAX_PARENT_COMMAND_LINE: usize = 4096;

/// Everything that is known of the process.
pub(super) fn of(
    (boot, masker): (&Boot, &Masker),
    process: &Process,
    glance: &Glance<'_>,
    parent: Option<&Process>,
) -> ProcessRecord {
    let stat = &glance.stat;
    let start = boot.time_of(stat.start_ticks);
    let cpu_time = boot.duration_ns(stat.cpu_ticks);
    let mut record = ProcessRecord {
        process_key: process_key(&boot.id, glance.pid, stat.start_ticks),
        pid: glance.pid,
        ppid: process.parent().map(|_| stat.ppid),
        name: Some(escape_bytes(stat.name())),
        executable_path: process.exe().map(text),
        cwd: process.cwd().map(text),
        start_time: Some(start),
        uid: number(process.user_id().cloned()),
        gid: number(process.group_id()),
        euid: number(process.effective_user_id().cloned()),
        egid: number(process.effective_group_id()),
        session_id: process.session_id().map(|_| stat.session),
        status: stat.status().map(str::to_owned),
        cpu_usage: usage(cpu_time, glance.at.saturating_sub(start)),
        cpu_time_ns: Some(cpu_time),
        memory_usage: Some(stat.resident_pages.saturating_mul(boot.page_size)),
        source: "poll".to_owned(),
        collection_time: glance.at,
        ..ProcessRecord::default()
    };
    record.provenance.insert(why::EVERY.to_owned(), why::SCRAPED.to_owned());
    if record.cpu_usage.is_some() {
        why::absent(&mut record, &["cpu_usage"], why::INFERRED);
    }
    command_line(glance, masker, &mut record);
    about_parent((boot, masker), parent, &mut record);
    about_windows(process, &mut record);
    for column in ["executable_path", "cwd"] {
        why_unreadable(&mut record, column);
    }
    why::absent(&mut record, &["exit_code", "exit_signal", "invoked_path"], why::POLLING);
    why::absent(&mut record, &["end_time"], if glance.is_ending() { why::POLLING } else { why::RUNNING });
    why::absent(&mut record, &["executable_hash", "hash_algorithm", "fuzzy_hash"], why::NOT_HASHED);
    for column in PROCESS {
        if (column.get)(&record) == Value::Null && !record.provenance.contains_key(column.name) {
            why::absent(&mut record, &[column.name], NOT_HERE);
        }
    }
    record
}

fn command_line(glance: &Glance<'_>, masker: &Masker, record: &mut ProcessRecord) {
    match glance.command_line {
        Ok(bytes) => {
            let mut arguments = arguments::split(bytes, glance.command_line_cut);
            if masker.arguments(&mut arguments.values) {
                note(record, "masked", "argv,command_line");
            }
            record.command_line = Some(arguments.line());
            record.command_line_truncated = Some(arguments.cut);
            record.argv = Some(Arguments { values: arguments.values });
        }
        Err(_) => why::absent(record, &["command_line", "argv", "command_line_truncated"], why::UNREADABLE),
    }
}

fn about_parent((boot, masker): (&Boot, &Masker), parent: Option<&Process>, record: &mut ProcessRecord) {
    let columns = ["parent_key", "parent_name", "parent_executable_path", "parent_command_line"];
    let Some(parent) = parent else {
        let reason = if record.ppid.is_none_or(|pid| pid == 0) { why::NO_PARENT } else { why::PARENT_ENDED };
        return why::absent(record, &columns, reason);
    };
    record.parent_key = Some(process_key(&boot.id, parent.pid().as_u32(), start_ticks(parent)));
    record.parent_name = Some(text(parent.name()));
    record.parent_executable_path = parent.exe().map(text);
    let mut bytes = Vec::new();
    if super::gather(parent, MAX_PARENT_COMMAND_LINE, &mut bytes) {
        note(record, "cut", "parent_command_line");
    }
    if !bytes.is_empty() {
        let mut arguments = arguments::split(&bytes, false);
        if masker.arguments(&mut arguments.values) {
            note(record, "masked", "parent_command_line");
        }
        record.parent_command_line = Some(arguments.line());
    }
    for column in columns {
        why_unreadable(record, column);
    }
}

/// Users of Windows have no numbers: the security identifier is told beside the columns.
fn about_windows(process: &Process, record: &mut ProcessRecord) {
    if let (None, Some(user)) = (record.uid, process.user_id()) {
        record.platform_data.insert("sid".to_owned(), (**user).to_string());
    }
}

/// Notes what was done to columns.
fn note(record: &mut ProcessRecord, what: &str, columns: &str) {
    let noted = record.platform_data.entry(what.to_owned()).or_default();
    if !noted.is_empty() {
        noted.push(',');
    }
    noted.push_str(columns);
}

/// A column that this system has, and that has no value this time.
fn why_unreadable(record: &mut ProcessRecord, name: &str) {
    let column = PROCESS.iter().find(|column| column.name == name);
    if column.is_some_and(|column| (column.get)(record) == Value::Null) {
        why::absent(record, &[name], why::reason(Unreadable::Denied));
    }
}

fn text(text: impl AsRef<OsStr>) -> String {
    escape_bytes(text.as_ref().as_encoded_bytes())
}
