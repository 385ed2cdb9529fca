//! Rounds over processes that a test makes up, and over the end of a poller.

use super::*;
use crate::reader::fake::{FakeProc, FakeProcess};
use crate::scan::{Scanner, Visitor};
use std::cell::RefCell;
use std::rc::Rc;

/// A collector whose host a test changes between rounds.
struct Shared(Rc<RefCell<FakeProc>>);

impl ProcessCollector for Shared {
    fn enumerate_processes(&mut self, visitor: &mut dyn Visitor) -> Result<crate::scan::ScanCounts, ScanError> {
        let proc = self.0.borrow().clone();
        Scanner::new(proc, boot("b"), 1 << 18).enumerate_processes(visitor)
    }

    fn hides(&self, pid: u32) -> bool {
        Scanner::new(self.0.borrow().clone(), boot("b"), 1 << 18).hides(pid)
    }
}

impl Look for Shared {
    fn look(&mut self, pid: u32, visitor: &mut dyn Visitor) -> Result<(), Interrupted> {
        let proc = self.0.borrow().clone();
        Scanner::new(proc, boot("b"), 1 << 18).look(pid, visitor)
    }

    fn speak_for(&mut self, _: &'static str) {}
}

fn boot(id: &str) -> Boot {
    Boot { id: id.into(), time_ns: 0, ticks_per_second: 100, page_size: 4096 }
}

fn host() -> Rc<RefCell<FakeProc>> {
    let processes = [(1, FakeProcess::new("init", 0, 1)), (2, FakeProcess::new("web", 1, 2))];
    Rc::new(RefCell::new(FakeProc::new(processes)))
}

fn round(poller: &mut Poller<Shared>) -> Vec<Item> {
    round_of(poller, false)
}

fn round_of(poller: &mut Poller<Shared>, snapshot: bool) -> Vec<Item> {
    let mut items = Vec::new();
    poller
        .round(snapshot, &mut |item| {
            items.push(item);
            Ok(())
        })
        .unwrap();
    items
}

/// What a file would give back.
fn memory(poller: &Poller<Shared>, clean: bool) -> Memory {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("known.bin");
    let (header, table) = poller.memory(clean).unwrap();
    crate::memory::Keeper::new(path.clone()).write(&header, table).unwrap();
    crate::memory::load(&path).unwrap().unwrap()
}

fn words(items: &[Item]) -> Vec<String> {
    let word = |item: &Item| match item {
        Item::Process(event) => event.event_type().name().to_owned(),
        Item::Scan(scan) => format!("scan {} {}", scan.scan_id, if scan.full { "full" } else { "part" }),
        Item::Gap(gap) => format!("gap {}: {}", gap.kind, gap.reason),
        Item::Snapshot(part) => {
            let names = part.processes.iter().map(|process| process.name.as_deref().unwrap_or("?"));
            format!("snapshot {} of {}", part.scan_id, names.collect::<Vec<_>>().join(", "))
        }
        other => panic!("{other:?} is nothing of procmond's"),
    };
    items.iter().map(word).collect()
}

#[test]
fn a_round_ends_with_its_summary() {
    let host = host();
    let mut poller = Poller::new(Shared(host.clone()), boot("b"), None);
    let items = round(&mut poller);
    assert_eq!(words(&items), ["seen", "seen", "scan 1 full"]);
    let Some(Item::Scan(summary)) = items.last() else { panic!("{items:?}") };
    assert_eq!((summary.processes, summary.vanished, summary.denied), (2, 0, 0));
    assert!(summary.started <= summary.finished && summary.cpu_time_ns > 0);
    host.borrow_mut().processes.remove(&2);
    assert_eq!(words(&round(&mut poller)), ["exit", "scan 2 part"]);
}

#[test]
fn after_a_restart_only_what_is_different_is_told_behind_the_gap() {
    for (clean, reason, scan) in
        [(true, "procmond was stopped", 2), (false, "procmond ended without a clean stop", 2 + UNREMEMBERED)]
    {
        let host = host();
        let mut before = Poller::new(Shared(host.clone()), boot("b"), None);
        let items = round(&mut before);
        let Some(Item::Scan(last)) = items.last() else { panic!("{items:?}") };
        host.borrow_mut().processes.remove(&2);
        host.borrow_mut().processes.insert(3, FakeProcess::new("new", 1, 9));
        let mut after = Poller::new(Shared(host.clone()), boot("b"), Some(memory(&before, clean)));
        let items = round(&mut after);
        let expected =
            [format!("gap collector_down: {reason}"), "seen".into(), "exit".into(), format!("scan {scan} part")];
        assert_eq!(words(&items), expected);
        let (Item::Gap(gap), Some(Item::Scan(summary))) = (&items[0], items.last()) else { panic!("{items:?}") };
        assert_eq!((gap.from, gap.to, gap.count), (last.finished, Some(summary.started), None));
        assert_eq!(words(&round(&mut after)).len(), 1, "the gap is over");
    }
}

#[test]
fn in_a_new_epoch_everything_is_told_anew() {
    let (first, second) = (Epoch([1; 16]), Epoch([2; 16]));
    let host = host();
    let mut poller = Poller::new(Shared(host.clone()), boot("b"), None);
    poller.tell_in(first);
    assert_eq!(words(&round(&mut poller)), ["seen", "seen", "scan 1 full"]);
    poller.tell_in(first);
    assert_eq!(words(&round(&mut poller)), ["scan 2 part"]);
    let remembered = || memory(&poller, true);

    // The file was written in the first epoch: in that it is believed, in another it is not.
    for (epoch, told) in [(first, vec!["scan 3 part"]), (second, vec!["seen", "seen", "scan 3 full"])] {
        let mut restarted = Poller::new(Shared(host.clone()), boot("b"), Some(remembered()));
        restarted.tell_in(epoch);
        let items = words(&round(&mut restarted));
        assert_eq!(items[0], "gap collector_down: procmond was stopped");
        assert_eq!(items[1..], told);
    }

    poller.tell_in(second);
    assert!(poller.memory(true).is_none(), "nothing is remembered before the first scan of the epoch");
    assert_eq!(words(&round(&mut poller)), ["seen", "seen", "scan 3 full"]);
    assert_eq!(words(&round(&mut poller)), ["scan 4 part"]);
    assert_eq!(memory(&poller, true).header.epoch, second.0);
}

#[test]
fn after_a_boot_everything_is_new() {
    let host = host();
    let mut before = Poller::new(Shared(host.clone()), boot("b"), None);
    round(&mut before);
    let mut after = Poller::new(Shared(host), boot("c"), Some(memory(&before, true)));
    let expected = ["gap collector_down: the host was restarted", "seen", "seen", "scan 2 full"];
    assert_eq!(words(&round(&mut after)), expected);
}

#[test]
fn a_failed_scan_ends_nothing_and_is_a_gap() {
    let host = host();
    let mut poller = Poller::new(Shared(host.clone()), boot("b"), None);
    round(&mut poller);
    host.borrow_mut().broken = true;
    for _ in 0..2 {
        assert!(poller.round(false, &mut |item| panic!("{item:?}")).is_err());
    }
    host.borrow_mut().broken = false;
    let told = words(&round(&mut poller));
    let [gap, summary] = &told[..] else { panic!("{told:?}") };
    assert!(gap.starts_with("gap scan_failed: cannot list the processes"), "{gap}");
    assert_eq!(summary, "scan 4 part");
}

#[test]
fn a_snapshot_has_every_process_of_its_scan_once() {
    let host = host();
    let mut poller = Poller::new(Shared(host.clone()), boot("b"), None);
    let items = round_of(&mut poller, true);
    assert_eq!(words(&items), ["seen", "seen", "snapshot 1 of init, web", "scan 1 full"]);
    let Some(Item::Scan(summary)) = items.last() else { panic!("{items:?}") };
    assert!(summary.snapshot);
    assert_eq!(words(&round(&mut poller)), ["scan 2 part"]);

    let mut processes = host.borrow().processes.clone();
    let web = processes.remove(&2).unwrap();
    processes.insert(2, FakeProcess { ppid: 9, ticks: 50, ..web.zombie() });
    processes.insert(3, FakeProcess::new("new", 1, 9));
    processes.insert(4, FakeProcess { gone: vec![c"status"], ..FakeProcess::new("vanishes", 1, 9) });
    host.borrow_mut().processes = processes;
    let items = round_of(&mut poller, true);
    assert_eq!(words(&items), ["seen", "snapshot 3 of init, web, new", "scan 3 part"]);
    let Item::Snapshot(part) = &items[1] else { panic!("{items:?}") };
    let web = &part.processes[1];
    assert_eq!(web.process_key, daemoneye_lib::models::key::process_key("b", 2, 2));
    assert_eq!((web.pid, web.ppid, web.uid), (2, Some(1), Some(1000)), "as its events say");
    assert_eq!(
        (web.status.as_deref(), web.cpu_time_ns, web.memory_usage),
        (Some("zombie"), Some(500_000_000), Some(40_960))
    );
    assert!(web.cpu_usage > Some(0.0) && web.collection_time > 0);
    assert!(web.command_line.is_none() && web.provenance.is_empty(), "nothing that its events say is repeated");
    assert!(prost::Message::encoded_len(web) < 100);

    host.borrow_mut().processes.remove(&3);
    assert_eq!(words(&round_of(&mut poller, true)), ["snapshot 4 of init, web", "exit", "scan 4 part"]);
}

#[test]
fn nothing_is_remembered_before_the_first_whole_scan() {
    let poller = Poller::new(Shared(host()), boot("b"), None);
    assert!(poller.memory(true).is_none());
}

#[test]
fn the_time_of_the_boot_stays_unless_the_clock_was_set() {
    let mut poller = Poller::new(Shared(host()), boot("b"), None);
    round(&mut poller);
    let memory = memory(&poller, true);
    let now = |id: &str, time_ns| settle(Boot { time_ns, ..boot(id) }, Some(&memory)).time_ns;
    assert_eq!(now("b", 1_000_000), 0);
    assert_eq!(now("b", 3_000_000_000), 3_000_000_000);
    assert_eq!(now("c", 1_000_000), 1_000_000);
}

/// So many clock ticks in nanoseconds.
const TICK: u64 = 10_000_000;

#[test]
fn a_process_that_no_event_told_is_told_by_the_second_scan_and_is_a_gap() {
    let host = host();
    let mut poller = Poller::new(Shared(host.clone()), boot("b"), None);
    poller.beside_events(100 * TICK);
    assert_eq!(
        words(&round(&mut poller)),
        ["seen", "seen", "scan 1 full"],
        "what began before is for the scan to tell"
    );
    host.borrow_mut().processes.insert(3, FakeProcess::new("new", 1, 200));
    assert_eq!(words(&round(&mut poller)), ["scan 2 part"], "its event may be on its way");
    let gap = "gap unannounced: a scan found running processes that no event had told";
    // What is heard meanwhile does not say that nothing was missed.
    poller.heard(now_ns());
    let items = round(&mut poller);
    assert_eq!(words(&items), ["seen", gap, "scan 3 part"]);
    let (Item::Gap(gap), Some(Item::Scan(summary))) = (&items[1], items.last()) else { panic!("{items:?}") };
    assert_eq!((gap.from, gap.to), (200 * TICK.cast_signed(), Some(summary.finished)), "since it began");
    assert_eq!(words(&round(&mut poller)), ["scan 4 part"]);

    host.borrow_mut().processes.insert(4, FakeProcess::new("zombie", 1, 300));
    host.borrow_mut().processes.get_mut(&4).unwrap().state = 'Z';
    assert_eq!(words(&round(&mut poller)), ["scan 5 part"]);
    assert_eq!(words(&round(&mut poller)), ["scan 6 part"], "one that has ended is counted with its end");
}

#[test]
fn a_process_that_two_scans_do_not_meet_has_ended() {
    let host = host();
    let mut poller = Poller::new(Shared(host.clone()), boot("b"), None);
    poller.beside_events(100 * TICK);
    round(&mut poller);
    host.borrow_mut().processes.remove(&2);
    assert_eq!(words(&round(&mut poller)), ["scan 2 part"], "its exit may be on its way");
    let items = round(&mut poller);
    assert_eq!(words(&items), ["exit", "scan 3 part"]);
    let Item::Process(event) = &items[0] else { panic!("{items:?}") };
    assert_eq!(event.process.as_ref().unwrap().provenance["end_time"], "inferred");
}

#[test]
fn a_process_that_is_hidden_from_scans_has_not_ended() {
    let host = host();
    let mut poller = Poller::new(Shared(host.clone()), boot("b"), None);
    poller.beside_events(100 * TICK);
    round(&mut poller);
    // As one that becomes another user's, by a program that is set-uid.
    host.borrow_mut().unlisted = Some(2);
    for scan in 2..6 {
        assert_eq!(words(&round(&mut poller)), [format!("scan {scan} part")]);
    }
    host.borrow_mut().unlisted = None;
    host.borrow_mut().processes.remove(&2);
    assert_eq!(words(&round(&mut poller)), ["exit", "scan 6 part"], "nobody has the pid any more");
}
