//! What enumerating so many processes costs the thread that does it, and where that goes:
//!
//! ```text
//! cargo run --release -p procmond --example scan -- 10000
//! ```
//!
//! The processes are its own, and end with it. First every record is read whole. The first scan meets the processes as the first
//! scan of a boot does: the kernel has yet to make an entry for everything that is read of them. The second finds these entries.
//! The third and the fourth are like them with other processes, and time each call.
//!
//! Then all processes are looked at, as a later scan does, in turn by the kernel's iterators, by `/proc` and by `sysinfo`, which
//! reads of each what a look shows: its state, user, command line, executable, processor time and memory.

use procmond::Boot;
use procmond::reader::{FileId, HostProc, Owner, ProcFs, Unreadable};
use procmond::scan::{Glance, Interrupted, Observed, ProcessCollector as _, Scanner, Visitor};
use rustix::time::{ClockId, clock_gettime};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::CStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

/// How often all of them are looked at by each.
const LOOKS: usize = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map_or(Ok(1000), |count| count.parse())?;
    let crowd = Crowd::gather(count)?;
    let mut out = std::io::stdout();
    for name in ["first scan", "second scan"] {
        let (processes, cost) = scan(HostProc::open(Path::new("/proc"))?)?;
        writeln!(out, "{name}: {processes} processes, {} ms, {:.1?} each", cost.as_millis(), cost / processes)?;
    }
    drop(crowd);
    let _crowd = Crowd::gather(count)?;
    for name in ["first scan", "second scan"] {
        let spent = RefCell::default();
        let (processes, cost) = scan(Timed { proc: HostProc::open(Path::new("/proc"))?, spent: &spent })?;
        writeln!(out, "{name}, timed: {processes} processes, {} ms", cost.as_millis())?;
        for (call, spent) in spent.into_inner() {
            writeln!(out, "{:>10.1?} a process for {call}", spent / processes)?;
        }
    }
    for Looked { name, processes, cost } in looks()? {
        writeln!(out, "a look by {name}: {processes} processes, {cost:.1?}, {:.2?} each", cost / processes.max(1))?;
    }
    Ok(())
}

/// How all processes were looked at, how many there were the last time, and the median of what a look has cost its thread.
struct Looked {
    name: &'static str,
    processes: u32,
    cost: Duration,
}

/// All ways to look, in turn.
fn looks() -> Result<[Looked; 4], Box<dyn Error>> {
    let scanner =
        || Ok::<_, Box<dyn Error>>(Scanner::new(HostProc::open(Path::new("/proc"))?, Boot::current()?, 256 * 1024));
    let (mut iterators, mut proc) = (scanner()?.with_iterators()?, scanner()?);
    let mut system = System::new();
    let mut all: [(u32, Vec<Duration>); 4] = Default::default();
    for round in 0..=LOOKS {
        for (turn, (processes, costs)) in all.iter_mut().enumerate() {
            let before = cpu();
            *processes = match turn {
                0 => look(&mut iterators)?,
                1 => look(&mut proc)?,
                2 => refresh(&mut system),
                _ => refresh(&mut System::new()),
            };
            // What the first look finds nobody has looked at yet.
            if round > 0 {
                costs.push(cpu().saturating_sub(before));
            }
        }
    }
    let looked = |name, (processes, mut costs): (u32, Vec<Duration>)| {
        costs.sort_unstable();
        Looked { name, processes, cost: costs.get(LOOKS / 2).copied().unwrap_or_default() }
    };
    let [iterators, proc, reused, fresh] = all;
    Ok([
        looked("the kernel's iterators", iterators),
        looked("/proc", proc),
        looked("sysinfo, reused", reused),
        looked("sysinfo, made anew", fresh),
    ])
}

fn look(scanner: &mut Scanner<HostProc>) -> Result<u32, Box<dyn Error>> {
    Ok(scanner.enumerate_processes(&mut Glances).map_err(|error| error.to_string())?.processes)
}

/// Single threaded: `sysinfo` is built without its feature that would spread this over threads.
fn refresh(system: &mut System) -> u32 {
    let kind = ProcessRefreshKind::nothing()
        .without_tasks()
        .with_cpu()
        .with_memory()
        .with_cmd(UpdateKind::Always)
        .with_exe(UpdateKind::Always)
        .with_user(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    u32::try_from(system.processes().len()).unwrap_or(u32::MAX)
}

/// How many processes there were, and what reading them has cost.
fn scan(proc: impl ProcFs) -> Result<(u32, Duration), Box<dyn Error>> {
    let mut scanner = Scanner::new(proc, Boot::current()?, 256 * 1024);
    let before = cpu();
    let counts = scanner.enumerate_processes(&mut Whole).map_err(|error| error.to_string())?;
    Ok((counts.processes.max(1), cpu().saturating_sub(before)))
}

fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Wants everything and keeps nothing.
struct Whole;

impl Visitor for Whole {
    fn wants(&mut self, _: &Glance<'_>) -> Result<bool, Interrupted> {
        Ok(true)
    }

    fn observed(&mut self, _: Observed<'_>) -> Result<(), Interrupted> {
        Ok(())
    }

    fn unreadable(&mut self, _: u32) {}
}

/// Looks at everything and wants nothing more.
struct Glances;

impl Visitor for Glances {
    fn wants(&mut self, glance: &Glance<'_>) -> Result<bool, Interrupted> {
        std::hint::black_box(glance);
        Ok(false)
    }

    fn observed(&mut self, _: Observed<'_>) -> Result<(), Interrupted> {
        Ok(())
    }

    fn unreadable(&mut self, _: u32) {}
}

/// Processes that sleep until this is dropped.
struct Crowd(Vec<Child>);

impl Crowd {
    fn gather(count: usize) -> Result<Self, Box<dyn Error>> {
        let mut crowd = Self(Vec::with_capacity(count));
        for _ in 0..count {
            crowd.0.push(Command::new("sleep").arg("600").stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
        }
        // The last ones have yet to become what they run.
        std::thread::sleep(Duration::from_secs(1));
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended already is as good.
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// Times each call.
struct Timed<'a, P> {
    proc: P,
    spent: &'a RefCell<BTreeMap<String, Duration>>,
}

impl<P> Timed<'_, P> {
    fn timed<T>(&self, call: &str, name: &CStr, act: impl FnOnce(&P) -> T) -> T {
        let before = cpu();
        let done = act(&self.proc);
        let cost = cpu().saturating_sub(before);
        let name = name.to_string_lossy();
        // The seven of them as one.
        let name = name.split_once('/').map_or(&*name, |(directory, _)| directory);
        *self.spent.borrow_mut().entry(format!("{call} {name}")).or_default() += cost;
        done
    }
}

impl<P: ProcFs> ProcFs for Timed<'_, P> {
    type Process = P::Process;

    fn pids(&mut self, into: &mut Vec<u32>) -> Result<(), Unreadable> {
        self.proc.pids(into)
    }

    fn open(&self, pid: u32) -> Result<P::Process, Unreadable> {
        self.timed("open", c"the directory", |proc| proc.open(pid))
    }

    fn owner(&self, process: &P::Process) -> Result<Owner, Unreadable> {
        self.timed("fstat", c"the directory", |proc| proc.owner(process))
    }

    fn read(&self, process: &P::Process, file: &CStr, limit: usize, into: &mut Vec<u8>) -> Result<bool, Unreadable> {
        self.timed("read", file, |proc| proc.read(process, file, limit, into))
    }

    fn link(&self, process: &P::Process, name: &CStr, into: &mut Vec<u8>) -> Result<(), Unreadable> {
        self.timed("readlink", name, |proc| proc.link(process, name, into))
    }

    fn image(&self, process: &P::Process) -> Result<FileId, Unreadable> {
        self.timed("statx", c"exe", |proc| proc.image(process))
    }

    fn file_in_root(&self, process: &P::Process, path: &[u8]) -> Result<FileId, Unreadable> {
        self.timed("statx", c"a path", |proc| proc.file_in_root(process, path))
    }

    fn file(&self, path: &[u8]) -> Result<FileId, Unreadable> {
        self.timed("statx", c"a path", |proc| proc.file(path))
    }
}
