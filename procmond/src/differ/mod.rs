//! From two scans to events: `seen`, `changed`, `exit`.
//!
//! [`Table`] knows of every process that was told what tells it apart and what its `exit` will say. [`Pass`] looks at
//! one scan with it. An event is told before the table takes note of it: should telling fail, the same event comes
//! about again at the next scan.
//!
//! Beside a source of events ([`Beside`]) a scan looks for what that one did not tell. What happens while the scan runs is on
//! its way as an event: so a process that began since the events did counts as missed only when two scans in a row meet it
//! and no event told it, and as ended when two in a row do not.

mod beside;
mod ended;
mod identity;
mod table;

pub(crate) use beside::Beside;
pub(crate) use identity::Identity;
pub(crate) use table::{Known, Table};

use crate::boot::Boot;
use crate::provenance as why;
use crate::scan::{Glance, Interrupted, Observed, UNLIKE, Visitor, usage};
use crate::snapshot::{self, Parts};
use daemoneye_lib::models::{key::process_key, time::now_ns};
use daemoneye_lib::proto::common::{EventType, ProcessEvent, ProcessRecord};
use daemoneye_lib::proto::ipc::collected_item::Item;

/// The whole record of a known process is read at every scan of so many, in which its turn comes: not everything that
/// can change shows at the first look.
const TURNS: u64 = 16;
/// A process this young is still being set up by who started it: its record is read at every scan.
const YOUNG_NS: i64 = 3_000_000_000;

/// Takes an item, or says that no more are taken.
pub(crate) type Tell<'a> = dyn FnMut(Item) -> Result<(), Interrupted> + 'a;

/// One scan, seen with the knowledge of those before.
pub(crate) struct Pass<'a> {
    boot: &'a Boot,
    table: &'a mut Table,
    scan: u64,
    tell: &'a mut Tell<'a>,
    /// Of the process at hand, since the scan before.
    usage: Option<f64>,
    /// Where the scan is a snapshot.
    snapshot: Option<Parts>,
    /// Where there are events beside the scans.
    beside: Option<&'a mut Beside>,
    /// One process is looked at, whatever is known of it.
    look: bool,
    /// It was noticed to run another program at this time.
    exec: Option<i64>,
    told: bool,
}

impl<'a> Pass<'a> {
    /// A pass for the scan of this number, which no scan before had.
    pub(crate) fn new(boot: &'a Boot, table: &'a mut Table, scan: u64, tell: &'a mut Tell<'a>) -> Self {
        Self {
            boot,
            table,
            scan,
            tell,
            usage: None,
            snapshot: None,
            beside: None,
            look: false,
            exec: None,
            told: false,
        }
    }

    /// The same, beside events.
    pub(crate) fn beside(self, beside: Option<&'a mut Beside>) -> Self {
        Self { beside, ..self }
    }

    #[cfg(target_os = "linux")]
    /// The same, for a look at one process.
    pub(crate) fn looking(self) -> Self {
        Self { look: true, ..self }
    }

    /// The same, which tells beside the events what each process uses.
    pub(crate) fn with_snapshot(self) -> Self {
        Self { snapshot: Some(Parts::of(self.scan)), ..self }
    }

    #[cfg(target_os = "linux")]
    /// The same, for a look at a process that was noticed to run another program: that is told, whatever else is known.
    pub(crate) fn looking_for_exec(self, at: i64) -> Self {
        Self { look: true, exec: Some(at), ..self }
    }

    #[cfg(target_os = "linux")]
    /// Whether a record was told.
    pub(crate) fn has_told(&self) -> bool {
        self.told
    }

    /// Tells the end of every process that this scan, which has come to its end, did not meet and that is not hidden from it,
    /// and the rest of the snapshot.
    pub(crate) fn finish(self, is_hidden: impl Fn(u32) -> bool) -> Result<(), Interrupted> {
        let Self { boot, table, scan, tell, snapshot, beside, .. } = self;
        if let Some(part) = snapshot.and_then(|mut parts| parts.rest()) {
            tell(part)?;
        }
        let last = if beside.is_some() { scan.saturating_sub(1) } else { scan };
        for pid in table.not_met_since(last).into_iter().filter(|pid| !is_hidden(*pid)) {
            if let Some(known) = table.get(pid) {
                tell(inferred_exit(boot, pid, known))?;
            }
            table.end(pid);
        }
        if let Some(beside) = beside {
            beside.finish();
        }
        Ok(())
    }

    /// Adds a process that the table knows to the snapshot, where there is one.
    fn note_use(&mut self, glance: &Glance<'_>, usage: Option<f64>) -> Result<(), Interrupted> {
        if let (Some(parts), Some(known)) = (&mut self.snapshot, self.table.get(glance.pid))
            && let Some(part) = parts.add(snapshot::row(self.boot, glance, known.ppid, known.uid, usage))
        {
            (self.tell)(part)?;
        }
        Ok(())
    }

    fn is_due(&self, glance: &Glance<'_>) -> bool {
        let young = glance.at.saturating_sub(self.boot.time_of(glance.stat.start_ticks)) < YOUNG_NS;
        // Events tell what a young process becomes.
        (young && self.beside.is_none()) || u64::from(glance.pid).wrapping_add(self.scan).is_multiple_of(TURNS)
    }
}

impl Visitor for Pass<'_> {
    fn wants(&mut self, glance: &Glance<'_>) -> Result<bool, Interrupted> {
        self.usage = None;
        let due = self.look || self.is_due(glance);
        if let Some(known) = self.table.get(glance.pid)
            && known.start_ticks != glance.stat.start_ticks
        {
            (self.tell)(inferred_exit(self.boot, glance.pid, known))?;
            self.table.end(glance.pid);
        }
        if self.exec.is_some() && !glance.is_ending() {
            return Ok(true);
        }
        let Some(known) = self.table.get_mut(glance.pid) else {
            return Ok(match &mut self.beside {
                Some(beside) => beside.misses(glance, self.table),
                None => true,
            });
        };
        known.scan = self.scan;
        let spent = self.boot.duration_ns(glance.stat.cpu_ticks.saturating_sub(known.cpu_ticks));
        self.usage = usage(spent, glance.at.saturating_sub(known.cpu_at));
        (known.cpu_ticks, known.cpu_at) = (glance.stat.cpu_ticks, glance.at);
        // Having ended is no change of identity, and what is left of a process looks like nothing it was.
        let wanted = !glance.is_ending() && (due || glance.news || known.glance != glance.digest());
        self.note_use(glance, self.usage)?;
        Ok(wanted)
    }

    fn observed(&mut self, observed: Observed<'_>) -> Result<(), Interrupted> {
        let Observed { mut record, glance, parent_start } = observed;
        let identity = Identity::of(&record);
        let event_type = match self.table.get(glance.pid) {
            None => Some(EventType::Seen),
            Some(known) => {
                if let Some(usage) = self.usage {
                    record.cpu_usage = Some(usage);
                    record.provenance.remove("cpu_usage");
                }
                known.keep_parent(self.boot, &mut record);
                known.identity.differs(&identity).then_some(EventType::Changed)
            }
        };
        let event_type = if self.exec.is_some() { Some(EventType::Exec) } else { event_type };
        let (scan, digest) = (self.scan, glance.digest());
        if let Some(event_type) = event_type {
            let (event_time, usage) = (self.exec.unwrap_or(record.collection_time), record.cpu_usage);
            // The event takes the record; what the table keeps of it is a small part.
            let kept = Known::new(scan, digest, glance, parent_start, identity, &record);
            let is_first = event_type == EventType::Seen;
            let kept = Known { seen_exec: glance.exec_id.filter(|_| is_first), ..kept };
            let replaced = is_first.then(|| without_unlike(&mut record)).flatten();
            (self.tell)(event(event_type, event_time, record))?;
            if let Some(record) = replaced {
                (self.tell)(event(EventType::Changed, event_time, record))?;
            }
            self.table.put(glance.pid, kept);
            self.told = true;
            if is_first {
                // Of all others the first look was enough.
                self.note_use(glance, usage)?;
            }
        } else if let Some(known) = self.table.get_mut(glance.pid) {
            known.glance = digest;
        }
        Ok(())
    }

    fn unreadable(&mut self, pid: u32) {
        // Somebody has the pid, and nothing says that it is somebody else.
        if let Some(known) = self.table.get_mut(pid) {
            known.scan = self.scan;
        }
    }
}

/// Takes the notes about an image that is unlike its predecessor out of a record; the record with them, where there are any:
/// that an image was replaced is a change, also where the process is told of for the first time.
pub(crate) fn without_unlike(record: &mut ProcessRecord) -> Option<ProcessRecord> {
    let noted = UNLIKE.iter().any(|note| record.platform_data.contains_key(*note)).then(|| record.clone())?;
    record.platform_data.retain(|note, _| !UNLIKE.contains(&note.as_str()));
    Some(noted)
}

pub(crate) fn event(event_type: EventType, event_time: i64, record: ProcessRecord) -> Item {
    Item::Process(ProcessEvent { event_type: event_type.into(), event_time, process: Some(record) })
}

/// The event of a process that is no longer there, and whose end nobody saw.
pub(crate) fn inferred_exit(boot: &Boot, pid: u32, known: &Known) -> Item {
    let now = now_ns();
    let mut record = ProcessRecord {
        process_key: process_key(&boot.id, pid, known.start_ticks),
        parent_key: known.parent_key(boot),
        pid,
        ppid: Some(known.ppid),
        name: Some(known.name.clone()),
        start_time: Some(boot.time_of(known.start_ticks)),
        end_time: Some(now),
        uid: known.uid,
        cpu_time_ns: Some(boot.duration_ns(known.cpu_ticks)),
        source: "poll".to_owned(),
        collection_time: now,
        ..ProcessRecord::default()
    };
    known.put_program(&mut record);
    // Every column but these is as it was when the process was last looked at, or is not kept.
    record.provenance.insert(why::EVERY.to_owned(), why::SCRAPED.to_owned());
    why::absent(&mut record, &["end_time"], why::INFERRED);
    why::absent(&mut record, &["exit_code", "exit_signal", "invoked_path"], why::POLLING);
    record.provenance.insert(why::NONE.to_owned(), why::NOT_KEPT.to_owned());
    event(EventType::Exit, now, record)
}

#[cfg(test)]
mod tests;
