//! The peer: `sysinfo` reading of all processes what a scan looks at, in this process.

use crate::interrupt::Interrupt;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
use testkit::Failure;

const ROUNDS: usize = 9;

/// What enumerations have cost, one by one.
#[derive(Default)]
pub(super) struct Costs {
    pub(super) cpu: Vec<Duration>,
    pub(super) wall: Vec<Duration>,
}

/// Enumerates again with what the last enumeration left behind.
pub(super) fn reused(interrupt: &Interrupt) -> Result<Costs, Failure> {
    let mut system = System::new();
    enumerate(&mut system);
    costs(interrupt, || enumerate(&mut system))
}

/// Enumerates with nothing to start from.
pub(super) fn fresh(interrupt: &Interrupt) -> Result<Costs, Failure> {
    costs(interrupt, || enumerate(&mut System::new()))
}

fn enumerate(system: &mut System) {
    // Everything anew, as a program must that wants to notice what changes; threads are no processes.
    let kind = ProcessRefreshKind::nothing()
        .without_tasks()
        .with_cpu()
        .with_memory()
        .with_cmd(UpdateKind::Always)
        .with_cwd(UpdateKind::Always)
        .with_exe(UpdateKind::Always)
        .with_user(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
}

fn costs(interrupt: &Interrupt, mut round: impl FnMut()) -> Result<Costs, Failure> {
    let mut costs = Costs::default();
    for _ in 0..ROUNDS {
        interrupt.check()?;
        let (began, cpu) = (Instant::now(), cpu());
        round();
        costs.cpu.push(self::cpu().saturating_sub(cpu));
        costs.wall.push(began.elapsed());
    }
    Ok(costs)
}

/// What this process has cost so far.
fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}
