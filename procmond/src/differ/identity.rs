//! Whether a process is as it was: its identity columns, condensed.
//!
//! CPU time, memory, state, working directory and parent are none of them. The columns are in groups that become
//! unreadable together. A group of which something is withheld says nothing, so that a denial never looks like a change.
//!
//! The hash of the executable is one that comes later: it is known when there is a hash, or a word why there is none.
//! Unlike the others it is not remembered beyond an event that did not have it, so that it follows that event.
//!
//! Arguments count as they are told, with secrets masked: a change of a secret alone is none that could be shown.

use crate::digest::Digest;
use crate::provenance::{is_withheld, is_word_on_hash};
use daemoneye_lib::models::columns;
use daemoneye_lib::proto::common::ProcessRecord;

const BASE: [&str; 7] = ["name", "uid", "gid", "euid", "egid", "session_id", "tty"];
const ARGUMENTS: [&str; 1] = ["argv"];
const PROGRAM: [&str; 1] = ["executable_path"];
const IMAGE: [&str; 2] = ["file_exists", "image_mismatch"];
const CONTEXT: [&str; 3] = ["cgroup", "loginuid", "audit_session"];

/// A digest of each group; 0 for one that is not known.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Identity {
    #[prost(fixed64, tag = "1")]
    base: u64,
    #[prost(fixed64, tag = "2")]
    arguments: u64,
    #[prost(fixed64, tag = "3")]
    program: u64,
    #[prost(fixed64, tag = "4")]
    image: u64,
    #[prost(fixed64, tag = "5")]
    context: u64,
    #[prost(fixed64, tag = "6")]
    hash: u64,
}

impl Identity {
    pub(crate) fn of(record: &ProcessRecord) -> Self {
        Self {
            base: group(record, &BASE),
            arguments: group(record, &ARGUMENTS),
            program: group(record, &PROGRAM),
            image: group(record, &IMAGE),
            context: group(record, &CONTEXT),
            hash: hash(record),
        }
    }

    /// Whether something that is known now is different, or was not known before.
    pub(crate) fn differs(&self, now: &Self) -> bool {
        self.pairs(now).into_iter().any(|(before, now)| now != 0 && now != before)
    }

    /// Whether it was told what came of hashing the executable.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_hash(&self) -> bool {
        self.hash != 0
    }

    /// What is known now, and of the rest what was known before.
    pub(crate) fn or(&self, before: &Self) -> Self {
        let [base, arguments, program, image, context, _] =
            self.pairs(before).map(|(now, before)| if now == 0 { before } else { now });
        Self { base, arguments, program, image, context, hash: self.hash }
    }

    fn pairs(&self, other: &Self) -> [(u64, u64); 6] {
        [
            (self.base, other.base),
            (self.arguments, other.arguments),
            (self.program, other.program),
            (self.image, other.image),
            (self.context, other.context),
            (self.hash, other.hash),
        ]
    }
}

fn hash(record: &ProcessRecord) -> u64 {
    let reason = record.provenance.get("executable_hash").filter(|reason| is_word_on_hash(reason));
    match (&record.executable_hash, reason) {
        (Some(hash), _) => {
            let mut digest = Digest::new();
            digest.number(1).bytes(hash.as_bytes());
            if let Some(fuzzy) = &record.fuzzy_hash {
                digest.bytes(fuzzy.as_bytes());
            }
            digest.finish()
        }
        (None, Some(reason)) => Digest::new().number(2).bytes(reason.as_bytes()).finish(),
        (None, None) => 0,
    }
}

fn group(record: &ProcessRecord, names: &[&str]) -> u64 {
    if names.iter().any(|name| is_withheld(record, name)) {
        return 0;
    }
    let mut digest = Digest::new();
    for column in columns::PROCESS.iter().filter(|column| names.contains(&column.name)) {
        digest.value(&(column.get)(record));
    }
    digest.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance as why;
    use daemoneye_lib::proto::common::Arguments;

    #[test]
    fn every_identity_column_exists() {
        for name in [&BASE[..], &ARGUMENTS, &PROGRAM, &IMAGE, &CONTEXT].concat() {
            assert!(columns::PROCESS.iter().any(|column| column.name == name), "{name}");
        }
    }

    #[test]
    fn identity_columns_count_and_others_do_not() {
        let record = ProcessRecord::default();
        let identity = Identity::of(&record);
        for other in [
            ProcessRecord { cpu_usage: Some(1.0), memory_usage: Some(1), ..record.clone() },
            ProcessRecord { status: Some("zombie".into()), cwd: Some("/".into()), ..record.clone() },
            ProcessRecord { ppid: Some(1), collection_time: 7, cpu_time_ns: Some(7), ..record.clone() },
        ] {
            assert!(!identity.differs(&Identity::of(&other)), "{other:?}");
        }
        for other in [
            ProcessRecord { name: Some("x".into()), ..record.clone() },
            ProcessRecord { argv: Some(Arguments { values: vec![] }), ..record.clone() },
            ProcessRecord { executable_path: Some("/x".into()), ..record.clone() },
            ProcessRecord { file_exists: Some(false), ..record.clone() },
            ProcessRecord { image_mismatch: Some(true), ..record.clone() },
            ProcessRecord { egid: Some(0), ..record.clone() },
            ProcessRecord { loginuid: Some(0), ..record.clone() },
            ProcessRecord { cgroup: Some("/".into()), ..record },
        ] {
            assert!(identity.differs(&Identity::of(&other)), "{other:?}");
        }
    }

    #[test]
    fn a_hash_follows_every_event_that_did_not_have_it() {
        let with = |hash: Option<&str>, reason: Option<&str>| {
            let mut record = ProcessRecord { executable_hash: hash.map(str::to_owned), ..ProcessRecord::default() };
            if let Some(reason) = reason {
                why::absent(&mut record, &["executable_hash"], reason);
            }
            Identity::of(&record)
        };
        let (hashed, other) = (with(Some("aa"), None), with(Some("bb"), None));
        let (waiting, too_large) = (with(None, Some(why::HASH_WAITS)), with(None, Some(why::HASH_TOO_LARGE)));
        assert!(waiting.differs(&hashed) && waiting.differs(&too_large) && hashed.differs(&other));
        assert!(!hashed.differs(&waiting) && !hashed.differs(&hashed));
        assert!(waiting.or(&hashed).differs(&hashed), "what was told last did not have it");
    }

    #[test]
    fn what_is_withheld_changes_nothing_and_is_remembered() {
        let seen = ProcessRecord { executable_path: Some("/x".into()), ..ProcessRecord::default() };
        let mut denied = ProcessRecord::default();
        why::absent(&mut denied, &["executable_path"], why::DENIED);
        let (seen, denied) = (Identity::of(&seen), Identity::of(&denied));
        assert!(!seen.differs(&denied));
        assert_eq!(denied.or(&seen), seen);
        assert!(denied.differs(&seen), "learning what was denied at first is worth telling");
    }
}
