//! What the source last reported of itself, and since when it observes as it does.

use crate::source::SourceStatus;
use daemoneye_lib::models::time::now_ns;

/// The newest report; a change of how the source observes is news until somebody takes it.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    status: SourceStatus,
    since: i64,
    turned: bool,
}

impl Reported {
    /// Takes a report; returns whether the agent should hear of it before its time.
    pub(crate) fn take(&mut self, status: SourceStatus) -> bool {
        let turned = status.mode != self.status.mode || status.features != self.status.features;
        if turned {
            self.turned = true;
            self.since = now_ns();
        }
        self.status = status;
        turned
    }

    /// The newest report, and since when mode and features are those that it says, in nanoseconds since 1970; 0 where they
    /// have always been as they were described.
    pub(crate) fn now(&self) -> (SourceStatus, i64) {
        (self.status.clone(), self.since)
    }

    /// Whether there is news that nobody took.
    pub(crate) const fn is_news(&self) -> bool {
        self.turned
    }

    /// Takes the news.
    pub(crate) const fn take_news(&mut self) -> bool {
        std::mem::replace(&mut self.turned, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemoneye_lib::proto::ipc::Feature;

    fn mode(mode: &str, reason: &str) -> SourceStatus {
        SourceStatus { mode: Some((mode.to_owned(), reason.to_owned())), ..SourceStatus::default() }
    }

    #[test]
    fn another_mode_is_news_with_its_time_and_another_interval_is_not() {
        let mut reported = Reported::default();
        assert!(!reported.take(SourceStatus { scan_interval_ms: 1, ..SourceStatus::default() }));
        assert!(!reported.is_news() && reported.now().1 == 0, "as it was described");
        let before = now_ns();
        assert!(reported.take(mode("connector", "the ring is gone")));
        let (_, since) = reported.now();
        assert!(since >= before && reported.take_news() && !reported.is_news());
        assert!(!reported.take(mode("connector", "the ring is gone")));
        assert_eq!(reported.now().1, since, "it is the same mode");
    }

    #[test]
    fn other_features_are_news() {
        let mut reported = Reported::default();
        let lost = Feature { name: "ptrace".to_owned(), ..Feature::default() };
        assert!(reported.take(SourceStatus { features: vec![lost], ..SourceStatus::default() }));
        assert!(reported.is_news() && reported.now().1 > 0);
    }
}
