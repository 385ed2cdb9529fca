//! All processes at once, by the programs of `bpf/iterators.bpf.c`.
//!
//! Two streams of records, both by growing pid, are read side by side, so that no more than a piece of each is held. The second,
//! with the arguments, may be missing: before Linux 5.18 no program can read the memory of another process.

use super::attach::program;
use super::layout::{self, Cursor};
use super::{LoadError, object, object_error, program_error};
use crate::kernel::Who;
use crate::procfs::link::DELETED;
use aya::programs::Iter;
use aya::{Btf, Ebpf, EbpfLoader};
use std::fs::File;
use std::io::{self, Read as _};

const PROCESSES: &str = "each_process";
const ARGUMENTS: &str = "each_arguments";

const UNLINKED: u32 = 1;
const WITHOUT_MEMORY: u32 = 2;
const MANY_THREADS: u32 = 4;

/// A record is shorter: the kernel gives none that its buffer of 32 KiB cannot hold.
const BUFFER: usize = 64 * 1024;

/// A process as the iterators give it.
#[derive(Debug, PartialEq)]
pub(crate) struct Member<'a> {
    pub(crate) who: Who<'a>,
    /// `PF_…` of its first thread.
    pub(crate) flags: u32,
    /// The letter of its state.
    pub(crate) state: u8,
    /// Of all its threads, in nanoseconds; `None` where it has too many.
    pub(crate) cpu: Option<u64>,
    pub(crate) resident_pages: u64,
    /// `None` where it has no memory any more, or never had: a thread of the kernel.
    pub(crate) program: Option<Program<'a>>,
}

/// What a process runs.
#[derive(Debug, PartialEq)]
pub(crate) struct Program<'a> {
    /// As the link in `/proc` reads.
    pub(crate) link: Vec<u8>,
    /// As they are in its memory; `None` where they have to be read otherwise.
    pub(crate) arguments: Option<&'a [u8]>,
}

/// The iterators.
pub(crate) struct Roster {
    programs: Ebpf,
    /// Whether arguments can be read.
    argued: bool,
    bytes: [Vec<u8>; 2],
}

impl Roster {
    /// Loads the programs.
    pub(crate) fn load(types: &Btf, pid_namespace: u32) -> Result<Self, LoadError> {
        Self::from_object(object::ITERATORS, types, pid_namespace)
    }

    fn from_object(object: &[u8], types: &Btf, pid_namespace: u32) -> Result<Self, LoadError> {
        let mut programs = EbpfLoader::new()
            .btf(Some(types))
            .override_global("OWN_PID_NAMESPACE", &pid_namespace, true)
            .override_global("GROUP_OF", &std::process::id(), false)
            .load(object)
            .map_err(object_error)?;
        let mut load = |name, place| -> Result<(), LoadError> {
            let loaded = iterator(&mut programs, name)?.load("task", types);
            loaded.map_err(|error| program_error(name, place, error))
        };
        load(PROCESSES, "iter/task")?;
        let argued = match load(ARGUMENTS, "iter.s/task") {
            Err(missing @ LoadError::Missing(_)) => return Err(missing),
            loaded => loaded.inspect_err(|error| tracing::debug!(%error, "arguments are read from /proc")).is_ok(),
        };
        Ok(Self { programs, argued, bytes: [Vec::new(), Vec::new()] })
    }

    /// Whether arguments come with the processes.
    pub(crate) fn gives_arguments(&self) -> bool {
        self.argued
    }

    /// The path of the control group that we are in, from the root of its hierarchy, as events have it.
    ///
    /// # Errors
    /// When the kernel gives no more.
    pub(crate) fn own_group(&mut self) -> io::Result<Option<Vec<u8>>> {
        let processes = open(&mut self.programs, PROCESSES)?;
        let mut processes = Records::new(Some(processes), &mut self.bytes[0]);
        while let Some(record) = processes.next()? {
            if let Some(group) = group_of(record) {
                return Ok(Some(layout::path(group)));
            }
        }
        Ok(None)
    }

    /// Shows every process.
    ///
    /// # Errors
    /// When the kernel gives no more, or what `each` says.
    pub(crate) fn each<E: From<io::Error>>(
        &mut self,
        mut each: impl FnMut(Member<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let processes = open(&mut self.programs, PROCESSES)?;
        let arguments = if self.argued { Some(open(&mut self.programs, ARGUMENTS)?) } else { None };
        let [bytes, argued] = &mut self.bytes;
        let mut processes = Records::new(Some(processes), bytes);
        let mut arguments = Records::new(arguments, argued);
        while let Some(record) = processes.next()? {
            let Some((mut member, marks)) = member(record) else { return Err(foreign().into()) };
            if marks & WITHOUT_MEMORY == 0
                && let Some(path) = path_of(record)
            {
                let mut link = layout::path(path);
                if marks & UNLINKED != 0 {
                    link.extend_from_slice(DELETED);
                }
                let arguments = arguments.of(&member.who)?;
                member.program = Some(Program { link, arguments });
            }
            each(member)?;
        }
        Ok(())
    }
}

fn iterator<'a>(programs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Iter, LoadError> {
    program(programs, name)?.try_into().map_err(|error| program_error(name, "an iterator", error))
}

fn open(programs: &mut Ebpf, name: &'static str) -> io::Result<File> {
    let attach = |programs: &mut Ebpf| -> Result<File, Box<dyn std::error::Error + Send + Sync>> {
        let program = iterator(programs, name)?;
        let link = program.attach()?;
        Ok(program.take_link(link)?.into_file()?)
    };
    attach(programs).map_err(|error| io::Error::other(format!("the iterator {name} cannot be opened: {error}")))
}

fn foreign() -> io::Error {
    io::Error::other("an iterator's record has another layout than this procmond reads")
}

const HEAD: usize = 8 + layout::WHO + 32;

fn path_of(record: &[u8]) -> Option<&[u8]> {
    record.get(HEAD..HEAD + number_at(record, 4)?).filter(|path| !path.is_empty())
}

fn group_of(record: &[u8]) -> Option<&[u8]> {
    let begin = HEAD + number_at(record, 4)?;
    record.get(begin..begin + number_at(record, HEAD - 4)?).filter(|group| !group.is_empty())
}

fn number_at(record: &[u8], place: usize) -> Option<usize> {
    usize::try_from(u32::from_ne_bytes(*record.get(place..)?.first_chunk()?)).ok()
}

/// The process without its program, and its marks.
fn member(record: &[u8]) -> Option<(Member<'_>, u32)> {
    let mut cursor = Cursor(record.get(8..)?);
    let (who, flags) = layout::who(&mut cursor, 0)?;
    let (cpu, resident_pages) = (cursor.u64()?, cursor.u64()?);
    let [state, exit_state, marks, _] = cursor.u32s()?;
    let cpu = (marks & MANY_THREADS == 0).then_some(cpu);
    let member = Member { who, flags, state: letter(state, exit_state), cpu, resident_pages, program: None };
    Some((member, marks))
}

/// The letter that `/proc/PID/stat` has for a state: `task_state_index` of the kernel's `include/linux/sched.h`.
fn letter(state: u32, exit_state: u32) -> u8 {
    const IDLE: u32 = 0x402;
    const WAITS_FOR_LOCK: u32 = 0x1000;
    const FROZEN: u32 = 0x8000;
    const REPORTED: u32 = 0x7f;
    if state & IDLE == IDLE {
        return b'I';
    }
    let state = if state & (WAITS_FOR_LOCK | FROZEN) != 0 { state | 2 } else { state };
    let reported = (state | exit_state) & REPORTED;
    let index = u32::BITS - reported.leading_zeros();
    b"RSDTtXZP".get(index as usize).copied().unwrap_or(b'?')
}

/// The records of one stream; each begins with its size.
struct Records<'a> {
    file: Option<File>,
    bytes: &'a mut Vec<u8>,
    /// Where the record that was given last begins and ends, and where the bytes that were read end.
    last: (usize, usize),
    filled: usize,
}

impl<'a> Records<'a> {
    fn new(file: Option<File>, bytes: &'a mut Vec<u8>) -> Self {
        bytes.resize(BUFFER, 0);
        Self { file, bytes, last: (0, 0), filled: 0 }
    }

    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let mut begin = self.last.1;
        loop {
            let there = self.bytes.get(begin..self.filled).unwrap_or_default();
            let size = there.first_chunk().map(|size| u32::from_ne_bytes(*size) as usize);
            match size {
                Some(size) if !(8..=BUFFER).contains(&size) => return Err(foreign()),
                Some(size) if size <= there.len() => {
                    self.last = (begin, begin + size);
                    return Ok(self.bytes.get(begin..begin + size));
                }
                _ => {}
            }
            self.bytes.copy_within(begin..self.filled, 0);
            (begin, self.filled) = (0, self.filled - begin);
            let rest = self.bytes.get_mut(self.filled..).unwrap_or_default();
            let read = loop {
                match file.read(rest) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The kernel asks to be read again where it has looked at very many tasks without a record.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => break read?,
                }
            };
            self.last = (0, 0);
            if read == 0 {
                return if self.filled == 0 { Ok(None) } else { Err(foreign()) };
            }
            self.filled += read;
        }
    }

    /// The arguments of this program of the process, if they are among those that come; pids grow.
    fn of(&mut self, &Who { pid, start, exec_id, .. }: &Who<'_>) -> io::Result<Option<&[u8]>> {
        loop {
            let (begin, end) = self.last;
            let mut cursor = Cursor(self.bytes.get(begin..end).unwrap_or_default());
            let head = (cursor.u32(), cursor.u32(), cursor.u64(), cursor.u64(), cursor.u64());
            if let (Some(_), Some(of), Some(began), Some(total), Some(program)) = head
                && of >= pid
            {
                // By now it may run another program than when it was listed.
                let is_same = of == pid && began == start && program == exec_id;
                let whole = is_same && is_whole(cursor.0, total);
                return Ok(if whole { self.bytes.get(end - cursor.0.len()..end) } else { None });
            }
            if self.next()?.is_none() {
                return Ok(None);
            }
        }
    }
}

/// Whether these are all the arguments. Of a process that wrote a title over them, which shows in the NUL that is missing at the
/// end, `/proc` tells more.
fn is_whole(bytes: &[u8], total: u64) -> bool {
    bytes.len() as u64 == total && bytes.last().is_none_or(|last| *last == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KernelTypes;
    use std::io::{Seek as _, Write as _};

    #[test]
    fn an_object_without_the_programs_is_an_error_that_names_the_first() {
        if !testkit::require("root", testkit::is_root(), "loads eBPF programs") {
            return;
        }
        let loaded = Roster::from_object(object::NETWORK, KernelTypes::default().get().unwrap(), 1);
        assert!(matches!(loaded, Err(LoadError::Missing(PROCESSES))));
    }

    /// A record as the program makes it.
    fn record(pid: u32, start: u64, exec_id: u64, arguments: &[u8]) -> Vec<u8> {
        let size = u32::try_from(32 + arguments.len()).unwrap();
        let head = [size.to_ne_bytes(), pid.to_ne_bytes()].concat();
        let numbers = [start, arguments.len() as u64, exec_id].map(u64::to_ne_bytes).concat();
        [head, numbers, arguments.to_vec()].concat()
    }

    #[test]
    fn arguments_belong_to_one_program_of_one_process() {
        let mut file = tempfile::tempfile().unwrap();
        for record in [record(3, 30, 7, b"a\0"), record(5, 50, 9, b"b\0c\0"), record(6, 60, 1, b"d\0")] {
            file.write_all(&record).unwrap();
        }
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        let mut records = Records::new(Some(file), &mut bytes);
        let who = |pid, start, exec_id| Who { pid, start, exec_id, ..Who::default() };
        for (own, expected) in [
            (who(3, 30, 8), None),
            (who(4, 40, 1), None),
            (who(5, 50, 9), Some(&b"b\0c\0"[..])),
            (who(6, 61, 1), None),
            (who(7, 70, 1), None),
        ] {
            assert_eq!(records.of(&own).unwrap(), expected, "{own:?}");
        }
    }

    #[test]
    fn states_have_the_letters_of_proc() {
        for (state, exit_state, expected) in [
            (0, 0, b'R'),
            (1, 0, b'S'),
            (2, 0, b'D'),
            (4, 0, b'T'),
            (8, 0, b't'),
            (0, 0x10, b'X'),
            (0, 0x20, b'Z'),
            (0x80, 0x20, b'Z'),
            (0x40, 0, b'P'),
            (0x402, 0, b'I'),
            (0x1000, 0, b'D'),
            (0x8000, 0, b'D'),
        ] {
            assert_eq!(letter(state, exit_state) as char, expected as char, "{state:#x} {exit_state:#x}");
        }
    }
}
