//! Where tasks ask for a snapshot, and hear of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Requests for snapshots; clones are the same desk. One snapshot serves all that were made before it began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    asked: u64,
    served: u64,
    scan: u64,
}

impl Desk {
    /// Asks for a snapshot, and gives the number of the request.
    pub(crate) fn ask(&self) -> u64 {
        let mut state = self.lock();
        state.asked += 1;
        state.asked
    }

    /// The newest request, if it is not served.
    pub(crate) fn waiting(&self) -> Option<u64> {
        let state = self.lock();
        (state.asked > state.served).then_some(state.asked)
    }

    /// Serves this request and those before it with the snapshot of this scan.
    pub(crate) fn serve(&self, request: u64, scan: u64) {
        let mut state = self.lock();
        (state.served, state.scan) = (request, scan);
    }

    /// The scan whose snapshot served this request, or a later one.
    pub(crate) fn answer(&self, request: u64) -> Option<u64> {
        let state = self.lock();
        (state.served >= request).then_some(state.scan)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Desk;

    #[test]
    fn a_snapshot_serves_what_was_asked_before_it_began_and_nothing_after() {
        let desk = Desk::default();
        assert_eq!(desk.waiting(), None);
        let (first, second) = (desk.ask(), desk.ask());
        assert_eq!(desk.waiting(), Some(second));
        let third = desk.ask();
        desk.serve(second, 7);
        assert_eq!([first, second, third].map(|request| desk.answer(request)), [Some(7), Some(7), None]);
        assert_eq!(desk.waiting(), Some(third));
    }
}
