//! What a record says of the parent, read while the parent is there.
//!
//! Parents are remembered for one scan: most processes share a few. Past that the table of known processes has their
//! keys, and a command line that nobody asks for is not kept.

use super::draft::Draft;
use super::{Aids, Glance};
use crate::procfs::arguments;
use crate::provenance as why;
use crate::reader::{ProcFs, Unreadable};
use daemoneye_lib::models::{key::process_key, text::escape_bytes};
use std::collections::HashMap;

/// So much of a parent's command line goes into the records of its children: every child repeats it.
const MAX_COMMAND_LINE: usize = 4096;
/// So many parents are remembered; when there are more, all are forgotten and those still needed are read again.
const MAX_REMEMBERED: usize = 256;

type Column = Result<String, &'static str>;

/// A process as its children's records tell of it.
struct Parent {
    start_ticks: u64,
    name: String,
    program: Column,
    command_line: Column,
    cut: bool,
    masked: bool,
}

/// The parents met in this scan.
#[derive(Default)]
pub(super) struct Parents {
    met: HashMap<u32, Result<Parent, Unreadable>>,
    buffers: [Vec<u8>; 3],
}

impl Parents {
    /// Begins a new scan.
    pub(super) fn forget(&mut self) {
        self.met.clear();
    }

    /// Fills the draft's columns about the parent; answers the parent's start when it is the parent indeed.
    pub(super) fn describe<P: ProcFs>(
        &mut self,
        proc: &P,
        glance: &Glance<'_>,
        aids: &mut Aids,
        draft: &mut Draft,
    ) -> Option<u64> {
        let ppid = glance.stat.ppid;
        let reason = if ppid == 0 {
            why::NO_PARENT
        } else {
            match self.find(proc, ppid, aids) {
                // A process that started later has only the parent's pid.
                Ok(parent) if parent.start_ticks <= glance.stat.start_ticks => {
                    draft.record.parent_key = Some(process_key(&aids.boot.id, ppid, parent.start_ticks));
                    parent.describe(draft);
                    return Some(parent.start_ticks);
                }
                Ok(_) | Err(Unreadable::Gone) => why::PARENT_ENDED,
                Err(other) => why::reason(*other),
            }
        };
        draft.absent(&["parent_key"], reason);
        draft.absent(&why::OF_PARENT, reason);
        None
    }

    fn find<P: ProcFs>(&mut self, proc: &P, pid: u32, aids: &mut Aids) -> &Result<Parent, Unreadable> {
        if self.met.len() >= MAX_REMEMBERED && !self.met.contains_key(&pid) {
            self.met.clear();
        }
        self.met.entry(pid).or_insert_with(|| Parent::read(proc, pid, aids, &mut self.buffers))
    }
}

impl Parent {
    fn read<P: ProcFs>(proc: &P, pid: u32, aids: &mut Aids, buffers: &mut [Vec<u8>; 3]) -> Result<Self, Unreadable> {
        let process = proc.open(pid)?;
        let glance = Glance::take(proc, &process, pid, MAX_COMMAND_LINE, buffers.each_mut())?;
        let mut masked = false;
        let mut line = |bytes| {
            let mut arguments = arguments::split(bytes, false);
            masked = aids.masker.arguments(&mut arguments.values);
            arguments.line()
        };
        let (program, command_line) = match super::draft::nothing_left(&glance) {
            Some(reason) => (Err(reason), Err(reason)),
            None => (
                glance
                    .program
                    .map(|link| escape_bytes(aids.files.examine(proc, &process, link).0))
                    .map_err(why::reason),
                glance.command_line.map(&mut line).map_err(why::reason),
            ),
        };
        Ok(Self {
            start_ticks: glance.stat.start_ticks,
            name: escape_bytes(glance.stat.name()),
            program,
            command_line,
            cut: glance.command_line_cut,
            masked,
        })
    }

    fn describe(&self, draft: &mut Draft) {
        let mut take =
            |column, value: &Column| value.clone().inspect_err(|reason| draft.absent(&[column], reason)).ok();
        let [_, program, command_line] = why::OF_PARENT;
        let program = take(program, &self.program);
        let command_line = take(command_line, &self.command_line);
        draft.record.parent_name = Some(self.name.clone());
        draft.record.parent_executable_path = program;
        draft.record.parent_command_line = command_line;
        if self.cut {
            draft.cut("parent_command_line");
        }
        if self.masked {
            draft.masked("parent_command_line");
        }
    }
}
