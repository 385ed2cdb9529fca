//! Whether the store keeps what somebody will look for, and has room for it.

use super::super::environment::Component;
use super::{Check, LITTLE};

/// What is gone sooner, nobody has looked at.
const SHORT_S: u64 = 600;

impl Check<'_> {
    /// How long data stays, and how much of it.
    pub(super) fn retention(&mut self) {
        let (agent, app) = (&self.config.agent, &self.config.app);
        if agent.retention_s < SHORT_S {
            let detail = format!("events are gone after {} s: before anybody has looked at them", agent.retention_s);
            self.warn("agent.retention_s", agent.retention_s, detail, "2592000 is usual: 30 days");
        }
        if agent.alert_retention_s < SHORT_S {
            let detail =
                format!("alerts are gone after {} s: before anybody has looked at them", agent.alert_retention_s);
            self.warn("agent.alert_retention_s", agent.alert_retention_s, detail, "31536000 is usual: a year");
        } else if agent.alert_retention_s < agent.retention_s {
            let detail = "alerts go before the events that led to them".to_owned();
            let hint = "raise it to agent.retention_s or beyond";
            self.warn("agent.alert_retention_s", agent.alert_retention_s, detail, hint);
        }
        let own = app.directory_of(Component::Agent);
        let file = own.join("events.redb").metadata().map_or(0, |file| file.len());
        // A disk that is nearly full is told of by itself.
        if let Some(free) = (self.host.free_bytes)(&own).filter(|free| *free >= LITTLE)
            && agent.max_store_bytes > free.saturating_add(file)
        {
            let detail = format!(
                "the store has {file} bytes, and {free} are free below {}: the disk is full before that bound is reached",
                own.display()
            );
            self.warn("agent.max_store_bytes", agent.max_store_bytes, detail, "lower it, or make room");
        }
    }
}
