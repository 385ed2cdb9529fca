//! The feed that is listened to, and what becomes of it: it has to show now and then that it is alive, and when it has ended
//! what stands by takes over, or scans are left.

use super::{Feed, Standby};
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::ipc::Gap;
use std::time::{Duration, Instant};

/// How often a feed has to show that it is alive.
pub(super) const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// A feed, or none; how that is called, and why it is this one.
pub(crate) struct Heard {
    pub(super) feed: Option<Box<dyn Feed>>,
    /// What takes over when the feed ends.
    standby: Option<Standby>,
    pub(crate) mode: &'static str,
    pub(crate) reason: String,
    /// When the feed was last known to be alive.
    alive: Instant,
    alive_at: i64,
    /// The mode is another one than in the beginning.
    pub(super) changed: bool,
}

impl Heard {
    pub(super) fn new(feed: Box<dyn Feed>, standby: Option<Standby>, mode: &'static str, reason: String) -> Self {
        Self { feed: Some(feed), standby, mode, ..Self::nothing(reason) }
    }

    /// Scans are all there is.
    pub(super) fn nothing(reason: String) -> Self {
        let (alive, alive_at) = (Instant::now(), now_ns());
        Self { feed: None, standby: None, mode: "poll", reason, alive, alive_at, changed: false }
    }

    /// Whether the feed still tells, as far as it had to show by now; all that it has told is from before `told`.
    pub(super) fn is_alive(&mut self, now: Instant, told: i64) -> bool {
        let Some(feed) = &mut self.feed else { return true };
        if now.saturating_duration_since(self.alive) < ALIVE_EVERY {
            return true;
        }
        let alive = feed.is_alive();
        if alive {
            (self.alive, self.alive_at) = (now, told);
        }
        alive
    }

    /// The feed has ended: what stands by takes over, or scans are left. What was missed is the gap.
    pub(super) fn end(&mut self, now: Instant, cause: &str) -> Gap {
        let reason = format!("{} has ended: {cause}", self.mode);
        let (from, to) = (self.alive_at, now_ns());
        let next = match self.standby.take().map(|standby| standby()) {
            Some(Ok(feed)) => Self::new(feed, None, "connector", reason.clone()),
            Some(Err(error)) => Self::nothing(format!("{reason}; no connector: {error}")),
            None => Self::nothing(reason.clone()),
        };
        *self = Self { alive: now, changed: true, ..next };
        Gap { kind: "source_lost".to_owned(), from, to: Some(to), count: None, reason }
    }
}
