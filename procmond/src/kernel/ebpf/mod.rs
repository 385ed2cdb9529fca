//! Events by eBPF: the programs of `bpf/`, loaded and attached by `aya`.
//!
//! The objects are committed beside their source, so that building needs no clang; `bpf/build` makes them anew and CI
//! compares. They find the members of the kernel's structures when they are loaded (CO-RE).
//!
//! Nobody is woken by an event: the ring is drained every few milliseconds, which costs next to nothing while little
//! happens and little for each event while much does. What the ring had no room for is counted in the kernel.

mod attach;
mod layout;
mod network;
mod object;
mod ring;
mod roster;
mod security;

pub(crate) use attach::FeatureName;
pub(crate) use network::{NETWORK_FEATURES, connection, network};
pub(crate) use ring::Ring;
pub(crate) use roster::{Member, Roster};
pub(crate) use security::{SECURITY_FEATURES, deed, security};

use super::{Exec, Feed, FeedError, Happening, Loss};
use aya::maps::{Array, MapData, RingBuf};
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader};
use collector_core::{Sink, Stopped};
use layout::Record;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// The program, the tracepoint that it is attached to.
const PROGRAMS: [(&str, &str); 3] =
    [("on_exec", "sched_process_exec"), ("on_exit", "sched_process_exit"), ("on_fork", "sched_process_fork")];

/// What is counted, in the order of `enum counter`, and how its gap is told.
const LOSSES: [(&str, &str); 5] = [
    ("ring_overflow", "the kernel's ring had no room: fork events were lost"),
    ("ring_overflow", "the kernel's ring had no room: exec events were lost"),
    ("ring_overflow", "the kernel's ring had no room: exit events were lost"),
    ("arguments_lost", "the kernel's ring had no room: pieces of long command lines were lost, which are cut"),
    ("shed", "the kernel's ring was more than half full: fork events were given up for exec and exit events"),
];

/// What counts the calls of the programs, threads included.
const BEATS: [u32; 2] = [8, 9];
/// So long an exit may take to be counted.
const BEAT: Duration = Duration::from_secs(1);

/// Arguments that wait for their exec event, which follows at once; bounded by count and by the programs in bytes.
const MAX_WAITING: usize = 256;

/// How the programs are set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// The ring's size: a power of two.
    pub(crate) ring_bytes: u32,
    /// So much of a command line is taken.
    pub(crate) max_arguments: u32,
    pub(crate) environment: bool,
    /// Inode number of our PID namespace.
    pub(crate) pid_namespace: u32,
    pub(crate) page_size: u64,
}

/// Why there are no events by eBPF here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The kernel does not describe itself.
    #[error("this kernel has no BTF at /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)")]
    NoBtf,
    /// It does, and in a way that is not understood.
    #[error("this kernel's BTF cannot be read: {0}")]
    Btf(#[source] aya::BtfError),
    /// Loading is not allowed.
    #[error("the capabilities CAP_BPF and CAP_PERFMON (before Linux 5.8: CAP_SYS_ADMIN) are missing")]
    Denied,
    /// The object does not fit this kernel.
    #[error("the programs cannot be loaded: {0}")]
    Object(#[source] aya::EbpfError),
    /// One of the programs does not.
    #[error("the program {program} cannot be attached to {place}: {source}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Where it belongs.
        place: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// The object lacks something: a defect of ours.
    #[error("the object has no {0}")]
    Missing(&'static str),
    /// A map cannot be used.
    #[error("the map {map} cannot be used: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        source: aya::maps::MapError,
    },
}

/// Events of processes.
pub(crate) struct Events {
    /// Holds the programs and their links, also where nobody asks for it.
    #[cfg_attr(not(test), expect(dead_code, reason = "held"))]
    programs: Ebpf,
    ring: RingBuf<MapData>,
    counters: Array<MapData, u64>,
    counted: [u64; LOSSES.len()],
    waiting: VecDeque<Waiting>,
    page_size: u64,
    /// Records of another layout: none, unless object and reader are of different versions.
    foreign: u64,
}

/// The pieces of a command line that came before the event that it belongs to.
struct Waiting {
    process: (u32, u64),
    /// From the end of the first piece, which goes with the event.
    bytes: Vec<u8>,
}

/// The kernel's description of itself, read for as long as programs are loaded: it takes some 27 MB.
pub(crate) fn kernel_types() -> Result<Btf, LoadError> {
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(LoadError::NoBtf);
    }
    Btf::from_sys_fs().map_err(LoadError::Btf)
}

impl Events {
    /// Loads and attaches the programs.
    pub(crate) fn load(types: &Btf, options: &Options) -> Result<Self, LoadError> {
        let processors = aya::util::nr_cpus().map_or(1024, |count| u32::try_from(count).unwrap_or(1024));
        let mut programs = EbpfLoader::new()
            .btf(Some(types))
            .override_global("OWN_PID_NAMESPACE", &options.pid_namespace, true)
            .override_global("MAX_ARGUMENTS", &options.max_arguments, true)
            .override_global("WANT_ENVIRONMENT", &u32::from(options.environment), true)
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_max_entries("BUFFERS", processors)
            .load(object::EVENTS)
            .map_err(object_error)?;
        for (program, place) in PROGRAMS {
            let attach = |loaded: &mut Ebpf| -> Result<(), ProgramError> {
                let Some(found) = loaded.program_mut(program) else { return Ok(()) };
                let found: &mut BtfTracePoint = found.try_into()?;
                found.load(place, types)?;
                found.attach().map(|_| ())
            };
            attach(&mut programs).map_err(|error| program_error(program, place, error))?;
        }
        let ring = programs.take_map("EVENTS").ok_or(LoadError::Missing("EVENTS"))?;
        let ring = RingBuf::try_from(ring).map_err(|source| LoadError::Map { map: "EVENTS", source })?;
        let counters = programs.take_map("COUNTERS").ok_or(LoadError::Missing("COUNTERS"))?;
        let counters = Array::try_from(counters).map_err(|source| LoadError::Map { map: "COUNTERS", source })?;
        Ok(Self {
            programs,
            ring,
            counters,
            counted: [0; LOSSES.len()],
            waiting: VecDeque::new(),
            page_size: options.page_size,
            foreign: 0,
        })
    }
}

/// The error without the verifier's log.
pub(crate) fn in_one_line(error: &LoadError) -> String {
    tracing::debug!(error = error as &dyn std::error::Error, "eBPF programs cannot be loaded");
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn object_error(error: aya::EbpfError) -> LoadError {
    match &error {
        aya::EbpfError::MapError(aya::maps::MapError::CreateError { io_error, .. }) if is_denied(io_error) => {
            LoadError::Denied
        }
        _ => LoadError::Object(error),
    }
}

fn program_error(program: &'static str, place: &'static str, error: ProgramError) -> LoadError {
    match &error {
        ProgramError::LoadError { io_error, .. } if is_denied(io_error) => LoadError::Denied,
        _ => LoadError::Program { program, place, source: Box::new(error) },
    }
}

fn is_denied(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}

impl Feed for Events {
    fn drain(&mut self, take: &mut dyn FnMut(Happening<'_>) -> ControlFlow<()>) -> Result<(), FeedError> {
        while let Some(record) = self.ring.next() {
            let happening = match layout::parse(&record, self.page_size) {
                Some(Record::Fork(who)) => Happening::Fork(who),
                Some(Record::Exit(exit)) => Happening::Exit(exit),
                Some(Record::Exec(exec, argued)) => Happening::Exec(whole(exec, argued, &mut self.waiting)),
                Some(Record::More { process, at, bytes }) => {
                    keep(&mut self.waiting, process, at, bytes);
                    continue;
                }
                None => {
                    self.foreign += 1;
                    continue;
                }
            };
            if take(happening).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn losses(&mut self) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (index, (kind, reason)) in (0_u32..).zip(LOSSES) {
            // A map that was there is there.
            let Ok(count) = self.counters.get(&index, 0) else { continue };
            let Some(before) = self.counted.get_mut(index as usize) else { continue };
            if let Some(new) = count.checked_sub(*before).filter(|new| *new > 0) {
                losses.push(Loss { kind, count: Some(new), reason: reason.to_owned() });
                *before = count;
            }
        }
        if self.foreign > 0 {
            let reason = "records of the kernel's ring have another layout than this procmond reads".to_owned();
            losses.push(Loss { kind: "ring_foreign", count: Some(std::mem::take(&mut self.foreign)), reason });
        }
        losses
    }

    fn is_alive(&mut self) -> bool {
        let counters = &self.counters;
        let beats = || BEATS.map(|beat| counters.get(&beat, 0).unwrap_or_default());
        let before = beats();
        // A thread that does nothing begins and ends.
        if std::thread::Builder::new().spawn(|| ()).is_err() {
            return true;
        }
        let begun = Instant::now();
        loop {
            if beats().iter().zip(before).all(|(now, before)| *now > before) {
                return true;
            }
            if begun.elapsed() >= BEAT {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait(&mut self, sink: &Sink, time: Duration) -> Result<(), Stopped> {
        sink.pause(time)
    }
}

/// Keeps a piece that follows on what is kept of its process; any other is a piece too much, and its command line is cut.
fn keep(waiting: &mut VecDeque<Waiting>, process: (u32, u64), at: usize, bytes: &[u8]) {
    if at == layout::PIECE {
        waiting.retain(|other| other.process != process);
        if waiting.len() >= MAX_WAITING {
            waiting.pop_front();
        }
        waiting.push_back(Waiting { process, bytes: bytes.to_vec() });
    } else if let Some(kept) = waiting.iter_mut().find(|other| other.process == process)
        && layout::PIECE + kept.bytes.len() == at
    {
        kept.bytes.extend_from_slice(bytes);
    }
}

/// The event with all that there is of its arguments.
fn whole<'a>(mut exec: Box<Exec<'a>>, argued: u64, waiting: &mut VecDeque<Waiting>) -> Box<Exec<'a>> {
    let process = (exec.who.pid, exec.who.start);
    if let Some(index) = waiting.iter().position(|other| other.process == process)
        && let Some(kept) = waiting.remove(index)
        && exec.arguments.len() == layout::PIECE
    {
        exec.arguments = Cow::Owned([&*exec.arguments, &kept.bytes].concat());
    }
    exec.arguments_cut = (exec.arguments.len() as u64) < argued;
    exec
}

#[cfg(test)]
mod tests;
