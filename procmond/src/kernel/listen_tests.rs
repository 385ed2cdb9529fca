//! What is told of feeds that a test makes up, and what becomes of listening when one ends.

use super::*;
use crate::boot::Boot;
use crate::hashing::{FileDigester, Hashes};
use crate::kernel::heard::ALIVE_EVERY;
use crate::kernel::{Act, Exec, Feed, FeedError, Fork, Noticed, Standby, Who};
use crate::mask::Masker;
use crate::provenance as why;
use crate::reader::fake::{FakeProc, FakeProcess};
use crate::scan::{ImageHashes, Predecessors, Scanner};
use daemoneye_lib::proto::common::{EventType, ProcessRecord};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

const TICK: u64 = 10_000_000;
/// Of this host, which began when this test knows nothing of it: whatever lives is younger than what listens.
const LATE: u64 = u64::MAX / TICK;

/// Gives one part at each draining.
#[derive(Default)]
struct Fake {
    parts: VecDeque<Result<Vec<News<'static>>, FeedError>>,
    silent: bool,
    uncounted: bool,
}

impl Feed for Fake {
    fn drain(&mut self, take: &mut dyn FnMut(News<'_>) -> ControlFlow<()>) -> Result<(), FeedError> {
        for news in self.parts.pop_front().transpose()?.unwrap_or_default() {
            let _ = take(news);
        }
        Ok(())
    }

    fn losses(&mut self) -> Result<Vec<Loss>, FeedError> {
        if self.uncounted { Err(FeedError(io::Error::other("the counters are gone"))) } else { Ok(Vec::new()) }
    }

    fn is_alive(&mut self) -> bool {
        !self.silent
    }

    fn wait(&mut self, _: &Sink, _: Duration) -> Result<(), Stopped> {
        Ok(())
    }
}

fn gives(news: Vec<News<'static>>) -> Fake {
    Fake { parts: [Ok(news)].into(), ..Fake::default() }
}

fn breaks() -> Fake {
    Fake { parts: [Err(FeedError(io::Error::other("the socket is gone")))].into(), ..Fake::default() }
}

/// A listener on a host with one process, 7, that began late.
struct Host {
    listening: Listening,
    poller: Poller<Scanner<FakeProc>>,
    now: Instant,
}

impl Host {
    fn new(feed: Fake, standby: Option<Standby>, mode: &'static str) -> Self {
        let hashes = Hashes::on_demand(Arc::new(FileDigester::new(1 << 30, 1 << 30)));
        let hashes = ImageHashes { hashes, predecessors: Predecessors::shared(50) };
        let variables = watch::channel(Arc::from(Vec::new())).1;
        let teller = Teller::new(Masker::new(&[]), variables, hashes, 64);
        let heard = Heard::new(Box::new(feed), standby, mode, "the best source".to_owned());
        let mut listening = Listening::new(heard, Acts::default(), teller, Duration::ZERO);
        let boot = Boot { id: "b".to_owned(), time_ns: 0, ticks_per_second: 100, page_size: 4096 };
        let proc = FakeProc::new([(7, FakeProcess::new("web", 1, LATE))]);
        let mut poller = Poller::new(Scanner::new(proc, boot.clone(), 1 << 18), boot, None);
        listening.begin(&mut poller);
        Self { listening, poller, now: Instant::now() }
    }

    fn hear(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        let mut tell = |item| {
            items.push(item);
            Ok(())
        };
        self.listening.hear(&mut self.poller, self.now, false, &mut tell).unwrap();
        items
    }

    fn scan(&mut self) -> Vec<Item> {
        let mut items = Vec::new();
        let mut tell = |item| {
            items.push(item);
            Ok(())
        };
        self.poller.round(false, &mut tell).unwrap();
        items
    }

    fn mode(&self) -> (&'static str, String) {
        Meanwhile::<Scanner<FakeProc>>::mode(&self.listening)
    }

    fn hears(&self) -> bool {
        Meanwhile::<Scanner<FakeProc>>::hears(&self.listening)
    }
}

/// Process 5, which begins a program.
fn exec() -> News<'static> {
    let who = Who { pid: 5, start: 9 * TICK, parent: 1, parent_start: Some(TICK), name: b"sh", ..Who::default() };
    News::Happened(Happening::Exec(Box::new(Exec { who, path: b"/bin/sh".to_vec(), ..Exec::default() })))
}

fn noticed(pid: u32, act: Act) -> News<'static> {
    News::Noticed(Noticed { at: 20 * TICK, pid, act })
}

fn events(items: &[Item]) -> Vec<(EventType, &ProcessRecord)> {
    fn event(item: &Item) -> Option<(EventType, &ProcessRecord)> {
        let Item::Process(event) = item else { return None };
        Some((event.event_type(), event.process.as_ref()?))
    }
    items.iter().filter_map(event).collect()
}

/// What each event is, of whom, and by whom.
fn words(items: &[Item]) -> Vec<(EventType, u32, &str)> {
    events(items).into_iter().map(|(kind, record)| (kind, record.pid, record.source.as_str())).collect()
}

fn gap(items: &[Item]) -> &Gap {
    let [Item::Gap(gap)] = items else { panic!("{items:?}") };
    gap
}

#[test]
fn what_stands_by_takes_over_from_a_feed_that_fails() {
    let standby: Standby = Box::new(|| Ok(Box::new(gives(vec![noticed(7, Act::Exec)]))));
    let mut first = gives(vec![exec()]);
    first.parts.extend(breaks().parts);
    let mut host = Host::new(first, Some(standby), "ebpf");
    let before = now_ns();
    assert_eq!(words(&host.hear()), [(EventType::Exec, 5, "ebpf")]);
    assert_eq!(host.mode(), ("ebpf", "the best source".to_owned()));
    assert_eq!(Meanwhile::<Scanner<FakeProc>>::changed(&host.listening), None);

    let told = host.hear();
    let lost = gap(&told);
    let reason = "ebpf has ended: the kernel's events cannot be read any more: the socket is gone";
    assert_eq!((lost.kind.as_str(), lost.reason.as_str(), lost.count), ("source_lost", reason, None));
    assert!(lost.from <= before && lost.to >= Some(before), "{lost:?}");
    assert_eq!(host.mode(), ("connector", reason.to_owned()));
    let changed = Some(("connector".to_owned(), reason.to_owned()));
    assert_eq!(Meanwhile::<Scanner<FakeProc>>::changed(&host.listening), changed);
    assert!(host.hears());

    assert_eq!(
        words(&host.hear()),
        [(EventType::Exec, 7, "connector")],
        "what the second one tells is told as its own"
    );
    assert_eq!(words(&host.scan()), [], "scans leave the rest to it");
}

#[test]
fn a_scan_between_a_fork_and_its_execs_swallows_none() {
    let who = |name| Who { pid: 7, start: u64::MAX, parent: 1, parent_start: Some(TICK), name, ..Who::default() };
    let exec = |name, exec_id| {
        let who = Who { exec_id, ..who(name) };
        News::Happened(Happening::Exec(Box::new(Exec { who, path: b"/bin/program".to_vec(), ..Exec::default() })))
    };
    let fork = News::Happened(Happening::Fork(Fork { who: who(b"sh"), original: None }));
    let parts = [vec![fork], vec![exec(b"sh", 1), exec(b"web", 2)], vec![exec(b"web", 3)]];
    let mut host = Host::new(Fake { parts: parts.map(Ok).into(), silent: false, uncounted: false }, None, "ebpf");
    assert_eq!(words(&host.scan()), [], "what began since is left to the feed");
    assert_eq!(words(&host.hear()), [(EventType::Fork, 7, "ebpf")]);
    assert_eq!(words(&host.scan()), [(EventType::Changed, 7, "ebpf")], "it runs its second program by now");
    assert_eq!(words(&host.hear()), [(EventType::Exec, 7, "ebpf"); 2]);
    assert_eq!(words(&host.hear()), [(EventType::Exec, 7, "ebpf")]);
}

#[test]
fn scans_are_left_where_nothing_takes_over() {
    let fails: Standby = Box::new(|| Err("it may not be listened to".to_owned()));
    for (standby, why_not) in [(Some(fails), "; no connector: it may not be listened to"), (None, "")] {
        let mut host = Host::new(breaks(), standby, "ebpf");
        assert_eq!(words(&host.scan()), [], "what began since is left to the feed");
        let told = host.hear();
        let reason = "ebpf has ended: the kernel's events cannot be read any more: the socket is gone";
        assert_eq!((gap(&told).kind.as_str(), gap(&told).reason.as_str()), ("source_lost", reason));
        assert_eq!(host.mode(), ("poll", format!("{reason}{why_not}")));
        assert!(!host.hears());
        assert_eq!(host.hear(), []);
        assert_eq!(words(&host.scan()), [(EventType::Seen, 7, "poll")], "scans tell everything again");
    }
}

#[test]
fn a_feed_that_fell_silent_has_ended() {
    let mut host = Host::new(Fake { silent: true, ..Fake::default() }, None, "connector");
    assert_eq!(host.hear(), [], "it has to show that it is alive only now and then");
    host.now += ALIVE_EVERY;
    let told = host.hear();
    let reason = "connector has ended: it tells nothing any more: somebody may have detached it";
    assert_eq!((gap(&told).kind.as_str(), gap(&told).reason.as_str()), ("source_lost", reason));
    assert_eq!(host.mode(), ("poll", reason.to_owned()));

    let mut host = Host::new(Fake::default(), None, "connector");
    for _ in 0..3 {
        host.now += ALIVE_EVERY;
        assert_eq!((host.hear(), host.hears()), (vec![], true));
    }
}

#[test]
fn a_feed_whose_losses_cannot_be_known_has_ended() {
    let mut host = Host::new(Fake { uncounted: true, ..gives(vec![exec()]) }, None, "ebpf");
    let told = host.hear();
    assert_eq!(words(&told), [(EventType::Exec, 5, "ebpf")]);
    let reason = "ebpf has ended: the kernel's events cannot be read any more: the counters are gone";
    assert_eq!((gap(&told[1..]).kind.as_str(), gap(&told[1..]).reason.as_str()), ("source_lost", reason));
    assert_eq!(host.mode(), ("poll", reason.to_owned()));
    assert_eq!(host.hear(), [], "told once");
}

/// The columns with a value, of those that a notice knows nothing of.
fn claimed(record: &ProcessRecord) -> Vec<&'static str> {
    [
        ("gid", record.gid.is_some()),
        ("euid", record.euid.is_some()),
        ("egid", record.egid.is_some()),
        ("session_id", record.session_id.is_some()),
        ("tty", record.tty.is_some()),
        ("loginuid", record.loginuid.is_some()),
        ("audit_session", record.audit_session.is_some()),
        ("cpu_time_ns", record.cpu_time_ns.is_some()),
    ]
    .into_iter()
    .filter_map(|(column, has_value)| has_value.then_some(column))
    .collect()
}

#[test]
fn a_notice_claims_nothing_that_it_does_not_know() {
    let fork = |pid| noticed(pid, Act::Fork { parent: 1 });
    let exit = |pid, status| noticed(pid, Act::Exit { status });
    let feed = gives(vec![fork(6), exit(6, 3 << 8), fork(7), exit(7, 9)]);
    let mut host = Host::new(feed, None, "connector");
    let told = host.hear();
    let told = events(&told);
    let kinds: Vec<_> = told.iter().map(|(kind, record)| (*kind, record.pid)).collect();
    let (fork, exit) = (EventType::Fork, EventType::Exit);
    assert_eq!(kinds, [(fork, 6), (exit, 6), (fork, 7), (exit, 7)]);
    let record = |at: usize| told[at].1;

    // 6 was gone before anybody could look, 7 was not; of their parent nothing is known.
    assert_eq!((claimed(record(0)), record(0).uid, &record(0).user), (vec![], None, &None));
    assert_eq!(record(0).provenance["*"], why::INFERRED);
    assert_eq!(
        (record(0).provenance["euid"].as_str(), record(0).provenance["-"].as_str()),
        (why::ENDED, why::NOT_FORKED)
    );
    assert_eq!(claimed(record(2)), ["euid", "egid", "session_id", "tty"]);
    assert_eq!((record(2).euid, record(2).name.as_deref(), record(2).uid), (Some(1000), Some("web"), None));
    assert_eq!(record(2).provenance["*"], why::SCRAPED);
    for end in [1, 3] {
        assert_eq!((claimed(record(end)), record(end).uid), (vec![], None));
        assert_eq!(record(end).process_key, record(end - 1).process_key);
        let reasons = ["end_time", "-"].map(|column| record(end).provenance[column].as_str());
        assert_eq!(reasons, [why::CAPTURED, why::NOT_KEPT]);
    }
    assert_eq!((record(1).exit_code, record(3).exit_signal), (Some(3), Some(9)));
}
