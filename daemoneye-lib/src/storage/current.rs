//! The present state of processes, as one append changes it.
//!
//! Changes are gathered and written once, in the order of their keys: what lives shortly is written once or twice.

use super::append::decode;
use super::error::{InStore, StoreError};
use super::read::Blocks;
use super::series::Series;
use super::tables::{Announcement, CURRENT, ENDED, End, META, REVIVED};
use crate::models::columns::PROCESS;
use crate::models::condition::{Condition, Test};
use crate::proto::common::{EventType, ProcessEvent, ProcessRecord};
use crate::proto::ipc::ScanSummary;
use prost::Message as _;
use redb::{ReadTransaction, ReadableTable as _, Table, WriteTransaction};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

pub(super) struct Current<'t> {
    write: &'t WriteTransaction,
    /// What was committed before, for the blocks of processes that have ended.
    read: &'t Arc<ReadTransaction>,
    path: &'t Path,
    table: Table<'t, &'static str, &'static [u8]>,
    /// Each with the collector that told last of it.
    changed: BTreeMap<Cow<'t, str>, (State<'t>, &'t str)>,
    /// Keys in the order of their ends.
    ended: Vec<String>,
    revived: BTreeSet<String>,
    /// No process that has been sealed ended later.
    sealed_end: Option<i64>,
}

/// What a process is now.
enum State<'t> {
    /// As it was told.
    Told(&'t ProcessRecord),
    /// Put together of what was told.
    Made(Box<ProcessRecord>),
}

impl State<'_> {
    const fn record(&self) -> &ProcessRecord {
        match self {
            Self::Told(record) => record,
            Self::Made(record) => record,
        }
    }

    fn into_record(self) -> ProcessRecord {
        match self {
            Self::Told(record) => record.clone(),
            Self::Made(record) => *record,
        }
    }
}

impl<'t> Current<'t> {
    pub(super) fn begin(
        write: &'t WriteTransaction,
        read: &'t Arc<ReadTransaction>,
        path: &'t Path,
    ) -> Result<Self, StoreError> {
        let meta = write.open_table(META).in_store(path)?;
        let sealed_end = meta.get("sealed_end").in_store(path)?.map(|bits| bits.value().cast_signed());
        drop(meta);
        Ok(Self {
            write,
            read,
            path,
            table: write.open_table(CURRENT).in_store(path)?,
            changed: BTreeMap::new(),
            ended: Vec::new(),
            revived: BTreeSet::new(),
            sealed_end,
        })
    }

    /// Brings a process's present state up to date by what a collector tells.
    pub(super) fn event(
        &mut self,
        collector: &'t str,
        event: &ProcessEvent,
        process: &'t ProcessRecord,
    ) -> Result<(), StoreError> {
        let key = process.process_key.as_str();
        let is_end = event.event_type() == EventType::Exit;
        let changed = self.changed.get(key).map(|(known, _)| known.record().end_time.is_some());
        let stored = match changed {
            Some(_) => None,
            None => self.table.get(key).in_store(self.path)?,
        };
        let ended_before = match &stored {
            Some(bytes) => Some(decode::<End>(self.path, "a process", bytes.value())?.end_time.is_some()),
            None => changed,
        };
        if ended_before.is_none() && self.is_sealed(process)? {
            if is_end {
                // Its end is known.
                return Ok(());
            }
            self.revived.insert(key.to_owned());
        }
        let latest = if is_end {
            // An end says little of what the process was.
            let known = match stored {
                Some(bytes) => decode(self.path, "a process", bytes.value())?,
                None => self.changed.remove(key).map_or_else(|| process.clone(), |(known, _)| known.into_record()),
            };
            State::Made(Box::new(ended(known, process, event.event_time)))
        } else {
            State::Told(process)
        };
        if latest.record().end_time.is_some() && ended_before != Some(true) {
            self.ended.push(key.to_owned());
        }
        self.changed.insert(Cow::Borrowed(key), (latest, collector));
        Ok(())
    }

    /// Whether a process of which `current` knows nothing is in a block. What began after the end of all that is sealed is
    /// not, so that blocks are searched only for what is old or late.
    fn is_sealed(&self, process: &ProcessRecord) -> Result<bool, StoreError> {
        let Some(sealed_end) = self.sealed_end else { return Ok(false) };
        let from = process.start_time.unwrap_or(i64::MIN);
        if from > sealed_end || self.revived.contains(&process.process_key) {
            return Ok(false);
        }
        let Some(column) = PROCESS.iter().position(|column| column.name == "process_key") else { return Ok(false) };
        let test = Test::Texts(BTreeSet::from([process.process_key.clone()]));
        let mut found =
            Blocks::of(self.read, self.path, Series::Ended, (from, i64::MAX), vec![Condition { column, test }])?
                .read(vec![column]);
        Ok(found.next().transpose()?.is_some())
    }

    /// After a scan that knew nothing before it: what it did not announce, and its collector did before, has ended at a time
    /// that nobody saw. Of what another collector told last, it may not know: that one may see more.
    pub(super) fn end_unannounced(&mut self, collector: &'t str, scan: &ScanSummary) -> Result<(), StoreError> {
        self.flush()?;
        for entry in self.table.iter().in_store(self.path)? {
            let value = entry.in_store(self.path)?.1;
            let mut record: ProcessRecord = decode(self.path, "a process", value.value())?;
            if record.end_time.is_none()
                && record.collection_time < scan.started
                && decode::<Announcement>(self.path, "a process", value.value())?.collector == collector
            {
                record.end_time = Some(scan.started);
                record.provenance.insert("end_time".to_owned(), "inferred".to_owned());
                self.ended.push(record.process_key.clone());
                let key = Cow::Owned(record.process_key.clone());
                self.changed.insert(key, (State::Made(Box::new(record)), collector));
            }
        }
        Ok(())
    }

    /// Writes what has changed.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        for (key, (state, collector)) in std::mem::take(&mut self.changed) {
            let record = state.record();
            bytes.clear();
            record.encode_raw(&mut bytes);
            // Of what has ended nobody asks who told last.
            if record.end_time.is_none() {
                Announcement { collector: collector.to_owned() }.encode_raw(&mut bytes);
            }
            self.table.insert(&*key, bytes.as_slice()).in_store(self.path)?;
        }
        if !self.ended.is_empty() {
            let mut meta = self.write.open_table(META).in_store(self.path)?;
            let mut next = meta.get("next_end").in_store(self.path)?.map_or(0, |next| next.value());
            let mut table = self.write.open_table(ENDED).in_store(self.path)?;
            for key in self.ended.drain(..) {
                table.insert(next, key.as_str()).in_store(self.path)?;
                next += 1;
            }
            meta.insert("next_end", next).in_store(self.path)?;
        }
        if !self.revived.is_empty() {
            let mut table = self.write.open_table(REVIVED).in_store(self.path)?;
            for key in std::mem::take(&mut self.revived) {
                table.insert(key.as_str(), ()).in_store(self.path)?;
            }
        }
        Ok(())
    }
}

/// The process with what its end told of it; when it was not told, it was noticed at `noticed`.
fn ended(mut known: ProcessRecord, end: &ProcessRecord, noticed: i64) -> ProcessRecord {
    known.end_time = end.end_time.or(Some(noticed));
    known.exit_code = end.exit_code;
    known.exit_signal = end.exit_signal;
    known.cpu_time_ns = end.cpu_time_ns.or(known.cpu_time_ns);
    known.max_rss = end.max_rss.or(known.max_rss);
    known.status.clone_from(&end.status);
    known.collection_time = end.collection_time;
    for (column, given, kept) in [
        ("end_time", true, false),
        ("exit_code", end.exit_code.is_some(), false),
        ("exit_signal", end.exit_signal.is_some(), false),
        ("cpu_time_ns", end.cpu_time_ns.is_some(), known.cpu_time_ns.is_some()),
        ("max_rss", end.max_rss.is_some(), known.max_rss.is_some()),
    ] {
        if given || !kept {
            note(&mut known, end, column, given);
        }
    }
    // What comes of hashing may come to be known after the process was told last.
    let hashed = end.executable_hash.is_some();
    if hashed || (known.executable_hash.is_none() && end.provenance.contains_key("executable_hash")) {
        known.executable_hash.clone_from(&end.executable_hash);
        known.hash_algorithm.clone_from(&end.hash_algorithm);
        note(&mut known, end, "executable_hash", hashed);
        note(&mut known, end, "hash_algorithm", hashed);
    }
    if end.fuzzy_hash.is_some() {
        known.fuzzy_hash.clone_from(&end.fuzzy_hash);
        note(&mut known, end, "fuzzy_hash", true);
    }
    known
}

/// Notes what the end says of a column: where its value comes from, or why it has none.
fn note(known: &mut ProcessRecord, end: &ProcessRecord, column: &str, given: bool) {
    let of_others = if given { "*" } else { "-" };
    let origin = end.provenance.get(column).or_else(|| end.provenance.get(of_others));
    match origin.filter(|origin| known.provenance.get(of_others) != Some(origin)) {
        Some(origin) => _ = known.provenance.insert(column.to_owned(), origin.clone()),
        None => _ = known.provenance.remove(column),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(provenance: &[(&str, &str)]) -> ProcessRecord {
        let provenance = provenance.iter().map(|(column, origin)| ((*column).to_owned(), (*origin).to_owned()));
        ProcessRecord { provenance: provenance.collect(), ..ProcessRecord::default() }
    }

    #[test]
    fn an_end_says_where_its_values_come_from_and_takes_the_reasons_of_before() {
        let running = "unavailable: running";
        let mut known =
            told(&[("*", "captured"), ("end_time", running), ("exit_code", running), ("exit_signal", running)]);
        (known.cpu_time_ns, known.max_rss) = (Some(1), Some(2));
        let mut end = told(&[("*", "captured"), ("-", "unavailable: not kept"), ("exit_signal", "unavailable: none")]);
        (end.end_time, end.exit_code, end.cpu_time_ns) = (Some(9), Some(3), Some(4));
        let row = ended(known.clone(), &end, 8);
        assert_eq!((row.end_time, row.exit_code, row.cpu_time_ns, row.max_rss), (Some(9), Some(3), Some(4), Some(2)));
        let expected = told(&[("*", "captured"), ("exit_signal", "unavailable: none")]);
        assert_eq!(row.provenance, expected.provenance, "all of one origin");

        known.provenance.insert("*".to_owned(), "scraped".to_owned());
        let row = ended(known, &end, 8);
        assert_eq!(
            (row.provenance["end_time"].as_str(), row.provenance["cpu_time_ns"].as_str()),
            ("captured", "captured")
        );
        assert_eq!(row.provenance.get("max_rss"), None, "it is from before");
    }

    #[test]
    fn a_hash_that_came_with_the_end_is_the_process_s() {
        let waits = "unavailable: hash is being computed";
        let mut known = told(&[("*", "captured"), ("executable_hash", waits), ("hash_algorithm", waits)]);
        let row = ended(known.clone(), &told(&[("-", "unavailable: not kept")]), 8);
        assert_eq!((row.executable_hash, row.provenance["executable_hash"].as_str()), (None, waits));

        let too_large = "unavailable: too large";
        let row = ended(known.clone(), &told(&[("executable_hash", too_large), ("hash_algorithm", too_large)]), 8);
        assert_eq!(row.provenance["executable_hash"], too_large, "or the reason why there is none");

        let mut end = told(&[("*", "captured"), ("executable_hash", "scraped: stable")]);
        (end.executable_hash, end.hash_algorithm) = (Some("aa".to_owned()), Some("sha256".to_owned()));
        known.fuzzy_hash = Some("3:a:b".to_owned());
        let row = ended(known, &end, 8);
        assert_eq!((row.executable_hash.as_deref(), row.hash_algorithm.as_deref()), (Some("aa"), Some("sha256")));
        assert_eq!(row.provenance["executable_hash"], "scraped: stable");
        assert_eq!((row.provenance.get("hash_algorithm"), row.fuzzy_hash.as_deref()), (None, Some("3:a:b")));
    }
}
