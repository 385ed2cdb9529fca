//! How the agent is: what an operator at three in the morning needs to know, and what to do.

use crate::collecting::collectors::{Collectors, Known, PROCMOND, Supervision};
use crate::collecting::observing::POLL;
use crate::pipeline::Progress;
use crate::reload::{ReloadState, Report};
use crate::ruling::state::RuleState;
use crate::space;
use daemoneye_eventbus::Gate;
use daemoneye_lib::detection::standing::DetectionRecord;
use daemoneye_lib::models::time;
use daemoneye_lib::proto::ipc::{ComponentHealth, HealthReport, HealthStatus};
use daemoneye_lib::storage::Store;
use std::sync::Arc;

/// With less room than this on its disk, the store will soon refuse.
const LITTLE: u64 = 16 << 20;

/// Everything that health is read from.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) started: i64,
    pub(crate) test_mode: bool,
    pub(crate) collectors: Collectors,
    pub(crate) detection: DetectionRecord,
    pub(crate) progress: Progress,
    pub(crate) gate: Gate,
    pub(crate) store: Arc<Store>,
    pub(crate) rules_dir: String,
    pub(crate) reload: ReloadState,
    pub(crate) rule_state: Arc<RuleState>,
}

impl Health {
    pub(crate) fn report(&self) -> HealthReport {
        let mut components = vec![self.agent(), self.configuration(), self.store(), self.rules(), self.alerts()];
        components.extend(self.collectors.list().iter().map(collector));
        let any = |status| components.iter().any(|component| component.status() == status);
        let status = [HealthStatus::Failed, HealthStatus::Starting, HealthStatus::Degraded]
            .into_iter()
            .find(|status| any(*status))
            .unwrap_or(HealthStatus::Ok);
        HealthReport {
            status: status.into(),
            components,
            test_mode: self.test_mode,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started,
        }
    }

    fn agent(&self) -> ComponentHealth {
        let refused = self.gate.refused();
        let mut detail =
            format!("version {}, running since {}", env!("CARGO_PKG_VERSION"), time::rfc3339(self.started));
        if refused > 0 {
            detail.push_str(&format!(", {refused} connections refused or cut off"));
        }
        component("agent", HealthStatus::Ok, detail, "")
    }

    fn configuration(&self) -> ComponentHealth {
        let Report { read, pending, refused } = self.reload.report();
        let detail = format!("read at {}", time::rfc3339(read));
        if let Some(why) = refused {
            let hint = "correct it, ask `daemoneye-cli config check`, and send the agent SIGHUP again";
            let detail = format!("cannot be read anew: {why}; that of before stays in force ({detail})");
            return component("configuration", HealthStatus::Degraded, detail, hint);
        }
        if !pending.is_empty() {
            let detail = format!("{detail}; waiting for a restart: {}", pending.join(", "));
            return component("configuration", HealthStatus::Ok, detail, "restart the agent to put these in force");
        }
        component("configuration", HealthStatus::Ok, detail, "")
    }

    fn store(&self) -> ComponentHealth {
        let state = self.progress.now();
        if let Some(damage) = self.store.damage() {
            let hint = "`daemoneye-cli data verify` says how much of it is damaged; restore it from a backup, or move it \
                        aside while the agent does not run";
            return component("store", HealthStatus::Failed, damage, hint);
        }
        match state.store_trouble {
            None => {
                let space = space::of(self.store.path());
                let size = |bytes: Option<u64>| bytes.map_or_else(|| "an unknown size".to_owned(), space::in_words);
                let detail = format!(
                    "{}, {}, {} free beside it, {} events since the start",
                    self.store.path().display(),
                    size(space.file_bytes),
                    size(space.free_bytes),
                    state.events
                );
                if space.free_bytes.is_some_and(|free| free < LITTLE) {
                    let hint =
                        "make room: a full disk stops storing, and collectors keep what they see in their spools";
                    return component("store", HealthStatus::Degraded, format!("little room is left: {detail}"), hint);
                }
                component("store", HealthStatus::Ok, detail, "")
            }
            Some(trouble) => component(
                "store",
                HealthStatus::Failed,
                trouble,
                "make room on the disk or make the directory writable: what collectors see waits in their spools meanwhile",
            ),
        }
    }

    fn rules(&self) -> ComponentHealth {
        let rules = self.detection.rules();
        let count = |state: &str| rules.iter().filter(|rule| rule.state == state).count();
        let (in_force, disabled) = (count("healthy") + count("unhealthy"), count("disabled"));
        let mut detail = format!("{in_force} in force from {}", self.rules_dir);
        if disabled > 0 {
            detail.push_str(&format!(", {disabled} disabled"));
        }
        let expired: u64 = rules.iter().map(|rule| rule.expired_exceptions).sum();
        if expired > 0 {
            detail.push_str(&format!(", {expired} exceptions have expired"));
        }
        if let Some(trouble) = self.detection.trouble() {
            let hint = "the rules that were in force stay in force; make the directory readable again";
            return component("rules", HealthStatus::Degraded, format!("{detail}; {trouble}"), hint);
        }
        if let Some(lost) = self.rule_state.lost() {
            let hint = "say anew which rules are not to run: daemoneye-cli rules disable; if none, enable any";
            return component("rules", HealthStatus::Degraded, format!("{detail}; {lost}"), hint);
        }
        let troubled: Vec<_> =
            rules.iter().filter(|rule| !matches!(rule.state.as_str(), "healthy" | "disabled")).collect();
        if let Some(first) = troubled.first() {
            let reason = first.reason.as_deref().unwrap_or(&first.rule_id);
            detail.push_str(&format!(", {} in trouble: {reason}", troubled.len()));
            return component("rules", HealthStatus::Degraded, detail, "see daemoneye-cli rules list");
        }
        if in_force == 0 {
            let hint = "put *.toml rules there, or name another directory with --rules-dir";
            return component("rules", HealthStatus::Degraded, detail, hint);
        }
        component("rules", HealthStatus::Ok, detail, "")
    }

    fn alerts(&self) -> ComponentHealth {
        let state = self.progress.now();
        match state.sink_troubles.first_key_value() {
            None => component("alerts", HealthStatus::Ok, format!("{} since the start", state.alerts), ""),
            Some((sink, why)) => component(
                "alerts",
                HealthStatus::Degraded,
                format!("the sink `{sink}` does not take them: {why}"),
                "alerts stay in the store: see daemoneye-cli alerts list",
            ),
        }
    }
}

fn collector(known: &Known) -> ComponentHealth {
    let row = &known.row;
    let name = format!("collector {}", row.collector);
    if let Some(why) = &known.refused {
        return component(name, HealthStatus::Failed, format!("not accepted: {why}"), "nothing of it is stored");
    }
    if !known.attached {
        return match &known.supervision {
            Some(Supervision::Failing(why)) => component(
                name,
                HealthStatus::Failed,
                why.clone(),
                "see the agent's log; nothing is collected meanwhile",
            ),
            Some(Supervision::Restarting(why)) => component(
                name,
                HealthStatus::Degraded,
                why.clone(),
                "it is being started again; nothing is collected meanwhile",
            ),
            Some(Supervision::Disabled) if row.collector != PROCMOND => {
                component(name, HealthStatus::Ok, "switched off by the configuration".to_owned(), "")
            }
            Some(Supervision::Disabled) => component(
                name,
                HealthStatus::Degraded,
                "switched off by the configuration".to_owned(),
                "nobody watches this host's processes: see [collectors.procmond]",
            ),
            None => component(name, HealthStatus::Starting, "waiting for it to attach".to_owned(), ""),
        };
    }
    if row.state == "unresponsive" {
        let detail = "it is connected and tells nothing of its state".to_owned();
        return component(name, HealthStatus::Failed, detail, "see whether its process hangs or is stopped");
    }
    if row.state == "paused" {
        let hint = "what happens meanwhile is not seen: `daemoneye-cli collectors resume` ends it";
        return component(name, HealthStatus::Degraded, "paused by an operator".to_owned(), hint);
    }
    // Others tell what they are told, and need not look around first.
    let scans = known.begins_with_a_scan();
    if !known.scanned && (row.collector == PROCMOND || scans) {
        return component(name, HealthStatus::Starting, "waiting for its first scan to be committed".to_owned(), "");
    }
    let mut detail = format!("mode {} ({})", row.mode, row.mode_reason);
    if let Some(interval) = row.scan_interval_ms {
        detail.push_str(&format!(", a scan every {interval} ms"));
    }
    if row.restarts > 0 {
        detail.push_str(&format!(", restarted {} times", row.restarts));
    }
    if let Some(missing) = known.observing.missing() {
        detail.push_str(&format!("; {missing}"));
    }
    for limitation in &row.limitations {
        detail.push_str(&format!("; {limitation}"));
    }
    if let Some(why) = known.unsettled() {
        return component(name, HealthStatus::Degraded, format!("{detail}; {why}"), "see its settings in [collectors]");
    }
    let silent = known.is_silent(time::now_ns());
    if silent {
        let until = row.observed_until.map_or_else(String::new, |until| format!(" than {}", time::rfc3339(until)));
        detail.push_str(&format!("; nothing newer{until} has arrived"));
    }
    if let Some(error) = &row.last_error {
        detail.push_str(&format!("; {error}"));
        return if silent {
            let hint = "nothing new is stored: where the disk refuses, make room or make the directory writable; \
                        see also the collector's log";
            component(name, HealthStatus::Failed, detail, hint)
        } else {
            component(name, HealthStatus::Degraded, detail, "see the collector's log")
        };
    }
    if silent {
        let hint = "it sees nothing at present, and answers say so: see the collector's log; a file system that does not answer \
                    may hold it up";
        return component(name, HealthStatus::Failed, detail, hint);
    }
    if row.mode == POLL {
        let hint = "short-lived processes may be missed: answers say so";
        return component(name, HealthStatus::Degraded, format!("polling only: {detail}"), hint);
    }
    component(name, HealthStatus::Ok, detail, "")
}

fn component(name: impl Into<String>, status: HealthStatus, detail: String, hint: &str) -> ComponentHealth {
    ComponentHealth { component: name.into(), status: status.into(), detail, hint: hint.to_owned() }
}
