//! Keeps the rules in force what the rules directory says.
//!
//! The directory is looked at twice a second: names, sizes and times, no contents. When something is different, all of it is
//! loaded, unchanged rules without compiling them, and put in the place of what was in force; the pipeline sees the old rules
//! or the new ones, never some of each. A file that is refused leaves the rule that it held before in force.

use crate::answering::completeness::RuleGaps;
use crate::ruling::state::RuleState;
use daemoneye_lib::config::{DirectoryError, create_private_dir};
use daemoneye_lib::detection::rules::{Fingerprint, fingerprint, load_dir, load_dir_again};
use daemoneye_lib::detection::standing::{Change, DetectionEngine};
use daemoneye_lib::storage::Store;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks at the directory.
const LOOK: Duration = Duration::from_millis(500);

/// Why there are no rules to begin with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("{error}: {}", error.source)]
    Directory {
        #[from]
        error: DirectoryError,
    },
    #[error("rules in {} cannot be loaded: {source}", directory.display())]
    Rules { directory: PathBuf, source: io::Error },
}

/// Loads the rules with which the agent begins. A missing directory of rules is none yet: it is made, and monitoring begins
/// without rules.
pub(crate) async fn load(directory: &Path) -> Result<DetectionEngine, LoadError> {
    if !directory.exists() {
        create_private_dir(directory)?;
    }
    let loaded =
        load_dir(directory).await.map_err(|source| LoadError::Rules { directory: directory.to_owned(), source })?;
    for problem in &loaded.problems {
        tracing::error!(%problem, "a rule is refused; the others run");
    }
    tracing::info!(rules = loaded.rules.len(), directory = %directory.display(), "rules are in force");
    Ok(DetectionEngine::new(loaded))
}

/// Asks for the rules to be loaded now, whether anything seems to have changed or not.
#[derive(Clone, Default)]
pub(crate) struct Reload(Arc<Notify>);

impl Reload {
    /// Returns at once; the record says what became of it.
    pub(crate) fn reload(&self) {
        self.0.notify_one();
    }
}

/// Watches the rules directory.
pub(crate) struct Keeper {
    pub(crate) directory: PathBuf,
    pub(crate) engine: DetectionEngine,
    pub(crate) store: Arc<Store>,
    pub(crate) gaps: RuleGaps,
    pub(crate) state: Arc<RuleState>,
    pub(crate) asked: Reload,
}

/// What a look at the directory came to.
enum Looked {
    Same,
    Loaded(Fingerprint, Vec<Change>, Vec<String>),
}

impl Keeper {
    /// Never returns.
    pub(crate) async fn run(self) -> String {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let keeper = Arc::new(self);
        // What has changed since the rules were loaded is found by the first look.
        let mut seen: Option<Fingerprint> = None;
        let mut trouble: Option<String> = None;
        loop {
            let asked = tokio::select! {
                _ = look.tick() => false,
                () = keeper.asked.0.notified() => true,
            };
            let (own, known) = (Arc::clone(&keeper), seen.filter(|_| !asked));
            // On a thread that may block, with the stack that planning needs.
            let looked = spawn_blocking(move || own.look(known)).await;
            let looked =
                looked.unwrap_or_else(|panic| Err(io::Error::other(format!("a defect of DaemonEye: {panic}"))));
            let now = match looked {
                Ok(Looked::Same) => None,
                Ok(Looked::Loaded(fingerprint, changes, problems)) => {
                    keeper.tell(&changes, &problems, seen.is_none());
                    seen = Some(fingerprint);
                    None
                }
                Err(error) => Some(format!("{} cannot be read: {error}", keeper.directory.display())),
            };
            if let (Some(why), None) = (&now, &trouble) {
                tracing::error!(%why, "the rules in force stay as they are");
            }
            if now != trouble {
                keeper.engine.record().note_trouble(now.clone());
                // Whatever it is like when it can be read again, it is loaded.
                seen = seen.filter(|_| now.is_none());
                trouble = now;
            }
        }
    }

    fn look(&self, known: Option<Fingerprint>) -> io::Result<Looked> {
        let now = fingerprint(&self.directory)?;
        if known == Some(now) {
            return Ok(Looked::Same);
        }
        let before = self.engine.rules();
        // Taken before loading: what changes while it is loaded is found by the next look.
        let loaded = Handle::current().block_on(load_dir_again(&self.directory, &before))?;
        let problems = loaded.problems.iter().map(ToString::to_string).collect();
        let changes = self.engine.replace(loaded);
        if !changes.is_empty()
            && let Err(error) = self.gaps.close(&self.store)
        {
            tracing::warn!(%error, "what rules could not do before stays open as a gap");
        }
        Ok(Looked::Loaded(now, changes, problems))
    }

    fn tell(&self, changes: &[Change], problems: &[String], is_first: bool) {
        for change in changes {
            tracing::info!(rule = %change.rule_id, change = change.what, "rule_changed");
            if change.what == "removed" {
                self.state.forget(&change.rule_id);
            }
        }
        // The first look repeats what starting has told.
        if is_first && changes.is_empty() {
            return;
        }
        for problem in problems {
            tracing::error!(%problem, "a rule is refused; what was in force stays in force");
        }
    }
}
