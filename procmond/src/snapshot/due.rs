//! Which scans are snapshots: so often as configured, and when somebody asks.

use super::Desk;
use daemoneye_lib::proto::ipc::Gap;
use std::time::{Duration, Instant};

/// What tells whether a scan is one.
#[derive(Debug, Default)]
pub(crate) struct Due {
    desk: Desk,
    /// When the last one was due.
    last: Option<Instant>,
    /// The request that the scan at hand serves.
    request: Option<u64>,
    left_out: Option<LeftOut>,
}

#[derive(Debug)]
struct LeftOut {
    from: i64,
    count: u64,
}

impl Due {
    /// Requests are made at this desk.
    pub(crate) fn new(desk: Desk) -> Self {
        Self { desk, ..Self::default() }
    }

    /// Whether somebody waits for one.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.desk.waiting().is_some()
    }

    /// Whether the scan that begins `now`, which the clock calls `at`, is a snapshot. A crowded spool is for events.
    pub(crate) fn begins(&mut self, every: Duration, crowded: bool, now: Instant, at: i64) -> bool {
        self.request = self.desk.waiting();
        let since = self.last.map(|last| now.saturating_duration_since(last));
        let due = !every.is_zero() && since.is_none_or(|since| since >= every);
        if due {
            // On time on the average, though scans never are.
            let late = since.is_none_or(|since| since >= every * 2);
            self.last = if late { Some(now) } else { self.last.map(|last| last + every) };
        }
        if due && crowded && self.request.is_none() {
            self.left_out.get_or_insert(LeftOut { from: at, count: 0 }).count += 1;
            return false;
        }
        due || self.request.is_some()
    }

    /// Whether somebody waits for the snapshot of the scan at hand.
    pub(crate) fn serves(&self) -> bool {
        self.request.is_some()
    }

    /// All of the snapshot in this scan is told and safe.
    pub(crate) fn done(&mut self, scan: u64) {
        if let Some(request) = self.request.take() {
            self.desk.serve(request, scan);
        }
    }

    /// The gap of those that were left out until now.
    pub(crate) fn left_out(&mut self, to: i64) -> Option<Gap> {
        let LeftOut { from, count } = self.left_out.take()?;
        let reason =
            "snapshots were left out: more than half of the spool waits for the agent; events are not concerned";
        let (kind, reason) = ("snapshots_left_out".to_owned(), reason.to_owned());
        Some(Gap { kind, from, to: Some(to.max(from)), count: Some(count), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// The seconds from the start at which there is a snapshot, with a scan at each of these.
    fn at(due: &mut Due, start: Instant, every: Duration, seconds: impl Iterator<Item = f64>) -> Vec<f64> {
        seconds.filter(|second| due.begins(every, false, start + Duration::from_secs_f64(*second), 0)).collect()
    }

    #[test]
    fn the_first_scan_is_one_and_then_so_often_as_configured() {
        let start = Instant::now();
        let mut due = Due::default();
        // Scans that come a little late do not add up.
        let seconds = (0..200).map(|scan| f64::from(scan) * 1.01);
        let found = at(&mut due, start, MINUTE, seconds);
        assert_eq!(found, [0.0, 60.6, 120.19, 180.79]);
        // Another configuration takes effect at once; after a long pause there is one, not all that were missed.
        assert_eq!(at(&mut due, start, MINUTE / 6, [201.0, 202.0].into_iter()), [201.0]);
        assert_eq!(at(&mut due, start, MINUTE, [2000.0, 2001.0, 2060.0].into_iter()), [2000.0, 2060.0]);
        assert!(at(&mut due, start, Duration::ZERO, [9000.0].into_iter()).is_empty());
    }

    #[test]
    fn who_asks_gets_one_between_times_and_without_an_interval() {
        let desk = Desk::default();
        let mut due = Due::new(desk.clone());
        let start = Instant::now();
        assert!(!due.begins(Duration::ZERO, false, start, 0));
        let request = desk.ask();
        assert!(due.is_asked_for() && due.begins(Duration::ZERO, true, start, 0) && due.serves());
        assert_eq!(desk.answer(request), None, "not before it is told");
        due.done(7);
        assert_eq!(desk.answer(request), Some(7));
        assert!(!due.begins(Duration::ZERO, false, start, 0) && !due.serves());
    }

    #[test]
    fn a_failed_scan_leaves_who_asked_waiting_for_the_next() {
        let desk = Desk::default();
        let mut due = Due::new(desk.clone());
        let request = desk.ask();
        assert!(due.begins(Duration::ZERO, false, Instant::now(), 0));
        assert!(due.begins(Duration::ZERO, false, Instant::now(), 0));
        due.done(8);
        assert_eq!(desk.answer(request), Some(8));
    }

    #[test]
    fn what_a_crowded_spool_leaves_out_is_a_gap() {
        let start = Instant::now();
        let mut due = Due::default();
        for minute in 0..3u32 {
            assert!(!due.begins(MINUTE, true, start + MINUTE * minute, 100 + i64::from(minute)));
        }
        assert!(due.begins(MINUTE, false, start + MINUTE * 3, 103));
        let gap = due.left_out(103).unwrap();
        assert_eq!((gap.kind.as_str(), gap.from, gap.to, gap.count), ("snapshots_left_out", 100, Some(103), Some(3)));
        assert_eq!(due.left_out(104), None);
    }
}
