//! What the agent remembers of rules from one start to the next: which the operator has disabled, and what a scheduled rule
//! returned last. The files are specified in `docs/formats/rules.md`.
//!
//! Each file is written beside its place and moved there whole. One that is damaged counts as missing and is told: a rule of mode
//! `diff` then learns anew, and a disabled rule runs until the operator disables it again, which health says meanwhile.

use crate::os;
use daemoneye_lib::config::{DirectoryError, create_private_dir, for_owner_alone, open_no_follow};
use daemoneye_lib::detection::rules::{Mode, Rule};
use daemoneye_lib::detection::scheduled::{Known, MAX_ROWS};
use daemoneye_lib::models::time;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const DISABLED: &str = "disabled.json";
const MAGIC: &[u8; 8] = b"DEKNOWN1";
const DIGEST: usize = 16;
/// Magic, the query's digest, the number of rows.
const HEAD: usize = 8 + 32 + 4;
/// The most rules that can be disabled.
const MAX_DISABLED: usize = 10_000;
/// The largest file that is read.
const MAX_BYTES: u64 = 4 << 20;

/// Why the state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{MAX_DISABLED} rules are disabled already")]
    TooMany,
}

/// The directory of the state, and what is disabled.
pub(crate) struct RuleState {
    directory: PathBuf,
    /// Rule ids with who disabled them and when.
    disabled: Mutex<BTreeMap<String, Json>>,
    /// Why it is not known which were disabled.
    lost: Mutex<Option<String>>,
}

impl RuleState {
    pub(crate) fn open(directory: &Path) -> Result<Self, DirectoryError> {
        create_private_dir(directory)?;
        let path = directory.join(DISABLED);
        let (disabled, lost) = match read(&path).and_then(|bytes| bytes.map(|bytes| parse(&bytes)).transpose()) {
            Ok(disabled) => (disabled.unwrap_or_default(), None),
            Err(error) => {
                let path = path.display();
                tracing::error!(%path, %error, "which rules were disabled is lost: all of them run");
                (
                    BTreeMap::new(),
                    Some(format!("which rules were disabled is lost, and all of them run: {path}: {error}")),
                )
            }
        };
        Ok(Self { directory: directory.to_owned(), disabled: Mutex::new(disabled), lost: Mutex::new(lost) })
    }

    /// Why it is not known which rules are not to run; until the operator says so anew.
    pub(crate) fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rules that are not to run.
    pub(crate) fn disabled(&self) -> BTreeSet<String> {
        self.disabled.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Enables or disables a rule durably; tells whether that changed anything.
    pub(crate) fn set_enabled(&self, rule_id: &str, enabled: bool, uid: Option<u32>) -> Result<bool, StateError> {
        let mut disabled = self.disabled.lock().unwrap_or_else(PoisonError::into_inner);
        // What is lost is written anew by whatever the operator says.
        let is_lost = self.lost().is_some();
        let unchanged = disabled.contains_key(rule_id) != enabled;
        if unchanged && !is_lost {
            return Ok(false);
        }
        let mut changed = disabled.clone();
        if enabled {
            changed.remove(rule_id);
        } else if changed.len() >= MAX_DISABLED {
            return Err(StateError::TooMany);
        } else if !unchanged {
            changed.insert(rule_id.to_owned(), json!({ "since": time::rfc3339(time::now_ns()), "uid": uid }));
        }
        let document = json!({ "version": 1, "disabled": changed });
        self.write(DISABLED, format!("{document}\n").as_bytes())?;
        *disabled = changed;
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(!unchanged)
    }

    /// What the rule returned last; nothing when it has not run yet or its query is another now.
    pub(crate) fn known(&self, rule: &Rule) -> Option<Known> {
        let path = self.directory.join(known_file(&rule.id));
        let known = read(&path).and_then(|bytes| bytes.map(|bytes| unpack(&bytes, rule)).transpose());
        known.unwrap_or_else(|error| {
            tracing::error!(path = %path.display(), %error, "what the rule returned last is lost: it learns anew");
            None
        })?
    }

    /// Remembers what the rule returned.
    pub(crate) fn remember(&self, rule: &Rule, known: &Known) -> Result<(), StateError> {
        self.write(&known_file(&rule.id), &pack(rule, known))
    }

    /// The rule is gone.
    pub(crate) fn forget(&self, rule_id: &str) {
        let path = self.directory.join(known_file(rule_id));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "what a removed rule returned last stays there");
            }
            _ => {}
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.directory.join(name);
        let new = self.directory.join(format!("{name}.new"));
        let written = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true);
            let mut file = open_no_follow(for_owner_alone(&mut options), &new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            os::sync_directory(&self.directory)
        };
        written().map_err(|source| StateError::Write { path: path.clone(), source })
    }
}

/// Rule ids are of letters, digits and hyphens, so that they are names of files.
fn known_file(rule_id: &str) -> String {
    format!("{rule_id}.known")
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut options = OpenOptions::new();
    let file = match open_no_follow(options.read(true), path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn parse(bytes: &[u8]) -> io::Result<BTreeMap<String, Json>> {
    let document: Json = serde_json::from_slice(bytes)?;
    if document["version"] != 1 {
        return Err(damaged("it is of another version"));
    }
    let disabled: &Map<String, Json> =
        document["disabled"].as_object().ok_or_else(|| damaged("it does not say what is disabled"))?;
    Ok(disabled.iter().map(|(id, since)| (id.clone(), since.clone())).collect())
}

/// What is known of a rule is of its query, and of what its mode remembers: rows, or occurrences.
fn query_digest(rule: &Rule) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("daemoneye 2026 rule-query v1");
    hasher.update(rule.sql.as_bytes());
    if rule.schedule.is_some_and(|schedule| schedule.mode == Mode::All) {
        hasher.update(b"\0all");
    }
    *hasher.finalize().as_bytes()
}

fn pack(rule: &Rule, known: &Known) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + known.len() * DIGEST + 32);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&query_digest(rule));
    bytes.extend_from_slice(&u32::try_from(known.len()).unwrap_or(u32::MAX).to_le_bytes());
    known.iter().for_each(|row| bytes.extend_from_slice(row));
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

/// What was known, if it is of this query.
fn unpack(bytes: &[u8], rule: &Rule) -> io::Result<Option<Known>> {
    let body =
        bytes.len().checked_sub(32).and_then(|end| bytes.get(..end)).ok_or_else(|| damaged("it is too short"))?;
    if bytes.get(body.len()..) != Some(blake3::hash(body).as_bytes().as_slice()) {
        return Err(damaged("its checksum is wrong"));
    }
    let (head, rows) = body.split_at_checked(HEAD).ok_or_else(|| damaged("it is too short"))?;
    if !head.starts_with(MAGIC) {
        return Err(damaged("it is of another kind"));
    }
    if rows.len() % DIGEST != 0 || rows.len() / DIGEST > MAX_ROWS {
        return Err(damaged("its length is wrong"));
    }
    if head.get(8..40) != Some(query_digest(rule).as_slice()) {
        return Ok(None);
    }
    Ok(Some(rows.chunks_exact(DIGEST).filter_map(|row| row.try_into().ok()).collect()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test panics")]
mod tests {
    use super::*;

    fn rule(sql: &str) -> Rule {
        Rule { id: "r".into(), sql: sql.into(), ..Rule::default() }
    }

    #[test]
    fn what_is_disabled_stays_so_over_a_start() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("rules");
        let state = RuleState::open(&place).unwrap();
        assert!(state.set_enabled("a", false, Some(7)).unwrap() && state.set_enabled("b", false, Some(7)).unwrap());
        assert!(!state.set_enabled("a", false, Some(7)).unwrap(), "it is already");
        assert!(state.set_enabled("b", true, None).unwrap());
        let again = RuleState::open(&place).unwrap();
        assert_eq!(again.disabled(), BTreeSet::from(["a".to_owned()]));
        assert_eq!(again.lost(), None);
        fs::write(place.join(DISABLED), "{").unwrap();
        let lost = RuleState::open(&place).unwrap();
        assert!(lost.disabled().is_empty() && lost.lost().is_some_and(|why| why.contains("disabled.json")));
        // Any word of the operator's makes the file whole again.
        assert!(!lost.set_enabled("a", true, None).unwrap());
        assert_eq!((lost.lost(), RuleState::open(&place).unwrap().lost()), (None, None));
    }

    #[test]
    fn what_a_rule_returned_is_known_for_the_same_query_alone_and_damage_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let state = RuleState::open(&directory.path().join("rules")).unwrap();
        let known: Known = [[1; 16], [2; 16]].into();
        assert_eq!(state.known(&rule("a")), None);
        state.remember(&rule("a"), &known).unwrap();
        assert_eq!(state.known(&rule("a")), Some(known.clone()));
        assert_eq!(state.known(&rule("b")), None);
        let bytes = pack(&rule("a"), &known);
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert!(unpack(&wrong, &rule("a")).is_err(), "byte {at}");
            assert!(unpack(&bytes[..at], &rule("a")).is_err(), "cut at {at}");
        }
        state.forget("r");
        assert_eq!(state.known(&rule("a")), None);
    }
}
