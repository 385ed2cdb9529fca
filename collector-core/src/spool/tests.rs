//! The spool against a model, against every cut and every flipped byte, and against a disk that refuses.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

const BOOT: &str = "2f5c0f3e-7a46-4f7e-9d0a-0c6c3a1f9b11";

/// A disk that does not sync, and has room for so many more bytes.
#[derive(Clone)]
struct TestDisk(Arc<AtomicU64>);

struct TestFile(TestDisk, File);

impl TestDisk {
    fn with_room(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// How many of the bytes still fit.
    fn take(&self, bytes: &[u8]) -> usize {
        let room = self.0.load(Ordering::Relaxed).min(bytes.len() as u64);
        self.0.fetch_sub(room, Ordering::Relaxed);
        usize::try_from(room).unwrap()
    }
}

impl Disk for TestDisk {
    fn create(&self, path: &Path, header: &[u8]) -> io::Result<Box<dyn SegmentFile>> {
        if self.take(header) < header.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        fs::write(path, header)?;
        self.open(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(TestFile(self.clone(), OpenOptions::new().write(true).open(path)?)))
    }
}

impl SegmentFile for TestFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let fits = self.0.take(bytes);
        self.1.write_at(offset, &bytes[..fits])?;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        SegmentFile::set_len(&mut self.1, length)
    }
}

const MIB: u64 = 1024 * 1024;

fn open(dir: &Path, max_bytes: u64) -> (Spool, Option<NewEpoch>) {
    Spool::open_on(Box::new(TestDisk::with_room(u64::MAX)), dir, max_bytes, BOOT, None).unwrap()
}

/// All that the spool would send now: (epoch, sequence, item).
fn all(spool: &mut Spool) -> Vec<(Epoch, u64, Vec<u8>)> {
    spool.rewind();
    let mut found = Vec::new();
    while let Some(batch) = spool.next_batch() {
        found.extend((batch.first..).zip(batch.items).map(|(sequence, item)| (batch.epoch, sequence, item)));
    }
    found
}

fn numbered(sequences: std::ops::RangeInclusive<u64>) -> Vec<Vec<u8>> {
    sequences.map(|n| format!("item {n}").into_bytes()).collect()
}

fn sequences(found: &[(Epoch, u64, Vec<u8>)]) -> Vec<u64> {
    found.iter().map(|(_, sequence, _)| *sequence).collect()
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "seg")).collect();
    files.sort();
    files
}

/// A spool of three segments: items 1–4, 5–8, 9–12.
fn three_segments() -> (TempDir, Epoch) {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), MIB);
    let first_segment = 76 + 4 * record_bytes("item 1".len());
    spool.segment_bytes = first_segment;
    spool.append(numbered(1..=4));
    spool.append(numbered(5..=8));
    spool.segment_bytes = MIB;
    spool.tail = None;
    spool.append(numbered(9..=12));
    assert_eq!(segment_files(dir.path()).len(), 3);
    let epoch = spool.epoch();
    (dir, epoch)
}

fn copy_of(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in segment_files(dir) {
        fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    copy
}

#[derive(Debug, Clone)]
enum Act {
    Append(Vec<usize>),
    Acknowledge(u8),
    Reopen,
    Send(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => prop::collection::vec(1..900_usize, 1..6).prop_map(Act::Append),
        2 => any::<u8>().prop_map(Act::Acknowledge),
        1 => Just(Act::Reopen),
        2 => (1..4_u8).prop_map(Act::Send),
    ]
}

proptest! {
    #[test]
    fn appends_acknowledgements_and_restarts_equal_a_model(acts in prop::collection::vec(act(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut spool, created) = open(dir.path(), MIB);
        prop_assert_eq!(created, Some(NewEpoch::Created));
        spool.segment_bytes = 2_000;
        let epoch = spool.epoch();
        let mut model: Vec<Vec<u8>> = Vec::new();
        let (mut acknowledged, mut sent) = (0_usize, 0_usize);
        for act in acts {
            match act {
                Act::Append(sizes) => {
                    let items: Vec<_> = sizes.iter().map(|size| vec![(model.len() % 251) as u8; *size]).collect();
                    model.extend(items.iter().cloned());
                    spool.append(items);
                }
                Act::Acknowledge(part) => {
                    acknowledged = acknowledged.max(model.len() * usize::from(part) / 255);
                    spool.acknowledge(epoch, acknowledged as u64);
                    sent = sent.max(acknowledged);
                }
                Act::Reopen => {
                    drop(spool);
                    let (again, new_epoch) = open(dir.path(), MIB);
                    spool = again;
                    prop_assert_eq!(new_epoch, None);
                    spool.segment_bytes = 2_000;
                    // What the agent says at registration.
                    spool.acknowledge(epoch, acknowledged as u64);
                    sent = acknowledged;
                }
                Act::Send(batches) => for batch in (0..batches).map_while(|_| spool.next_batch()) {
                    prop_assert_eq!(batch.first, sent as u64 + 1);
                    prop_assert_eq!(&batch.items[..], &model[sent..sent + batch.items.len()]);
                    sent += batch.items.len();
                },
            }
            prop_assert_eq!((spool.epoch(), spool.next_sequence()), (epoch, model.len() as u64 + 1));
            prop_assert_eq!(spool.items(), (model.len() - acknowledged) as u64);
            let on_disk: u64 = segment_files(dir.path()).iter().map(|file| file.metadata().unwrap().len()).sum();
            prop_assert_eq!(spool.bytes(), on_disk);
        }
        let expected: Vec<_> = (1..).zip(model).skip(acknowledged).map(|(n, item)| (epoch, n, item)).collect();
        prop_assert_eq!(all(&mut spool), expected);
        prop_assert_eq!(spool.dropped(), 0);
    }
}

#[test]
fn a_cut_keeps_the_intact_prefix_and_the_epoch_only_at_a_record_boundary() {
    let (dir, epoch) = three_segments();
    let newest = segment_files(dir.path()).pop().unwrap();
    let length = newest.metadata().unwrap().len();
    let header = 76;
    for cut in 0..=length {
        let copy = copy_of(dir.path());
        let path = copy.path().join(newest.file_name().unwrap());
        OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
        // Items 9, 10, 11 and 12 end here.
        let ends =
            [9, 10, 11, 12].map(|n| header + (9..=n).map(|n| record_bytes(format!("item {n}").len())).sum::<u64>());
        let kept = 8 + ends.iter().filter(|end| cut >= **end).count() as u64;
        let intact = cut == header || ends.contains(&cut);

        let (mut spool, new_epoch) = open(copy.path(), MIB);
        let found = all(&mut spool);
        assert_eq!(sequences(&found), (1..=kept).collect::<Vec<_>>(), "cut at {cut}");
        assert!(found.iter().all(|(of, n, item)| *of == epoch && *item == format!("item {n}").into_bytes()));
        let expected = match cut {
            _ if intact => None,
            ..76 => Some(NewEpoch::DamagedHeader(path.clone())),
            _ => Some(NewEpoch::TornTail(path.clone())),
        };
        assert_eq!(new_epoch, expected, "cut at {cut}");
        assert_eq!(spool.epoch() == epoch, intact, "cut at {cut}");
        assert_eq!(spool.next_sequence(), if intact { kept + 1 } else { 1 });
        assert_eq!(copy.path().join(DAMAGED).exists(), cut < header);

        // The new epoch, or the old one, goes on through the next restart, and the old items are still there.
        let now = spool.epoch();
        spool.append(vec![b"later".to_vec()]);
        drop(spool);
        let (mut spool, new_epoch) = open(copy.path(), MIB);
        assert_eq!((new_epoch, spool.epoch()), (None, now), "cut at {cut}");
        assert_eq!(all(&mut spool).len() as u64, kept + 1, "cut at {cut}");
    }
}

#[test]
fn no_flipped_byte_yields_an_item_that_was_not_written() {
    let (dir, epoch) = three_segments();
    for file in segment_files(dir.path()) {
        let bytes = fs::read(&file).unwrap();
        for (at, flip) in (0..bytes.len()).flat_map(|at| [0x01, 0x80, 0xFF].map(|flip| (at, flip))) {
            let copy = copy_of(dir.path());
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            fs::write(copy.path().join(file.file_name().unwrap()), damaged).unwrap();
            let (mut spool, _) = open(copy.path(), MIB);
            let found = all(&mut spool);
            assert!(found.len() < 12, "byte {at} of {} does not matter", file.display());
            for (of, n, item) in found {
                assert_eq!((of, item), (epoch, format!("item {n}").into_bytes()), "byte {at}");
            }
        }
    }
}

#[test]
fn sequences_go_on_when_all_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 64 * 1024);
    let epoch = spool.epoch();
    for _ in 0..40 {
        spool.append(vec![vec![7; 1000]]);
        let through = spool.next_sequence() - 1;
        spool.acknowledge(epoch, through);
    }
    assert_eq!(spool.items(), 0);
    assert_eq!(segment_files(dir.path()).len(), 1, "covered segments are gone");
    drop(spool);
    let (mut spool, new_epoch) = open(dir.path(), 64 * 1024);
    assert_eq!((new_epoch, spool.epoch(), spool.next_sequence()), (None, epoch, 41));
    spool.acknowledge(epoch, 40);
    assert!(all(&mut spool).is_empty());
}

#[test]
fn a_boot_in_between_means_a_new_epoch_and_loses_nothing_that_is_there() {
    let (dir, epoch) = three_segments();
    let disk = || Box::new(TestDisk::with_room(u64::MAX));
    let (mut spool, reason) = Spool::open_on(disk(), dir.path(), MIB, "another boot", None).unwrap();
    assert_eq!(reason, Some(NewEpoch::HostBooted));
    assert_ne!(spool.epoch(), epoch);
    spool.append(vec![b"new".to_vec()]);
    let found = all(&mut spool);
    assert_eq!(sequences(&found), (1..=12).chain(1..=1).collect::<Vec<_>>());
    assert_eq!(found[12], (spool.epoch(), 1, b"new".to_vec()));
    let now = spool.epoch();
    spool.acknowledge(epoch, 12);
    assert_eq!(segment_files(dir.path()).len(), 1, "the old epoch's segments are covered");
    drop(spool);
    let (spool, reason) = Spool::open_on(disk(), dir.path(), MIB, "another boot", None).unwrap();
    assert_eq!((reason, spool.epoch()), (None, now));
}

#[test]
fn pages_that_a_power_loss_left_empty_are_not_items() {
    let (dir, _) = three_segments();
    let newest = segment_files(dir.path()).pop().unwrap();
    let length = newest.metadata().unwrap().len();
    OpenOptions::new().write(true).open(&newest).unwrap().set_len(length + 4096).unwrap();
    let (mut spool, reason) = open(dir.path(), MIB);
    assert_eq!(reason, Some(NewEpoch::TornTail(newest)));
    assert_eq!(all(&mut spool).len(), 12);
}

#[test]
fn over_its_bound_the_spool_drops_its_oldest_items_and_counts_them() {
    let dir = tempfile::tempdir().unwrap();
    let bound = 64 * 1024;
    let (mut spool, _) = open(dir.path(), bound);
    for n in 1..=500_u64 {
        spool.append(vec![vec![n as u8; 200 + (n as usize * 37) % 1500], vec![1; 16 * 1024]]);
        let on_disk: u64 = segment_files(dir.path()).iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(on_disk <= bound, "{on_disk} bytes");
    }
    let found = sequences(&all(&mut spool));
    assert_eq!(found, (1000 - found.len() as u64 + 1..=1000).collect::<Vec<_>>(), "the newest, without a hole");
    assert!(found.len() >= 6, "most of the bound is used");
    assert_eq!(spool.dropped() + found.len() as u64, 1000);
    assert_eq!(spool.items(), found.len() as u64);
}

#[test]
fn what_was_dropped_under_the_reader_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 64 * 1024);
    spool.append(vec![vec![1; 1000]; 5]);
    assert_eq!(spool.next_batch().unwrap().items.len(), 5);
    spool.append(vec![vec![1; 1000]; 200]);
    let batch = spool.next_batch().unwrap();
    assert_eq!(batch.first, spool.dropped() + 1);
    assert!(batch.first > 100);
}

#[test]
fn a_full_disk_makes_items_wait_and_then_be_lost_by_number() {
    let dir = tempfile::tempdir().unwrap();
    // The first three items fit, and half of the next.
    let disk = TestDisk::with_room(76 + 3 * record_bytes(100) + 50);
    let (mut spool, _) = Spool::open_on(Box::new(disk.clone()), dir.path(), 64 * MIB, BOOT, None).unwrap();
    spool.append(vec![vec![1; 100]; 3]);
    assert!(!spool.is_blocked() && !spool.is_behind());
    spool.append(vec![vec![2; 100]; 2]);
    assert!(spool.is_blocked() && spool.is_behind());
    assert!(spool.trouble().unwrap().contains(dir.path().to_str().unwrap()), "{:?}", spool.trouble());
    assert_eq!(sequences(&all(&mut spool)), [1, 2, 3]);

    // Twelve of 512 KiB: the first nine fit into what may wait.
    for _ in 0..12 {
        spool.append(vec![vec![3; 512 * 1024]]);
    }
    assert_eq!((spool.next_sequence(), spool.dropped()), (18, 3));
    spool.retry();
    assert!(spool.is_blocked(), "still full");

    disk.0.store(u64::MAX, Ordering::Relaxed);
    spool.retry();
    assert!(!spool.is_blocked() && !spool.is_behind() && spool.trouble().is_none());
    spool.append(vec![vec![4; 100]]);
    let expected: Vec<u64> = (1..=14).chain([18]).collect();
    assert_eq!(sequences(&all(&mut spool)), expected, "15 to 17 are lost, and the jump tells so");
    drop(spool);
    let (mut spool, new_epoch) = open(dir.path(), 64 * MIB);
    assert_eq!((new_epoch, spool.next_sequence()), (None, 19));
    assert_eq!(sequences(&all(&mut spool)), expected);
}

#[test]
fn a_crash_while_the_disk_refuses_is_told_by_a_new_epoch() {
    for room in [0, 1, 60, 107, 108, 150] {
        let dir = tempfile::tempdir().unwrap();
        let disk = TestDisk::with_room(76 + record_bytes(100) + room);
        let (mut spool, _) = Spool::open_on(Box::new(disk), dir.path(), MIB, BOOT, None).unwrap();
        spool.append(vec![vec![1; 100]]);
        spool.append(vec![vec![2; 100], vec![3; 100]]);
        assert!(spool.is_behind());
        drop(spool);
        let (mut spool, new_epoch) = open(dir.path(), MIB);
        assert!(matches!(new_epoch, Some(NewEpoch::TornTail(_))), "room for {room} more bytes: {new_epoch:?}");
        assert_eq!(all(&mut spool)[0].2, vec![1; 100]);
    }
}

#[test]
fn a_disk_that_is_full_from_the_start_does_not_stop_the_collector() {
    let dir = tempfile::tempdir().unwrap();
    let disk = TestDisk::with_room(10);
    let (mut spool, _) = Spool::open_on(Box::new(disk.clone()), dir.path(), MIB, BOOT, None).unwrap();
    assert!(spool.is_blocked());
    spool.append(numbered(1..=2));
    disk.0.store(u64::MAX, Ordering::Relaxed);
    spool.retry();
    assert_eq!(sequences(&all(&mut spool)), [1, 2]);
}

#[test]
fn a_segment_that_goes_bad_is_given_up_from_there_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), MIB);
    spool.append(numbered(1..=9));
    let path = segment_files(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = 76 + 4 * record_bytes("item 1".len()) as usize + RECORD_OVERHEAD;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(sequences(&all(&mut spool)), [1, 2, 3, 4]);
    assert_eq!(spool.dropped(), 5);
    spool.append(numbered(10..=11));
    let found = all(&mut spool);
    assert_eq!(sequences(&found), [1, 2, 3, 4, 10, 11]);
    assert!(found.iter().all(|(_, n, item)| *item == format!("item {n}").into_bytes()));
    fs::remove_file(&path).unwrap();
    assert_eq!(sequences(&all(&mut spool)), [10, 11]);
}

#[test]
fn an_epoch_begun_on_request_counts_from_one_and_keeps_what_is_there() {
    let (dir, old) = three_segments();
    let (mut spool, _) = open(dir.path(), MIB);
    spool.begin_epoch().unwrap();
    spool.append(numbered(1..=2));
    assert_ne!(spool.epoch(), old);
    let mut of_epoch = HashMap::<Epoch, Vec<u64>>::new();
    for (epoch, sequence, _) in all(&mut spool) {
        of_epoch.entry(epoch).or_default().push(sequence);
    }
    assert_eq!(of_epoch[&old], (1..=12).collect::<Vec<_>>());
    assert_eq!(of_epoch[&spool.epoch()], [1, 2]);
}

#[test]
fn batches_are_bounded_in_items_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(dir.path(), 64 * MIB);
    spool.append(vec![vec![1]; 1000]);
    spool.append(vec![vec![1; 3 * 1024 * 1024], vec![1; 300 * 1024], vec![1; 300 * 1024], vec![1; 600 * 1024]]);
    let mut sizes = Vec::new();
    while let Some(batch) = spool.next_batch() {
        sizes.push(batch.items.len());
    }
    assert_eq!(sizes[..2], [512, 488]);
    assert_eq!(sizes[2..].iter().sum::<usize>(), 4);
    assert_eq!(sizes[2], 1, "an item over the limit goes alone");
}

#[test]
fn another_version_is_refused_by_name() {
    let (dir, _) = three_segments();
    let file = segment_files(dir.path()).remove(1);
    let mut bytes = fs::read(&file).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..72]);
    bytes[72..76].copy_from_slice(&crc.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let Err(error) = Spool::open(dir.path(), MIB, BOOT, None) else { panic!("opened") };
    assert!(matches!(&error, SpoolError::Version { path, found: 9, supported: 1 } if *path == file), "{error}");
    assert_eq!(segment_files(dir.path()).len(), 3, "nothing was removed");
}

#[test]
fn what_is_not_a_segment_is_left_alone_and_half_made_ones_go() {
    let (dir, _) = three_segments();
    for name in ["0000000000000009.tmp", "notes.seg", "1.seg", "ffffffffffffffff.seg"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let (mut spool, new_epoch) = Spool::open(dir.path(), MIB, BOOT, None).unwrap();
    assert_eq!(new_epoch, None);
    assert_eq!(all(&mut spool).len(), 12);
    assert!(!dir.path().join("0000000000000009.tmp").exists());
    assert!(dir.path().join("notes.seg").exists());
}

#[test]
fn the_real_disk_creates_whole_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open(dir.path(), 64 * 1024, BOOT, None).unwrap();
    spool.append(vec![vec![5; 3000]; 10]);
    let files = segment_files(dir.path());
    assert!(files.len() >= 4);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), files.len(), "no temporary file stays");
    assert_eq!(all(&mut spool).len(), 10);
}
