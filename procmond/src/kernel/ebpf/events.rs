//! Events of processes: the programs of `bpf/events.bpf.c`, as a feed.

use super::attach::{Place, attach, program};
use super::layout::{self, Record};
use super::{LoadError, Options, Ring, object, object_error, program_error};
use crate::kernel::{Exec, Feed, FeedError, Happening, Loss, News};
use aya::{Btf, EbpfLoader};
use collector_core::{Sink, Stopped};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// The programs, of which the first that this kernel takes is attached to the tracepoint.
const PROGRAMS: [(&[&str], &str); 3] = [
    (&["on_exec"], "sched_process_exec"),
    (&["on_last_exit", "on_exit"], "sched_process_exit"),
    (&["on_fork"], "sched_process_fork"),
];

/// What is counted, in the order of `enum counter`, and how its gap is told.
const LOSSES: [(&str, &str); 5] = [
    ("ring_overflow", "the kernel's ring had no room: fork events were lost"),
    ("ring_overflow", "the kernel's ring had no room: exec events were lost"),
    ("ring_overflow", "the kernel's ring had no room: exit events were lost"),
    ("arguments_lost", "the kernel's ring had no room: pieces of long command lines were lost, which are cut"),
    ("shed", "the kernel's ring was more than half full: fork events were given up for exec and exit events"),
];

/// What counts the calls of the programs, threads included.
const BEATS: [u32; 2] = [5, 6];
/// So long an exit may take to be counted.
const BEAT: Duration = Duration::from_secs(1);

/// Arguments that wait for their exec event, which follows at once; bounded by count and by the programs in bytes.
const MAX_WAITING: usize = 256;

/// Events of processes.
pub(crate) struct Events {
    ring: Ring,
    waiting: VecDeque<Waiting>,
    page_size: u64,
    /// The programs copy environments.
    environment: bool,
    /// Records of another layout: none, unless object and reader are of different versions.
    foreign: u64,
}

/// The pieces of a command line that came before the event that it belongs to.
struct Waiting {
    process: (u32, u64),
    /// From the end of the first piece, which goes with the event.
    bytes: Vec<u8>,
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
        for (names, place) in PROGRAMS {
            let mut attached = Ok(());
            for name in names {
                let program = program(&mut programs, name)?;
                attached =
                    attach(program, Place::Tracepoint(place), types).map_err(|error| program_error(name, place, error));
                if attached.is_ok() {
                    break;
                }
            }
            attached?;
        }
        let ring = Ring::of(programs, "EVENTS", "COUNTERS")?;
        let &Options { page_size, environment, .. } = options;
        Ok(Self { ring, waiting: VecDeque::new(), page_size, environment, foreign: 0 })
    }
}

impl Feed for Events {
    fn drain(&mut self, take: &mut dyn FnMut(News<'_>) -> ControlFlow<()>) -> Result<(), FeedError> {
        let (page_size, environment) = (self.page_size, self.environment);
        let (waiting, foreign) = (&mut self.waiting, &mut self.foreign);
        self.ring.take(|record| {
            let happening = match layout::parse(record, page_size, environment) {
                Some(Record::Fork(fork)) => Happening::Fork(fork),
                Some(Record::Exit(exit)) => Happening::Exit(exit),
                Some(Record::Exec(exec, argued)) => Happening::Exec(whole(exec, argued, waiting)),
                Some(Record::More { process, at, bytes }) => {
                    keep(waiting, process, at, bytes);
                    return ControlFlow::Continue(());
                }
                None => {
                    *foreign += 1;
                    return ControlFlow::Continue(());
                }
            };
            take(News::Happened(happening))
        });
        Ok(())
    }

    fn losses(&mut self) -> Result<Vec<Loss>, FeedError> {
        let mut losses = Vec::new();
        for (counter, (kind, reason)) in (0_u32..).zip(LOSSES) {
            let count = self.ring.growth(counter).map_err(|error| FeedError(io::Error::other(error)))?;
            losses.extend(Loss::of(kind, count, reason));
        }
        let reason = "records of the kernel's ring have another layout than this procmond reads";
        losses.extend(Loss::of("ring_foreign", std::mem::take(&mut self.foreign), reason));
        Ok(losses)
    }

    fn is_alive(&mut self) -> bool {
        let beats = || BEATS.map(|beat| self.ring.count(beat).unwrap_or_default());
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
#[path = "events_tests.rs"]
mod tests;
