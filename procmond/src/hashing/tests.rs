//! Hashing with a digester that the test holds back, and with real files.

use super::*;
use crate::provenance as why;
use crate::reader::fake::{FakeProc, FakeProcess, file};
use crate::scan::{Glance, Interrupted, Observed, ProcessCollector as _, Scanner, Visitor};
use daemoneye_lib::proto::common::ProcessRecord;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// Counts, and hashes nothing before it is allowed to.
struct Held {
    asked: AtomicUsize,
    outcome: Outcome,
    go: Mutex<Receiver<()>>,
}

fn held(outcome: Outcome) -> (Arc<Held>, Sender<()>) {
    let (allow, go) = std::sync::mpsc::channel();
    (Arc::new(Held { asked: AtomicUsize::new(0), outcome, go: Mutex::new(go) }), allow)
}

/// A hash of nothing.
fn hash_of_all(byte: u8) -> Outcome {
    Outcome::Hash(Hashed { sha256: [byte; 32], fuzzy: None })
}

/// Every file has the hash `abab…`, once it is allowed to.
pub(crate) fn held_back() -> (Hashes, Sender<()>) {
    let (digester, allow) = held(hash_of_all(0xab));
    (Hashes::start(4, digester).unwrap(), allow)
}

impl Digester for Held {
    fn resolve(&self, image: Version, _: &Source) -> Option<Version> {
        Some(image)
    }

    fn digest(&self, _: Version, _: &Source, _: &mut dyn FnMut() -> bool) -> Outcome {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _ = self.go.lock().unwrap().recv_timeout(PATIENCE);
        self.outcome.clone()
    }

    fn is_fuzzy(&self) -> bool {
        false
    }
}

fn nowhere() -> Source {
    Source { pid: None, path: None }
}

fn version(inode: u64) -> Version {
    Version::from(&file(inode))
}

/// All records, when everything is read.
fn records(scanner: &mut Scanner<FakeProc>) -> Vec<ProcessRecord> {
    struct All(Vec<ProcessRecord>);
    impl Visitor for All {
        fn wants(&mut self, _: &Glance<'_>) -> Result<bool, Interrupted> {
            Ok(true)
        }
        fn observed(&mut self, observed: Observed<'_>) -> Result<(), Interrupted> {
            self.0.push(observed.record);
            Ok(())
        }
        fn unreadable(&mut self, _: u32) {}
    }
    let mut all = All(Vec::new());
    scanner.enumerate_processes(&mut all).unwrap();
    all.0
}

/// What is told of the hash, by pid.
fn told(scanner: &mut Scanner<FakeProc>) -> Vec<(u32, String)> {
    let hash = |record: ProcessRecord| match record.executable_hash {
        Some(hash) => (record.pid, format!("{} {hash}", record.hash_algorithm.unwrap())),
        None => (record.pid, record.provenance["executable_hash"].clone()),
    };
    records(scanner).into_iter().map(hash).collect()
}

fn scanner(processes: impl IntoIterator<Item = (u32, FakeProcess)>, hashes: Hashes) -> Scanner<FakeProc> {
    let boot = crate::Boot { id: String::new(), time_ns: 0, ticks_per_second: 100, page_size: 4096 };
    Scanner::new(FakeProc::new(processes), boot, 1 << 18).hashing(hashes)
}

#[test]
fn a_slow_hasher_delays_no_scan_and_a_file_is_hashed_once_for_all_its_processes() {
    let (digester, allow) = held(hash_of_all(0xab));
    let hashes = Hashes::start(4, Arc::clone(&digester) as Arc<dyn Digester>).unwrap();
    let processes = (1..=1000).map(|pid| (pid, FakeProcess::new("worker", 0, u64::from(pid))));
    let mut scanner = scanner(processes, hashes.clone());
    for _ in 0..3 {
        let told = told(&mut scanner);
        assert_eq!(told.len(), 1000, "scans go on while the file is not hashed");
        assert!(told.iter().all(|(_, hash)| hash == why::HASH_WAITS));
    }
    allow.send(()).unwrap();
    testkit::wait_for("the hash", PATIENCE, || hashes.knows(version(1)));
    let expected = format!("sha256 {}", "ab".repeat(32));
    assert!(told(&mut scanner).iter().all(|(_, hash)| *hash == expected));
    assert_eq!(digester.asked.load(Ordering::SeqCst), 1);
}

#[test]
fn what_finds_no_room_says_so_and_is_tried_again() {
    let (digester, allow) = held(hash_of_all(1));
    let hashes = Hashes::start(1, digester).unwrap();
    assert_eq!(hashes.ask(version(1), nowhere), Answer::Waits);
    // One is at work, one waits, and the third finds the queue full.
    testkit::wait_for("the first to be taken", PATIENCE, || hashes.ask(version(2), nowhere) == Answer::Waits);
    assert_eq!(hashes.ask(version(3), nowhere), Answer::Full);
    let mut scanner = scanner([(1, FakeProcess { image: file(3), ..FakeProcess::new("a", 0, 1) })], hashes);
    assert_eq!(told(&mut scanner), [(1, why::HASH_QUEUE_FULL.to_owned())]);
    for _ in 0..3 {
        allow.send(()).unwrap();
    }
    testkit::wait_for("the hash", PATIENCE, || told(&mut scanner)[0].1.starts_with("sha256 "));
}

#[test]
fn what_is_no_hash_has_its_reason() {
    for (outcome, reason) in [
        (Outcome::TooLarge, why::HASH_TOO_LARGE),
        (Outcome::Denied, why::HASH_DENIED),
        (Outcome::NotRegular, why::HASH_NOT_REGULAR),
    ] {
        let (digester, allow) = held(outcome);
        allow.send(()).unwrap();
        let hashes = Hashes::start(4, digester).unwrap();
        let mut scanner = scanner([(1, FakeProcess::new("a", 0, 1))], hashes);
        testkit::wait_for("the reason", PATIENCE, || told(&mut scanner) == [(1, reason.to_owned())]);
    }
    let (digester, _allow) = held(Outcome::Failed);
    let off = Hashes::on_demand(digester);
    let processes = [
        (1, FakeProcess::new("a", 0, 1)),
        (2, FakeProcess { denied: vec![c"exe"], ..FakeProcess::new("b", 0, 1) }),
        (3, FakeProcess::new("c", 0, 1).zombie()),
        (4, FakeProcess { flags: 0x20_0000, ..FakeProcess::new("kthread", 0, 1) }),
    ];
    let reasons: Vec<_> = told(&mut scanner(processes, off)).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, [why::HASHING_OFF, why::DENIED, why::ENDED, why::KERNEL_THREAD]);
}

#[test]
fn a_failure_that_may_pass_is_not_kept() {
    let (digester, allow) = held(Outcome::Failed);
    let hashes = Hashes::start(4, Arc::clone(&digester) as Arc<dyn Digester>).unwrap();
    for tries in 1..3 {
        let expected = if tries == 1 { Answer::Waits } else { Answer::Again(Outcome::Failed) };
        testkit::wait_for("a place in the queue", PATIENCE, || hashes.ask(version(1), nowhere) == expected);
        allow.send(()).unwrap();
        testkit::wait_for("the try", PATIENCE, || hashes.lock().pending.is_empty());
        assert_eq!(digester.asked.load(Ordering::SeqCst), tries);
    }
    let mut scanner = scanner([(1, FakeProcess::new("a", 0, 1))], hashes);
    assert_eq!(told(&mut scanner), [(1, why::HASH_OUT_OF_REACH.to_owned())], "what came of it the last time");
}

#[test]
fn a_hash_that_comes_at_last_takes_the_place_of_what_failed() {
    /// Fails once.
    struct Second(AtomicUsize);
    impl Digester for Second {
        fn resolve(&self, image: Version, _: &Source) -> Option<Version> {
            Some(image)
        }
        fn digest(&self, _: Version, _: &Source, _: &mut dyn FnMut() -> bool) -> Outcome {
            if self.0.fetch_add(1, Ordering::SeqCst) == 0 { Outcome::Changed } else { hash_of_all(0xab) }
        }
        fn is_fuzzy(&self) -> bool {
            true
        }
    }
    let hashes = Hashes::start(4, Arc::new(Second(AtomicUsize::new(0)))).unwrap();
    assert_eq!(hashes.ask(version(1), nowhere), Answer::Waits);
    testkit::wait_for("the first try", PATIENCE, || hashes.knows(version(1)));
    let mut scanner = scanner([(1, FakeProcess::new("a", 0, 1))], hashes);
    assert_eq!(told(&mut scanner), [(1, why::HASH_UNSTABLE.to_owned())]);
    testkit::wait_for("the second try", PATIENCE, || told(&mut scanner)[0].1.starts_with("sha256 abab"));
}

#[test]
fn the_cache_is_bounded_and_keeps_what_is_asked_for() {
    let mut cache = Cache::new(MAX_VERSIONS);
    cache.put(version(0), Outcome::TooLarge);
    for inode in 1..20_000 {
        cache.put(version(inode), Outcome::Denied);
        assert_eq!(cache.get(&version(0)), Some(&mut Outcome::TooLarge), "{inode}");
        assert!(cache.len() <= MAX_VERSIONS);
    }
    assert_eq!(cache.get(&version(1)), None);
}

fn digester() -> FileDigester {
    FileDigester::new(1 << 40, 1 << 20)
}

fn hash_of(digester: &FileDigester, path: &Path) -> Outcome {
    let version = Version::from(&Handle::of_path(path).unwrap().file);
    digester.digest(version, &Source { pid: None, path: Some(path.to_owned()) }, &mut || false)
}

#[test]
fn files_have_the_hash_that_others_compute() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    // From FIPS 180-4's examples, and one that needs several reads.
    for (content, expected) in [
        (b"".to_vec(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc".to_vec(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (vec![b'a'; 1_000_000], "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ] {
        std::fs::write(&path, content).unwrap();
        let Outcome::Hash(hashed) = hash_of(&digester(), &path) else { panic!("no hash") };
        assert_eq!((hex(&hashed.sha256).as_str(), hashed.fuzzy), (expected, None));
    }
    std::fs::write(&path, vec![0; (1 << 20) + 1]).unwrap();
    assert_eq!(hash_of(&digester(), &path), Outcome::TooLarge);
}

#[test]
fn fuzzy_hashes_are_made_in_the_same_pass() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let digester = digester().fuzzy(true);
    // As `ssdeep` says; the second one needs several reads.
    for (content, fuzzy) in [
        (b"Hello there!".to_vec(), "3:aNRn:aNRn"),
        (b"0123456789".repeat(50_000), "24:LrgggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggO:LD"),
    ] {
        std::fs::write(&path, content).unwrap();
        let Outcome::Hash(hashed) = hash_of(&digester, &path) else { panic!("no hash") };
        assert_eq!(hashed.fuzzy.as_deref(), Some(fuzzy));
    }
}

#[test]
fn where_a_hash_comes_from_tells_what_became_of_the_name() {
    let (hashes, allow) = held_back();
    for _ in 0..3 {
        allow.send(()).unwrap();
    }
    let with =
        |image, program| FakeProcess { image: file(image), program: Some(program), ..FakeProcess::new("a", 0, 1) };
    let processes = [
        (1, with(1, b"/bin/program")),
        (2, with(2, b"/bin/program (deleted)")),
        (3, with(3, b"/bin/gone (deleted)")),
        (4, FakeProcess { denied: vec![c"root"], ..with(1, b"/elsewhere") }),
        (5, FakeProcess { denied: vec![c"exe"], ..with(1, b"/bin/program") }),
    ];
    let mut scanner = scanner(processes, hashes.clone());
    let mut origins = || {
        let records = records(&mut scanner);
        records.iter().map(|record| record.provenance["executable_hash"].clone()).collect::<Vec<_>>()
    };
    origins();
    testkit::wait_for("the hashes", PATIENCE, || (1..4).all(|inode| hashes.knows(version(inode))));
    let expected = [why::HASH_STABLE, why::HASH_REPLACED, why::HASH_DELETED, why::HASH_STABLE, why::DENIED];
    assert_eq!(origins(), expected);
}

#[test]
fn what_is_no_regular_file_is_neither_read_nor_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (pipe, link) = (dir.path().join("pipe"), dir.path().join("link"));
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    symlink("/bin/sh", &link).unwrap();
    for path in [pipe.as_path(), &link, dir.path(), Path::new("/dev/zero")] {
        assert_eq!(hash_of(&digester(), path), Outcome::NotRegular, "{path:?}");
    }
}

/// Changes the file while it is hashed: when it is asked whether to go on, the first part has been read.
fn hash_while(path: &Path, change: impl Fn()) -> Outcome {
    let version = Version::from(&Handle::of_path(path).unwrap().file);
    let mut changed = false;
    digester().digest(version, &Source { pid: None, path: Some(path.to_owned()) }, &mut || {
        if !std::mem::replace(&mut changed, true) {
            change();
        }
        false
    })
}

#[test]
fn a_file_that_is_written_while_it_is_hashed_has_no_hash() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let fill = |byte: u8, length: usize| std::fs::write(&path, vec![byte; length]).unwrap();
    let long = 3 * 128 * 1024;
    fill(b'a', long);
    assert!(matches!(hash_while(&path, || ()), Outcome::Hash(_)));
    assert_eq!(hash_while(&path, || fill(b'b', long)), Outcome::Changed);
    assert_eq!(hash_while(&path, || fill(b'a', long + 1)), Outcome::Changed);
    assert_eq!(hash_while(&path, || fill(b'a', 0)), Outcome::Changed);
}

#[test]
fn another_file_in_its_place_is_not_taken_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "one").unwrap();
    let version = Version::from(&Handle::of_path(&path).unwrap().file);
    std::fs::write(dir.path().join("new"), "two").unwrap();
    std::fs::rename(dir.path().join("new"), &path).unwrap();
    let source = Source { pid: None, path: Some(path.clone()) };
    assert_eq!(digester().digest(version, &source, &mut || false), Outcome::Gone);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(digester().digest(version, &source, &mut || false), Outcome::Gone);
}

#[test]
fn a_file_of_another_file_system_with_the_same_numbers_is_not_taken_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "one").unwrap();
    let named = Version::from(&Handle::of_path(&path).unwrap().file);
    let by_path = Source { pid: None, path: Some(path) };
    let resolve = |image, source| digester().resolve(image, source);
    assert_eq!(resolve(named, &by_path), Some(named));
    // As of a file system in which somebody has mounted whatever he wants.
    let elsewhere = Version { device: (0, 999_999), ..named };
    assert_eq!(resolve(elsewhere, &by_path), None);
    let own = Version::from(&Handle::of_process(std::process::id()).unwrap().file);
    let process = Source { pid: Some(std::process::id()), path: None };
    assert_eq!(resolve(own, &process), Some(own));
    assert_eq!(resolve(Version { device: (0, 999_999), ..own }, &process), None);
    // Where the mount is of the device that the kernel names, a file may have another one.
    let process_table = Handle::of_path(Path::new("/proc/version")).unwrap();
    let device = process_table.mounted_device(&["/proc/self/mountinfo".to_owned()]);
    assert_eq!(device, Some(process_table.file.device));
    assert_eq!(process_table.mounted_device(&[]), None);
}

#[test]
fn a_file_that_has_two_names_is_hashed_once_and_known_by_both() {
    /// Of files on device 1 the kernel says 9.
    struct Renamed(AtomicUsize);
    impl Digester for Renamed {
        fn resolve(&self, image: Version, _: &Source) -> Option<Version> {
            (image.device == (9, 9)).then_some(Version { device: file(1).device, ..image })
        }
        fn digest(&self, version: Version, _: &Source, _: &mut dyn FnMut() -> bool) -> Outcome {
            assert_eq!(version.device, file(1).device);
            self.0.fetch_add(1, Ordering::SeqCst);
            hash_of_all(0xab)
        }
        fn is_fuzzy(&self) -> bool {
            false
        }
    }
    let digester = Arc::new(Renamed(AtomicUsize::new(0)));
    let hashes = Hashes::start(4, Arc::clone(&digester) as Arc<dyn Digester>).unwrap();
    let image = Version { device: (9, 9), ..version(1) };
    assert_eq!(hashes.ask_for_image(image, nowhere), (Answer::Waits, image));
    testkit::wait_for("the hash", PATIENCE, || hashes.outcome_of_image(image) == Some(hash_of_all(0xab)));
    assert_eq!(hashes.ask_for_image(image, nowhere), (Answer::Known(hash_of_all(0xab)), version(1)));
    assert_eq!(hashes.ask(version(1), nowhere), Answer::Known(hash_of_all(0xab)));
    assert_eq!(digester.0.load(Ordering::SeqCst), 1);

    let lost = Version { device: (8, 8), ..version(1) };
    assert_eq!(hashes.ask_for_image(lost, nowhere).0, Answer::Waits);
    testkit::wait_for("the try", PATIENCE, || hashes.outcome_of_image(lost) == Some(Outcome::Gone));
    assert_eq!(digester.0.load(Ordering::SeqCst), 1, "what is not found is not hashed");
}

#[test]
fn the_image_of_a_process_is_hashed_when_its_name_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sleeper");
    std::fs::copy("/bin/sleep", &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let Outcome::Hash(expected) = hash_of(&digester(), &std::fs::canonicalize("/bin/sleep").unwrap()) else { panic!() };
    let mut command = std::process::Command::new(&path);
    command.arg("60");
    let child = testkit::Child::spawn(command).unwrap();
    std::fs::remove_file(&path).unwrap();
    let image = testkit::wait_for("the program to run", PATIENCE, || {
        let link = std::fs::read_link(format!("/proc/{}/exe", child.pid())).ok()?;
        link.to_str()?.ends_with("sleeper (deleted)").then(|| Handle::of_process(child.pid()).unwrap())
    });
    let source = Source { pid: Some(child.pid()), path: None };
    assert_eq!(digester().digest(Version::from(&image.file), &source, &mut || false), Outcome::Hash(expected));
}

#[test]
fn who_asked_can_give_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, vec![0; 1 << 20]).unwrap();
    // At a byte a second, this would take days.
    let slow = FileDigester::new(1, 1 << 20);
    let version = Version::from(&Handle::of_path(&path).unwrap().file);
    let source = Source { pid: None, path: Some(path) };
    let mut asked = 0;
    let outcome = slow.digest(version, &source, &mut || {
        asked += 1;
        asked > 2
    });
    assert_eq!(outcome, Outcome::GivenUp);
}
