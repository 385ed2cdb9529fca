//! Collectors: whether the agent can run them, who else decides what they are, whether they may keep the bus's keys to
//! themselves, and what procmond does with what it reads.

use super::super::environment::Component;
use super::super::{BusEncryption, Layer, Loaded, Setting};
use super::{Check, Verdict};
use crate::config::directories::check_private_dir;
use crate::os;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

const PROCMOND: &str = "procmond";

impl Check<'_> {
    /// The programs that the agent starts.
    pub(super) fn collectors(&mut self) {
        let config = self.config;
        for (name, collector) in &config.collectors {
            if !collector.enabled && name == PROCMOND {
                let detail = "nobody watches the processes of this host, and every answer is degraded".to_owned();
                self.warn("collectors.procmond.enabled", false, detail, "true is usual");
            }
            if collector.enabled
                && let Some(program) = collector.command.first()
                && let Some(path) = self.program(program)
            {
                self.judge_program(&format!("collectors.{name}.command"), &path);
            }
        }
    }

    /// Where the agent looks for it; nowhere is known where it lies beside an agent that is somewhere else.
    fn program(&self, program: &str) -> Option<PathBuf> {
        if program.starts_with('/') {
            return Some(PathBuf::from(program));
        }
        Some(self.host.programs.as_ref()?.join(format!("{program}{}", std::env::consts::EXE_SUFFIX)))
    }

    fn judge_program(&mut self, key: &str, path: &Path) {
        let shown = path.display().to_string();
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(error) => {
                let detail = format!("the agent cannot start it: {error}");
                return self.warn(key, shown, detail, "install it there, or name another path");
            }
        };
        if !metadata.is_file() {
            return self.warn(key, shown, "it is no file".to_owned(), "name the program, not its directory");
        }
        let mode = os::owner_and_mode(&metadata).map_or(0o755, |(_, mode)| mode);
        if mode & 0o111 == 0 {
            let detail = format!("it is not executable (mode {:04o})", mode & 0o7777);
            return self.warn(key, &shown, detail, &format!("chmod +x {shown}"));
        }
        let directory = path.parent().and_then(|directory| Some((directory.to_owned(), directory.metadata().ok()?)));
        for (path, metadata) in [(path.to_owned(), metadata)].into_iter().chain(directory) {
            if let Some(who) = others_who_write(&metadata) {
                let place = path.display();
                let detail = format!("{who} can write to {place}, and so decide what the agent starts");
                let hint = format!("chown root {place} and chmod go-w {place}, or install it elsewhere");
                return self.warn(key, shown, detail, &hint);
            }
        }
    }

    /// The keys of an encrypted bus.
    pub(super) fn bus_keys(&mut self, component: Component) {
        const KEY: &str = "app.bus_keys";
        let app = &self.config.app;
        if let (BusEncryption::Off, Some(dir)) = (app.bus_encryption, &app.bus_keys) {
            let detail = "it has no effect: app.bus_encryption is \"off\"".to_owned();
            let hint = "set app.bus_encryption = \"noise\" for all programs, or take it out";
            return self.warn(KEY, dir.display(), detail, hint);
        }
        let Some(dir) = app.bus_keys() else { return };
        let value = dir.display().to_string();
        let (name, needs_agent) = match component {
            Component::Agent => ("agent", false),
            Component::Cli => ("operator", true),
            Component::Procmond => ("collector.procmond", true),
        };
        let (private, public) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.pub")));
        if component == Component::Agent {
            self.place(KEY, &dir, check_private_dir(&dir));
        }
        if let Some(mode) = private.metadata().ok().as_ref().and_then(os::owner_and_mode).map(|(_, mode)| mode)
            && mode & 0o077 != 0
        {
            let detail = format!("others than its owner can read {} (mode {:04o})", private.display(), mode & 0o7777);
            let hint = format!("remove the pair, or chmod 600 {} if nobody did", private.display());
            return self.add(KEY, value, Verdict::Unusable, detail, Some(hint));
        }
        let missing = |path: &PathBuf| !path.exists();
        if !needs_agent {
            // It makes a pair where there is none at all.
            if missing(&private) && !missing(&public) {
                let detail = format!("{} is there, and {} is not", public.display(), private.display());
                let hint = "put the private half back, or remove the public one: the agent makes another pair";
                self.add(KEY, value, Verdict::Unusable, detail, Some(hint.to_owned()));
            }
        } else if let Some(path) = [dir.join("agent.pub"), private].into_iter().find(missing) {
            let detail = format!("there is no {}", path.display());
            self.warn(KEY, value, detail, "the agent makes it when it starts; else copy it there from the agent's");
        }
    }
}

/// Who may change what is there, besides root and whoever checks.
fn others_who_write(metadata: &Metadata) -> Option<String> {
    const STICKY: u32 = 0o1000;
    let (owner, mode) = os::owner_and_mode(metadata)?;
    let own = os::euid();
    match mode & 0o022 {
        _ if owner != 0 && owner != own => Some(format!("uid {owner}")),
        0 => None,
        // In such a directory nobody takes another's file away.
        _ if metadata.is_dir() && mode & STICKY != 0 => None,
        _ => Some(format!("others than its owner (mode {:04o})", mode & 0o7777)),
    }
}

impl Check<'_> {
    /// What is masked in command lines.
    pub(super) fn secrets(&mut self) {
        let procmond = &self.config.procmond;
        if procmond.mask_secrets {
            return;
        }
        let detail = "passwords and tokens in command lines are stored, and shown to whoever may ask the agent";
        self.warn("procmond.mask_secrets", false, detail.to_owned(), "true is usual");
        if !procmond.mask_names.is_empty() {
            let detail = "it has no effect: procmond.mask_secrets is false".to_owned();
            self.warn(
                "procmond.mask_names",
                procmond.mask_names.join(", "),
                detail,
                "set procmond.mask_secrets = true",
            );
        }
    }

    /// Warns of those that are set and have no effect without this one.
    fn without(&mut self, loaded: &Loaded, needed: &str, keys: &[&str]) {
        let is_set = |set: &&Setting| set.origin.layer != Layer::Default && keys.contains(&set.key.as_str());
        for set in loaded.settings.iter().filter(is_set) {
            let detail = format!("it has no effect: {needed} is false");
            let value = set.value.as_ref().map(ToString::to_string).unwrap_or_default();
            self.warn(&set.key, value, detail, &format!("set {needed} = true, or take it out"));
        }
    }

    /// What concerns hashes of executables.
    pub(super) fn hashing(&mut self, loaded: &Loaded) {
        const WITHOUT_EFFECT: [&str; 5] = [
            "procmond.hash_max_bytes_per_second",
            "procmond.hash_max_file_bytes",
            "procmond.hash_queue",
            "procmond.fuzzy_hashes",
            "procmond.fuzzy_threshold",
        ];
        let procmond = &self.config.procmond;
        if !procmond.hash_executables {
            let detail = "rules and answers know no hash of any executable".to_owned();
            self.warn("procmond.hash_executables", false, detail, "true is usual");
            self.without(loaded, "procmond.hash_executables", &WITHOUT_EFFECT);
            return;
        }
        if !procmond.fuzzy_hashes {
            self.without(loaded, "procmond.fuzzy_hashes", &["procmond.fuzzy_threshold"]);
        }
        let (largest, each_second) = (procmond.hash_max_file_bytes, procmond.hash_max_bytes_per_second);
        if largest < 1 << 20 {
            let detail = "most executables are larger, and have no hash".to_owned();
            self.warn("procmond.hash_max_file_bytes", largest, detail, "536870912 is usual");
        }
        if largest / each_second > 600 {
            let detail = format!("one file of that size is read for {} s, and all others wait", largest / each_second);
            let hint = "lower it, or raise procmond.hash_max_bytes_per_second";
            self.warn("procmond.hash_max_file_bytes", largest, detail, hint);
        }
    }
}
