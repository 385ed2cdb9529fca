//! What enumerating so many processes costs the thread that does it when every record is read whole, and where that goes:
//!
//! ```text
//! cargo run --release -p procmond --example scan -- 10000
//! ```
//!
//! The processes are its own, and end with it. The first scan meets them as the first scan of a boot does: the kernel has
//! yet to make an entry for everything that is read of them. The second finds these entries. The third and the fourth are
//! like them with other processes, and time each call.

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
    Ok(())
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
