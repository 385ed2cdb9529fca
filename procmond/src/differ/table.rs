//! The processes that were told, with no more of each than its next event needs, and that of its children.
//!
//! There is an entry for each process of the host, so the kernel's limit of pids bounds their number. Text is what can
//! grow: all of it together has a budget, past which an entry keeps its name alone. Those that have ended are kept for
//! what their children's events say of them, in a budget of their own: the first to end is the first to go.

use super::ended::Ended;
use super::identity::Identity;
use crate::boot::Boot;
use crate::provenance as why;
use crate::scan::Glance;
use daemoneye_lib::models::key::process_key;
use daemoneye_lib::proto::common::ProcessRecord;
use std::collections::HashMap;

/// So much of a command line is kept.
const MAX_COMMAND_LINE: usize = 4096;
/// So much text is kept in all.
const MAX_TEXT: usize = 8 * 1024 * 1024;

/// What is known of a process that was told.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Known {
    #[prost(uint64, tag = "1")]
    pub(crate) start_ticks: u64,
    /// The parent that it was first seen with; a later one took it over, and is not where it comes from.
    #[prost(uint32, tag = "2")]
    pub(crate) ppid: u32,
    #[prost(uint64, optional, tag = "3")]
    pub(crate) parent_start: Option<u64>,
    /// The digest of the first look at which its record was last read.
    #[prost(fixed64, tag = "4")]
    pub(crate) glance: u64,
    #[prost(message, required, tag = "5")]
    pub(crate) identity: Identity,
    #[prost(uint64, tag = "6")]
    pub(crate) cpu_ticks: u64,
    /// When it had used so many.
    #[prost(int64, tag = "7")]
    pub(crate) cpu_at: i64,
    #[prost(uint32, optional, tag = "8")]
    pub(crate) uid: Option<u32>,
    #[prost(string, tag = "9")]
    pub(crate) name: String,
    #[prost(string, optional, tag = "10")]
    pub(crate) program: Option<String>,
    #[prost(string, optional, tag = "11")]
    pub(crate) command_line: Option<String>,
    #[prost(bool, tag = "12")]
    pub(crate) command_line_cut: bool,
    /// The last scan that met it.
    #[prost(uint64, tag = "13")]
    pub(crate) scan: u64,
    #[prost(uint32, optional, tag = "15")]
    pub(crate) euid: Option<u32>,
    /// Secrets in the command line are masked.
    #[prost(bool, tag = "16")]
    pub(crate) command_line_masked: bool,
    /// The program that its `seen` told; none of any other event.
    #[prost(uint64, optional, tag = "17")]
    pub(crate) seen_exec: Option<u64>,
}

impl Known {
    pub(super) fn new(
        scan: u64,
        digest: u64,
        glance: &Glance<'_>,
        parent_start: Option<u64>,
        identity: Identity,
        record: &ProcessRecord,
    ) -> Self {
        Self {
            start_ticks: glance.stat.start_ticks,
            ppid: glance.stat.ppid,
            parent_start,
            glance: digest,
            identity,
            cpu_ticks: glance.stat.cpu_ticks,
            cpu_at: glance.at,
            scan,
            ..Self::default()
        }
        .with_texts(record)
    }

    /// Whether its `seen` stands for the exec of this number, which tells what `seen` did: the kernel shows a new program in the
    /// middle of an exec, under the old number.
    #[cfg(target_os = "linux")]
    pub(crate) fn was_seen_with(&self, exec_id: u64, digest: u64) -> bool {
        self.seen_exec == Some(exec_id) && self.glance == digest
    }

    /// The same with what is kept of the record's texts.
    pub(crate) fn with_texts(mut self, record: &ProcessRecord) -> Self {
        let whole = record.command_line.as_deref();
        let kept = whole.map(|text| &text[..text.floor_char_boundary(MAX_COMMAND_LINE)]);
        self.command_line_cut =
            record.command_line_truncated == Some(true) || whole.map(str::len) != kept.map(str::len);
        self.command_line = kept.map(str::to_owned);
        let masked = record.platform_data.get("masked");
        self.command_line_masked =
            masked.is_some_and(|masked| masked.split(',').any(|column| column == "command_line"));
        (self.uid, self.euid) = (record.uid, record.euid);
        self.name = record.name.clone().unwrap_or_default();
        self.program.clone_from(&record.executable_path);
        self
    }

    /// Puts the program that it runs, as it was told, into another record of it.
    pub(crate) fn put_program(&self, record: &mut ProcessRecord) {
        record.executable_path.clone_from(&self.program);
        record.command_line.clone_from(&self.command_line);
        if self.command_line.is_some() {
            record.command_line_truncated = Some(self.command_line_cut);
            if self.command_line_masked {
                why::note(record, "masked", "command_line");
            }
        }
    }

    pub(crate) fn parent_key(&self, boot: &Boot) -> Option<String> {
        self.parent_start.map(|start| process_key(&boot.id, self.ppid, start))
    }

    /// Puts the parent that the process was first seen with into a later record of it.
    pub(super) fn keep_parent(&self, boot: &Boot, record: &mut ProcessRecord) {
        let parent_key = self.parent_key(boot);
        if record.ppid == Some(self.ppid) && record.parent_key == parent_key {
            return;
        }
        record.ppid = Some(self.ppid);
        match parent_key {
            Some(_) => _ = record.provenance.remove("parent_key"),
            None => why::absent(record, &["parent_key"], why::PARENT_ENDED),
        }
        record.parent_key = parent_key;
        record.parent_name = None;
        record.parent_executable_path = None;
        record.parent_command_line = None;
        why::absent(record, &why::OF_PARENT, why::PARENT_GONE);
    }

    /// What a later record did not give stays as it was.
    fn after(mut self, before: Self) -> Self {
        self.identity = self.identity.or(&before.identity);
        (self.ppid, self.parent_start) = (before.ppid, before.parent_start);
        self.uid = self.uid.or(before.uid);
        self.euid = self.euid.or(before.euid);
        self.program = self.program.or(before.program);
        if self.command_line.is_none() {
            (self.command_line, self.command_line_cut) = (before.command_line, before.command_line_cut);
            self.command_line_masked = before.command_line_masked;
        }
        self
    }

    pub(super) fn text(&self) -> usize {
        self.program.as_ref().map_or(0, String::len) + self.command_line.as_ref().map_or(0, String::len)
    }
}

/// What is known of all processes.
#[derive(Default)]
pub(crate) struct Table {
    known: HashMap<u32, Known>,
    text: usize,
    ended: Ended,
}

impl Table {
    pub(crate) fn get(&self, pid: u32) -> Option<&Known> {
        self.known.get(&pid)
    }

    pub(crate) fn get_mut(&mut self, pid: u32) -> Option<&mut Known> {
        self.known.get_mut(&pid)
    }

    /// Takes note of a process that runs, or of what is new about one that is known.
    pub(crate) fn put(&mut self, pid: u32, known: Known) {
        self.ended.remove(pid, known.start_ticks);
        let mut known = match self.remove(pid) {
            Some(before) => known.after(before),
            None => known,
        };
        if self.text + known.text() > MAX_TEXT {
            known.program = None;
            known.command_line = None;
        }
        self.text += known.text();
        self.known.insert(pid, known);
    }

    pub(crate) fn remove(&mut self, pid: u32) -> Option<Known> {
        let known = self.known.remove(&pid)?;
        self.text -= known.text();
        Some(known)
    }

    /// The process has ended; what was known of it is kept for its children.
    pub(crate) fn end(&mut self, pid: u32) {
        if let Some(known) = self.remove(pid) {
            self.ended.put(pid, known);
        }
    }

    #[cfg(target_os = "linux")]
    /// The process with this pid that began then, whether it runs or has ended.
    pub(crate) fn find(&self, pid: u32, start_ticks: u64) -> Option<&Known> {
        let running = self.known.get(&pid).filter(|known| known.start_ticks == start_ticks);
        running.or_else(|| self.ended.get(pid, start_ticks))
    }

    /// Whether the process with this pid that began then is known to have ended.
    pub(crate) fn has_ended(&self, pid: u32, start_ticks: u64) -> bool {
        self.ended.get(pid, start_ticks).is_some()
    }

    /// Those that neither this scan nor one after it met.
    pub(crate) fn not_met_since(&self, scan: u64) -> Vec<u32> {
        self.known.iter().filter(|(_, known)| known.scan < scan).map(|(pid, _)| *pid).collect()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (u32, &Known)> {
        self.known.iter().map(|(pid, known)| (*pid, known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_which_more_is_told_has_not_ended() {
        let mut table = Table::default();
        let known = || Known { start_ticks: 7, ..Known::default() };
        table.put(1, known());
        table.end(1);
        assert!(table.has_ended(1, 7));
        table.put(1, known());
        assert!(!table.has_ended(1, 7));
    }

    #[test]
    fn text_past_the_budget_is_not_kept_and_leaves_with_its_process() {
        let mut table = Table::default();
        let known = |length: usize| Known { command_line: Some("x".repeat(length)), ..Known::default() };
        table.put(1, known(MAX_TEXT - 10));
        table.put(2, known(11));
        assert_eq!(table.get(2).unwrap().command_line, None);
        table.put(1, known(1));
        table.put(2, known(11));
        assert_eq!(table.get(2).unwrap().command_line.as_deref(), Some("xxxxxxxxxxx"));
        assert_eq!(table.text, 12);
        table.remove(1);
        table.remove(2);
        assert_eq!(table.text, 0);
    }
}
