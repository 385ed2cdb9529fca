//! A record in the making: what the first look gives, and a reason for everything that is not there.

use super::{Aids, Glance, usage};
use crate::mask::Masker;
use crate::procfs::{arguments, tty};
use crate::provenance as why;
use crate::reader::Unreadable;
use daemoneye_lib::models::{key::process_key, text::escape_bytes};
use daemoneye_lib::proto::common::{Arguments, ProcessRecord};

/// A record in the making.
pub(super) struct Draft {
    pub(super) record: ProcessRecord,
    cut: Vec<&'static str>,
    masked: Vec<&'static str>,
}

impl Draft {
    /// What the first look gives.
    pub(super) fn begin(glance: &Glance<'_>, aids: &Aids) -> Self {
        let (stat, boot) = (&glance.stat, &aids.boot);
        let start = boot.time_of(stat.start_ticks);
        let cpu_time = boot.duration_ns(stat.cpu_ticks);
        let mut draft = Self {
            record: ProcessRecord {
                process_key: process_key(&boot.id, glance.pid, stat.start_ticks),
                pid: glance.pid,
                ppid: Some(stat.ppid),
                name: Some(escape_bytes(stat.name())),
                start_time: Some(start),
                euid: Some(glance.owner.euid),
                egid: Some(glance.owner.egid),
                session_id: Some(stat.session),
                tty: tty::name(stat.tty),
                status: stat.status().map(str::to_owned),
                cpu_usage: usage(cpu_time, glance.at.saturating_sub(start)),
                cpu_time_ns: Some(cpu_time),
                memory_usage: Some(stat.resident_pages.saturating_mul(boot.page_size)),
                source: aids.source.to_owned(),
                collection_time: glance.at,
                ..ProcessRecord::default()
            },
            cut: Vec::new(),
            masked: Vec::new(),
        };
        let reason = if draft.record.cpu_usage.is_some() { why::INFERRED } else { why::UNREADABLE };
        draft.absent(&["cpu_usage"], reason);
        if draft.record.tty.is_none() {
            draft.absent(&["tty"], why::NO_TERMINAL);
        }
        if draft.record.status.is_none() {
            draft.absent(&["status"], why::UNREADABLE);
        }
        draft.absent(&["invoked_path", "exit_code", "exit_signal"], why::POLLING);
        draft.absent(&["executable_hash", "hash_algorithm", "fuzzy_hash"], why::NOT_HASHED);
        draft.absent(&["end_time"], if glance.is_ending() { why::POLLING } else { why::RUNNING });
        draft.record.provenance.insert(why::EVERY.to_owned(), why::SCRAPED.to_owned());
        draft.arguments(glance, &aids.masker);
        draft
    }

    fn arguments(&mut self, glance: &Glance<'_>, masker: &Masker) {
        const COLUMNS: [&str; 3] = ["command_line", "argv", "command_line_truncated"];
        if let Some(reason) = nothing_left(glance) {
            return self.absent(&COLUMNS, reason);
        }
        if let Some(bytes) = self.take(&COLUMNS, glance.command_line) {
            let mut arguments = arguments::split(bytes, glance.command_line_cut);
            if masker.arguments(&mut arguments.values) {
                self.masked.extend(["argv", "command_line"]);
            }
            self.record.command_line = Some(arguments.line());
            self.record.command_line_truncated = Some(arguments.cut);
            self.record.argv = Some(Arguments { values: arguments.values });
        }
    }

    /// The value, or a note why these columns have none.
    pub(super) fn take<T>(&mut self, columns: &[&str], value: Result<T, Unreadable>) -> Option<T> {
        value.inspect_err(|unreadable| self.absent(columns, why::reason(*unreadable))).ok()
    }

    pub(super) fn absent(&mut self, columns: &[&str], reason: &str) {
        why::absent(&mut self.record, columns, reason);
    }

    pub(super) fn is_absent(&self, column: &str, reason: &str) -> bool {
        self.record.provenance.get(column).is_some_and(|told| told == reason)
    }

    /// Notes that the column's value is only the beginning of what is there.
    pub(super) fn cut(&mut self, column: &'static str) {
        self.cut.push(column);
    }

    /// Notes that secrets in the column's value are masked.
    pub(super) fn masked(&mut self, column: &'static str) {
        self.masked.push(column);
    }

    pub(super) fn finish(mut self) -> ProcessRecord {
        for (note, columns) in [("cut", self.cut), ("masked", self.masked)] {
            if !columns.is_empty() {
                self.record.platform_data.insert(note.to_owned(), columns.join(","));
            }
        }
        self.record
    }
}

/// Why a process has nothing of what its program gave it: arguments, directories, an environment.
pub(super) fn nothing_left(glance: &Glance<'_>) -> Option<&'static str> {
    if glance.stat.is_kernel_thread() {
        Some(why::KERNEL_THREAD)
    } else if glance.is_ending() {
        Some(why::ENDED)
    } else {
        None
    }
}
