//! Rules: what one is, and loading a directory of them, good ones beside bad ones.
//!
//! [`file`] reads one file, [`lists`] the named lists beside it, `directory` finds files and tells when they change. A
//! file that is refused is a [`RuleProblem`] with its place; it never stops another.

mod directory;
mod file;
pub mod lists;
mod problem;
#[cfg(not(unix))]
#[path = "stamp_plain.rs"]
mod stamp;
#[cfg(unix)]
#[path = "stamp_unix.rs"]
mod stamp;

use super::engine::{CompiledRule, Compiler};
use crate::proto::common::Severity;
use directory::{read, rule_files};
use lists::Lists;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use directory::{Fingerprint, fingerprint};
pub(super) use file::DEFAULT_DEDUP;
pub use problem::RuleProblem;

/// A standing query with its metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Stable name.
    pub id: String,
    /// For people.
    pub title: String,
    /// How bad a match is.
    pub severity: Severity,
    /// ATT&CK techniques and the like.
    pub tags: Vec<String>,
    /// Who wrote it; travels into the alert.
    pub author: String,
    /// What it looks for and why.
    pub description: String,
    /// Harmless things that match it.
    pub false_positives: Vec<String>,
    /// What its author points to; travels into the alert.
    pub references: Vec<String>,
    /// Under which licence it may be used; travels into the alert.
    pub license: String,
    /// How far its author trusts it, in the author's words.
    pub status: String,
    /// When it was written, in the author's words.
    pub date: String,
    /// When it was last changed, in the author's words.
    pub modified: String,
    /// Columns that make two matches the same alert.
    pub dedup: Vec<String>,
    /// For how long they do.
    pub dedup_window: Duration,
    /// Absent for a rule that looks at each event as it arrives.
    pub schedule: Option<Schedule>,
    /// Rows that are not matches.
    pub exceptions: Vec<Exception>,
    /// The query.
    pub sql: String,
    /// Where it was read from.
    pub file: PathBuf,
}

/// When a rule that looks at a stretch of time runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How far back the events go that it sees.
    pub window: Duration,
    /// From one run to the next.
    pub every: Duration,
    /// Which rows of a run are matches.
    pub mode: Mode,
}

/// Which rows of a run are matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of them.
    All,
    /// Those that the run before did not return.
    Diff,
}

impl Mode {
    /// The word in a rule file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Diff => "diff",
        }
    }
}

/// Rows that a rule returns and that are no matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Exception {
    /// The condition, in SQL.
    pub condition: String,
    /// Why.
    pub reason: String,
    /// The last day on which it applies, as it was written.
    pub expires: Option<String>,
    /// The first moment at which it no longer applies.
    pub until: Option<i64>,
}

impl Exception {
    /// Whether it still applies.
    pub fn applies(&self, now: i64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// What loading found: every rule that can run, and every file that cannot.
#[derive(Default)]
pub struct LoadOutcome {
    /// Compiled rules, by id.
    pub rules: Vec<Arc<CompiledRule>>,
    /// Files that are refused.
    pub problems: Vec<RuleProblem>,
}

/// Loads every `*.toml` below a directory, with the lists of its `lists.toml`.
///
/// # Errors
/// When the directory itself cannot be read; what is wrong with a file is part of the outcome.
pub async fn load_dir(directory: &Path) -> io::Result<LoadOutcome> {
    load_dir_again(directory, &[]).await
}

/// The same, where rules whose file and lists are still the same need not be compiled again.
///
/// # Errors
/// As [`load_dir`].
pub async fn load_dir_again(directory: &Path, before: &[Arc<CompiledRule>]) -> io::Result<LoadOutcome> {
    let files = rule_files(directory)?;
    let own = directory.join(lists::FILE);
    let lists = if own.try_exists()? { Some(own) } else { None };
    load(&files, lists.as_deref(), before).await
}

/// Loads one rule file, or the rules of one directory of a larger tree: the lists are those of the nearest `lists.toml`, in
/// its directory or in one of the two above.
///
/// # Errors
/// When the directory itself cannot be read; what is wrong with a file is part of the outcome.
pub async fn load_path(path: &Path) -> io::Result<LoadOutcome> {
    let is_dir = path.metadata().is_ok_and(|metadata| metadata.is_dir());
    let files = if is_dir { rule_files(path)? } else { vec![path.to_owned()] };
    load(&files, lists_above(path, is_dir).as_deref(), &[]).await
}

/// The lists that a rule file may use: those of the nearest `lists.toml`, in its directory or in one of the two above.
pub fn lists_beside(rule_file: &Path) -> Option<PathBuf> {
    lists_above(rule_file, false)
}

fn lists_above(path: &Path, is_dir: bool) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let mut above = absolute.ancestors().skip(usize::from(!is_dir)).take(3).map(|above| above.join(lists::FILE));
    above.find(|file| file.is_file())
}

/// Loads one rule from text, with the text of the lists that it may use; `name` stands for its file.
///
/// # Errors
/// What is wrong with it.
pub async fn load_text(name: &Path, source: &str, lists: &str) -> Result<Arc<CompiledRule>, RuleProblem> {
    Loader::new(lists)?.load(name, source).await
}

/// Loads rules from texts, one after the other.
pub struct Loader {
    compiler: Compiler,
    lists: Arc<Lists>,
}

impl Loader {
    /// A loader for rules that may use these lists.
    ///
    /// # Errors
    /// What is wrong with the lists.
    pub fn new(lists: &str) -> Result<Self, RuleProblem> {
        let file = Path::new(lists::FILE);
        let lists = Arc::new(Lists::parse(file, lists)?);
        let compiler = compiler().map_err(|error| RuleProblem::of_file(file, error.to_string()))?;
        Ok(Self { compiler, lists })
    }

    /// Loads one rule; `name` stands for its file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn load(&self, name: &Path, source: &str) -> Result<Arc<CompiledRule>, RuleProblem> {
        let (rule, places) = file::parse(name, source)?;
        compile(&self.compiler, source, rule, &places, &self.lists).await.map(Arc::new)
    }
}

fn compiler() -> io::Result<Compiler> {
    Compiler::new().map_err(io::Error::other)
}

async fn load(files: &[PathBuf], lists: Option<&Path>, before: &[Arc<CompiledRule>]) -> io::Result<LoadOutcome> {
    let compiler = compiler()?;
    let mut outcome = LoadOutcome::default();
    let (lists, lists_text) = match lists.map(Lists::load) {
        None => (Arc::default(), String::new()),
        Some(Ok((lists, text))) => (Arc::new(lists), text),
        Some(Err(problem)) => {
            outcome.problems.push(problem);
            (Arc::default(), String::new())
        }
    };
    let known: HashMap<[u8; 32], &Arc<CompiledRule>> = before.iter().map(|rule| (rule.digest, rule)).collect();
    let mut ids: BTreeMap<String, PathBuf> = BTreeMap::new();
    for file in files {
        if file.file_name().is_some_and(|name| name == lists::FILE) {
            let problem = RuleProblem::of_file(file, "lists are read from the top of the rules directory alone".into());
            outcome.problems.push(problem.hint("move the lists there"));
            continue;
        }
        let source = match read(file) {
            Ok(source) => source,
            Err(error) => {
                outcome.problems.push(RuleProblem::of_file(file, format!("cannot be read: {error}")));
                continue;
            }
        };
        let (rule, places) = match file::parse(file, &source) {
            Ok(parsed) => parsed,
            Err(problem) => {
                outcome.problems.push(problem);
                continue;
            }
        };
        if let Some(first) = ids.get(&rule.id) {
            outcome.problems.push(RuleProblem::duplicate(file, &rule.id, first));
            continue;
        }
        ids.insert(rule.id.clone(), file.clone());
        let digest = digest(file, &source, &lists_text);
        if let Some(known) = known.get(&digest) {
            outcome.rules.push(Arc::clone(known));
            continue;
        }
        match compile(&compiler, &source, rule, &places, &lists).await {
            Ok(compiled) => outcome.rules.push(Arc::new(CompiledRule { digest, ..compiled })),
            Err(problem) => outcome.problems.push(problem),
        }
    }
    outcome.rules.sort_by(|a, b| a.rule.id.cmp(&b.rule.id));
    Ok(outcome)
}

async fn compile(
    compiler: &Compiler,
    source: &str,
    rule: Rule,
    places: &file::Places,
    lists: &Arc<Lists>,
) -> Result<CompiledRule, RuleProblem> {
    let (file, id) = (rule.file.clone(), rule.id.clone());
    compiler.compile(rule, lists).await.map_err(|(part, refusal)| {
        let place = part.map_or(Some(places.sql), |exception| places.exceptions.get(exception).copied());
        RuleProblem::of_query(&file, source, id, place.unwrap_or(places.sql), refusal)
    })
}

/// What a rule is made of: where it is, what it says, what its lists say.
fn digest(file: &Path, source: &str, lists: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("daemoneye 2026 rule-source v1");
    for part in [file.as_os_str().as_encoded_bytes(), source.as_bytes(), lists.as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}
