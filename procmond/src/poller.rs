//! Round after round: a scan, its events, its summary, and the gap before it where there is one.

use crate::boot::Boot;
use crate::cpu::thread_cpu;
use crate::differ::{Beside, Pass, Table, Tell};
use crate::memory::{Header, Memory};
#[cfg(target_os = "linux")]
use crate::scan::{Glance, Interrupted, Look, Observed, Visitor};
use crate::scan::{ProcessCollector, ScanError};
use collector_core::Epoch;
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::proto::ipc::{Gap, ScanSummary};
use std::time::Duration;

/// More scans than can have gone by since what is remembered was written, so that after a crash no number comes twice.
const UNREMEMBERED: u64 = 1000;
/// A clock that was set moves the time of the boot by more than this.
const SAME_CLOCK_NS: u64 = 2_000_000_000;

/// A stretch in which nothing was seen, that lasts until the next scan.
struct Blind {
    kind: &'static str,
    from: i64,
    reason: String,
}

impl Blind {
    fn until(&self, to: i64) -> Gap {
        let Self { kind, from, reason } = self;
        Gap { kind: (*kind).to_owned(), from: *from, to: Some(to.max(*from)), count: None, reason: reason.clone() }
    }
}

/// Scans and tells what is new.
pub(crate) struct Poller<C> {
    collector: C,
    boot: Boot,
    /// The epoch that the table was told in.
    epoch: Vec<u8>,
    table: Table,
    scan: u64,
    /// When the last whole scan had finished.
    finished: Option<i64>,
    blind: Option<Blind>,
    /// Where events are told beside the scans.
    beside: Option<Beside>,
}

/// What a round came to.
pub(crate) struct Round {
    /// The number of its scan.
    pub(crate) scan: u64,
    /// Its scan knew nothing of an earlier one.
    pub(crate) full: bool,
    /// Something was told beside the summary.
    pub(crate) news: bool,
    /// What it has cost.
    pub(crate) cpu: Duration,
}

/// This boot, dated as it is remembered unless the clock was set since.
pub(crate) fn settle(boot: Boot, memory: Option<&Memory>) -> Boot {
    match memory.map(|memory| &memory.header) {
        Some(header) if header.boot_id == boot.id && header.boot_time_ns.abs_diff(boot.time_ns) < SAME_CLOCK_NS => {
            Boot { time_ns: header.boot_time_ns, ..boot }
        }
        _ => boot,
    }
}

impl<C: ProcessCollector> Poller<C> {
    /// A poller that goes on from what is remembered.
    pub(crate) fn new(collector: C, boot: Boot, memory: Option<Memory>) -> Self {
        let (epoch, table) = (Vec::new(), Table::default());
        let mut poller = Self { collector, boot, epoch, table, scan: 0, finished: None, blind: None, beside: None };
        if let Some(Memory { header, table }) = memory {
            let reason = match (header.boot_id == poller.boot.id, header.clean) {
                (false, _) => "the host was restarted",
                (true, true) => "procmond was stopped",
                (true, false) => "procmond ended without a clean stop",
            };
            poller.blind = Some(Blind { kind: "collector_down", from: header.finished, reason: reason.to_owned() });
            poller.scan = header.scan + if header.clean { 0 } else { UNREMEMBERED };
            if header.boot_id == poller.boot.id {
                poller.epoch = header.epoch;
                poller.table = table;
                poller.finished = Some(header.finished);
            }
        }
        poller
    }

    /// What is told from now on belongs to this epoch. In another one than before, nothing counts as told: the next scan is
    /// a full one. True where that is so.
    pub(crate) fn tell_in(&mut self, epoch: Epoch) -> bool {
        if self.epoch == epoch.0 {
            return false;
        }
        if self.finished.take().is_some() {
            tracing::info!(%epoch, "what was told before may be lost; running processes are told again");
        }
        self.table = Table::default();
        self.epoch = epoch.0.to_vec();
        true
    }

    /// One scan and what it gives rise to, and a snapshot if it is to be one.
    ///
    /// # Errors
    /// After a failed scan nothing has ended; the next one that succeeds tells the gap.
    pub(crate) fn round(&mut self, snapshot: bool, tell: &mut Tell<'_>) -> Result<Round, ScanError> {
        let (started, cpu) = (now_ns(), thread_cpu());
        let full = self.finished.is_none();
        self.scan += 1;
        let (mut news, mut gap_told) = (false, false);
        let blind = &mut self.blind;
        let mut tell = |item| {
            // The gap comes before everything that is seen after it, and not before something is.
            if let Some(gap) = blind.as_ref().map(|blind| blind.until(started)) {
                tell(Item::Gap(gap))?;
                (*blind, gap_told) = (None, true);
            }
            news |= gap_told || !matches!(item, Item::Scan(_) | Item::Snapshot(_));
            tell(item)
        };
        let pass = Pass::new(&self.boot, &mut self.table, self.scan, &mut tell).beside(self.beside.as_mut());
        let mut pass = if snapshot { pass.with_snapshot() } else { pass };
        let counts = match self.collector.enumerate_processes(&mut pass) {
            Ok(counts) => counts,
            Err(ScanError::Interrupted) => return Err(ScanError::Interrupted),
            Err(error) => {
                let from = self.finished.filter(|_| !gap_told).unwrap_or(started);
                let reason = error.to_string();
                self.blind.get_or_insert(Blind { kind: "scan_failed", from, reason });
                return Err(error);
            }
        };
        pass.finish(|pid| self.collector.hides(pid))?;
        let finished = now_ns();
        if let Some(gap) = self.beside.as_mut().and_then(|beside| beside.gap(&self.boot, finished)) {
            tell(Item::Gap(gap))?;
        }
        let cpu = thread_cpu().saturating_sub(cpu);
        tell(Item::Scan(ScanSummary {
            scan_id: self.scan,
            started,
            finished,
            processes: counts.processes,
            vanished: counts.vanished,
            denied: counts.denied,
            full,
            cpu_time_ns: u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX),
            snapshot,
        }))?;
        self.finished = Some(finished);
        Ok(Round { scan: self.scan, full, news, cpu })
    }

    /// What is to be remembered, once all that was told is safe; `None` before the first whole scan.
    pub(crate) fn memory(&self, clean: bool) -> Option<(Header, &Table)> {
        let header = Header {
            boot_id: self.boot.id.clone(),
            boot_time_ns: self.boot.time_ns,
            scan: self.scan,
            finished: self.finished?,
            clean,
            epoch: self.epoch.clone(),
        };
        Some((header, &self.table))
    }
}

/// Beside events.
#[cfg(target_os = "linux")]
impl<C: Look> Poller<C> {
    /// Events are told from now on beside the scans, which look for what those do not tell.
    pub(crate) fn beside_events(&mut self, since_boot_ns: u64) {
        self.beside = Some(Beside::since(self.boot.ticks_of(since_boot_ns)));
    }

    /// What is read from now on is told in the name of this source.
    pub(crate) fn in_the_name_of(&mut self, source: &'static str) {
        self.collector.speak_for(source);
    }

    /// There are no events any more.
    pub(crate) fn alone(&mut self) {
        self.beside = None;
    }

    /// What events are told with: the boot, what is known of processes, the number of the last scan.
    pub(crate) fn known(&mut self) -> (&Boot, &mut Table, u64) {
        (&self.boot, &mut self.table, self.scan)
    }

    /// Looks at one process, and tells if it is not as it was told.
    pub(crate) fn look(&mut self, pid: u32, tell: &mut Tell<'_>) -> Result<(), Interrupted> {
        let mut pass = Pass::new(&self.boot, &mut self.table, self.scan, tell).beside(self.beside.as_mut()).looking();
        self.collector.look(pid, &mut pass)
    }

    /// Looks at a process that was noticed to run another program, and tells that; false when it is gone.
    pub(crate) fn look_for_exec(
        &mut self,
        pid: u32,
        event_time: i64,
        tell: &mut Tell<'_>,
    ) -> Result<bool, Interrupted> {
        let pass = Pass::new(&self.boot, &mut self.table, self.scan, tell).beside(self.beside.as_mut());
        let mut pass = pass.looking_for_exec(event_time);
        self.collector.look(pid, &mut pass)?;
        Ok(pass.has_told())
    }

    /// What is cheap to know of a process; `None` when it is gone.
    pub(crate) fn glimpse(&mut self, pid: u32) -> Option<Glimpse> {
        let mut glimpse = Seen(None);
        // It never interrupts.
        let _ = self.collector.look(pid, &mut glimpse);
        glimpse.0
    }

    /// All that happened until now was told, so that nothing is missed from before.
    pub(crate) fn heard(&mut self, until: i64) {
        if let Some(finished) = &mut self.finished {
            *finished = until.max(*finished);
        }
    }
}

/// What is cheap to know of a process.
#[cfg(target_os = "linux")]
pub(crate) struct Glimpse {
    pub(crate) start_ticks: u64,
    pub(crate) euid: u32,
    pub(crate) egid: u32,
    pub(crate) session: u32,
    pub(crate) tty: u32,
    pub(crate) name: Vec<u8>,
}

/// Wants no more than the first look.
#[cfg(target_os = "linux")]
struct Seen(Option<Glimpse>);

#[cfg(target_os = "linux")]
impl Visitor for Seen {
    fn wants(&mut self, glance: &Glance<'_>) -> Result<bool, Interrupted> {
        self.0 = Some(Glimpse {
            start_ticks: glance.stat.start_ticks,
            euid: glance.owner.euid,
            egid: glance.owner.egid,
            session: glance.stat.session,
            tty: glance.stat.tty,
            name: glance.stat.name().to_vec(),
        });
        Ok(false)
    }

    fn observed(&mut self, _: Observed<'_>) -> Result<(), Interrupted> {
        Ok(())
    }

    fn unreadable(&mut self, _: u32) {}
}

#[cfg(test)]
mod tests;
