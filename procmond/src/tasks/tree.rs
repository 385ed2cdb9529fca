//! `MONITOR_PROCESS_TREE`: a process and its descendants, as they begin, change and end.
//!
//! A poll with a table of its own: what the collection knows, and told, is left alone. A process that begins and ends
//! between two looks is not seen, and neither is one whose parent ended before it was.
//!
//! A child may be listed before its parent, so that a look that finds new members is followed by a second one at once; by
//! one, however the family grows. Then all watchers wait until what they used together is within their [`Share`].

use super::share::Share;
use super::{Tasks, scan_failed};
use crate::cpu::thread_cpu;
use crate::differ::{Pass, Table};
use crate::procfs::boot::Boot;
use crate::scan::{Glance, Interrupted, Observed, ProcessCollector, Visitor};
use collector_core::{TaskError, TaskReplies};
use daemoneye_lib::proto::common::ProcessRecord;
use daemoneye_lib::proto::ipc::DetectionTask;
use daemoneye_lib::proto::ipc::collected_item::Item;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// From look to look at least.
const INTERVAL: Duration = Duration::from_millis(200);
/// Another share is noticed within this time.
const NAP: Duration = Duration::from_secs(1);

/// Who is told of the family, and has the time that it may take.
trait Audience {
    fn now(&self) -> Instant;
    fn go_on(&mut self) -> Result<(), TaskError>;
    fn record(&mut self, record: ProcessRecord) -> Result<(), TaskError>;
    fn flush(&mut self) -> Result<(), TaskError>;
    fn pause(&mut self, duration: Duration) -> Result<(), TaskError>;
}

impl Audience for TaskReplies {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn go_on(&mut self) -> Result<(), TaskError> {
        self.go_on()
    }

    fn record(&mut self, record: ProcessRecord) -> Result<(), TaskError> {
        self.record(record)
    }

    fn flush(&mut self) -> Result<(), TaskError> {
        self.flush()
    }

    fn pause(&mut self, duration: Duration) -> Result<(), TaskError> {
        self.pause(duration)
    }
}

pub(super) fn run(tasks: &Tasks, task: DetectionTask, replies: &mut TaskReplies) -> Result<(), TaskError> {
    let roots = task.process_filter.map(|filter| filter.pids).unwrap_or_default();
    let [root] = roots[..] else {
        return Err(TaskError::Refused("a tree has one root: name one pid".to_owned()));
    };
    watch(root, &tasks.boot, &mut tasks.scanner()?, &tasks.share, replies)
}

fn watch(
    root: u32,
    boot: &Boot,
    scanner: &mut impl ProcessCollector,
    share: &Share,
    audience: &mut impl Audience,
) -> Result<(), TaskError> {
    let mut watch = Watch { root: Some(root), family: HashMap::new(), table: Table::default(), scan: 0 };
    let mut second_look = false;
    loop {
        let (began, cpu) = (audience.now(), thread_cpu());
        let grown = watch.round(boot, scanner, audience)?;
        share.spent(thread_cpu().saturating_sub(cpu), audience.now());
        audience.flush()?;
        if watch.root.take().is_some() && watch.family.is_empty() {
            return Err(TaskError::NotFound(format!("there is no process {root}")));
        }
        if watch.family.is_empty() {
            return Ok(());
        }
        second_look = grown && !second_look;
        let rest = if second_look { audience.pause(Duration::ZERO) } else { rest(began + INTERVAL, share, audience) };
        match rest {
            // That is how watching ends.
            Err(TaskError::TimedOut(_)) => return Ok(()),
            rested => rested?,
        }
    }
}

/// Waits for this time, and for the share.
fn rest(until: Instant, share: &Share, audience: &mut impl Audience) -> Result<(), TaskError> {
    loop {
        let now = audience.now();
        let left = until.saturating_duration_since(now).max(share.wait(now));
        audience.pause(left.min(NAP))?;
        if left <= NAP {
            return Ok(());
        }
    }
}

struct Watch {
    /// Until it was found.
    root: Option<u32>,
    /// Its members by pid, with their start in clock ticks.
    family: HashMap<u32, u64>,
    table: Table,
    scan: u64,
}

impl Watch {
    /// Looks once, and tells what is new; whether the family has new members.
    fn round(
        &mut self,
        boot: &Boot,
        scanner: &mut impl ProcessCollector,
        audience: &mut impl Audience,
    ) -> Result<bool, TaskError> {
        self.scan += 1;
        let state = RefCell::new((audience, None));
        let mut tell = |item| {
            let Item::Process(event) = item else { return Ok(()) };
            let (audience, stopped) = &mut *state.borrow_mut();
            event.process.map_or(Ok(()), |record| audience.record(record)).map_err(|error| {
                *stopped = Some(error);
                Interrupted
            })
        };
        let pass = Pass::new(boot, &mut self.table, self.scan, &mut tell);
        let mut members = Members { pass, root: self.root, family: &mut self.family, grown: false, state: &state };
        let scanned = scanner.enumerate_processes(&mut members);
        let Members { pass, grown, .. } = members;
        let told = scanned.and_then(|_| Ok(pass.finish(|pid| scanner.hides(pid))?));
        let stopped = state.into_inner().1;
        told.map_err(|error| scan_failed(error, stopped))?;
        let table = &self.table;
        self.family.retain(|pid, start| table.get(*pid).is_some_and(|known| known.start_ticks == *start));
        Ok(grown)
    }
}

/// Shows the members of the family, and nobody else.
struct Members<'a, 'b, 'c, A> {
    pass: Pass<'a>,
    root: Option<u32>,
    family: &'b mut HashMap<u32, u64>,
    grown: bool,
    state: &'b RefCell<(&'c mut A, Option<TaskError>)>,
}

impl<A: Audience> Visitor for Members<'_, '_, '_, A> {
    fn wants(&mut self, glance: &Glance<'_>) -> Result<bool, Interrupted> {
        {
            let (audience, stopped) = &mut *self.state.borrow_mut();
            match audience.go_on() {
                // The end of the time is looked for between two rounds.
                Ok(()) | Err(TaskError::TimedOut(_)) => {}
                Err(error) => {
                    *stopped = Some(error);
                    return Err(Interrupted);
                }
            }
        }
        let start = glance.stat.start_ticks;
        let is_child = || self.family.get(&glance.stat.ppid).is_some_and(|parent| *parent <= start);
        let is_member = self.family.get(&glance.pid) == Some(&start) || self.root == Some(glance.pid) || is_child();
        if !is_member {
            return Ok(false);
        }
        self.grown |= self.family.insert(glance.pid, start) != Some(start);
        self.pass.wants(glance)
    }

    fn observed(&mut self, observed: Observed<'_>) -> Result<(), Interrupted> {
        self.pass.observed(observed)
    }

    fn unreadable(&mut self, pid: u32) {
        self.pass.unreadable(pid);
    }
}

#[cfg(test)]
mod tests {
    use super::super::share::tests::share;
    use super::*;
    use crate::reader::fake::{FakeProc, FakeProcess};
    use crate::scan::{ScanCounts, ScanError, Scanner};
    use std::cell::Cell;

    static BOOT: Boot = Boot { id: String::new(), time_ns: 0, ticks_per_second: 100, page_size: 4096 };

    /// A process that has one child more whenever it is looked at.
    struct Growing<'a> {
        children: u32,
        looks: &'a Cell<u32>,
    }

    impl ProcessCollector for Growing<'_> {
        fn enumerate_processes(&mut self, visitor: &mut dyn Visitor) -> Result<ScanCounts, ScanError> {
            self.looks.set(self.looks.get() + 1);
            self.children += 1;
            let child = |n| (100 + n, FakeProcess::new("child", 7, 1 + u64::from(n)));
            let family = (1..=self.children).map(child).chain([(7, FakeProcess::new("root", 0, 1))]);
            Scanner::new(FakeProc::new(family), BOOT.clone(), 1 << 18).enumerate_processes(visitor)
        }
    }

    /// Somebody for whom time passes only by waiting, and who ends the watch at some time.
    struct Patient<'a> {
        looks: &'a Cell<u32>,
        began: Instant,
        waited: Duration,
        /// How many looks there were before each rest.
        rests: Vec<u32>,
        told: u32,
        until: Duration,
    }

    impl Audience for Patient<'_> {
        fn now(&self) -> Instant {
            self.began + self.waited
        }

        fn go_on(&mut self) -> Result<(), TaskError> {
            Ok(())
        }

        fn record(&mut self, _: ProcessRecord) -> Result<(), TaskError> {
            self.told += 1;
            Ok(())
        }

        fn flush(&mut self) -> Result<(), TaskError> {
            Ok(())
        }

        fn pause(&mut self, duration: Duration) -> Result<(), TaskError> {
            self.waited += duration;
            if duration >= INTERVAL {
                self.rests.push(self.looks.replace(0));
            }
            if self.waited >= self.until { Err(TaskError::TimedOut(self.until)) } else { Ok(()) }
        }
    }

    #[test]
    fn a_family_that_grows_all_the_time_is_looked_at_twice_and_then_in_its_time() {
        let (looks, (_wanted, share)) = (Cell::new(0), share(100.0));
        let until = INTERVAL * 50;
        let began = Instant::now();
        let mut audience = Patient { looks: &looks, began, waited: Duration::ZERO, rests: vec![], told: 0, until };
        watch(7, &BOOT, &mut Growing { children: 0, looks: &looks }, &share, &mut audience).unwrap();
        assert!((2..=50).contains(&audience.rests.len()), "{:?}", audience.rests);
        assert!(audience.rests.iter().all(|looks| *looks == 2), "{:?}", audience.rests);
        assert!(audience.told > 2);
    }
}
