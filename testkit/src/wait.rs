//! Waiting for something to become true, with a limit.

use std::thread::sleep;
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(20);

/// An answer that is either there or not yet: a `bool` or an `Option`.
pub trait Readiness {
    /// What is there once it is there.
    type Value;
    /// The value, or `None` for not yet.
    fn ready(self) -> Option<Self::Value>;
}

impl Readiness for bool {
    type Value = ();
    fn ready(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Readiness for Option<T> {
    type Value = T;
    fn ready(self) -> Option<T> {
        self
    }
}

/// Asks until the answer is there, and returns it.
///
/// # Panics
///
/// When it is not there after `timeout`; the message says that `what` did not happen.
pub fn wait_for<R: Readiness>(what: &str, timeout: Duration, ask: impl FnMut() -> R) -> R::Value {
    match poll(timeout, ask) {
        Some(value) => value,
        None => panic!("waited {timeout:?} in vain for {what}"),
    }
}

/// Asks until the answer is there, or until `timeout` is over; asks at least once.
pub fn poll<R: Readiness>(timeout: Duration, mut ask: impl FnMut() -> R) -> Option<R::Value> {
    let start = Instant::now();
    loop {
        if let Some(value) = ask().ready() {
            return Some(value);
        }
        if start.elapsed() >= timeout {
            return None;
        }
        sleep(STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_answer() {
        let mut asked = 0;
        let answer = wait_for("the third question", Duration::from_secs(5), || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(answer, 3);
    }

    #[test]
    #[should_panic(expected = "in vain for a miracle")]
    fn waiting_in_vain_names_what_was_waited_for() {
        wait_for("a miracle", Duration::ZERO, || false);
    }
}
