//! Questions to file systems, asked on a thread of their own: one that does not answer holds up nobody else.
//!
//! Who asks waits a little for the answer, which mostly comes in microseconds. Without one he goes on, and no further question is
//! taken until the thread is free again. A file system may as well answer each question just in time: so there is an allowance
//! for waiting, which grows again slowly, and without it nothing is asked.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// So long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(250);
/// So long all answers are waited for, while the allowance does not grow.
const ALLOWANCE: Duration = Duration::from_secs(1);
/// The allowance grows by one part of so many of the time that goes by.
const PART: u32 = 20;

type Question = Box<dyn FnOnce() + Send>;

/// What asks.
pub(super) struct Aside {
    questions: SyncSender<Question>,
    /// Tells when the thread, which has not answered in time, is free again.
    busy: Option<Receiver<()>>,
    allowance: Duration,
    asked: Instant,
}

impl Aside {
    /// Starts the thread, which ends with this; one that is held up, with the process.
    pub(super) fn start() -> io::Result<Self> {
        // One question at a time.
        let (questions, taken) = sync_channel::<Question>(1);
        std::thread::Builder::new().name("procmond-files".to_owned()).spawn(move || {
            while let Ok(question) = taken.recv() {
                question();
            }
        })?;
        Ok(Self { questions, busy: None, allowance: ALLOWANCE, asked: Instant::now() })
    }

    /// The answer; none where it does not come in time, or nothing can be asked now.
    pub(super) fn ask<T: Send + 'static>(&mut self, question: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let begun = Instant::now();
        self.allowance = ALLOWANCE.min(self.allowance + begun.saturating_duration_since(self.asked) / PART);
        self.asked = begun;
        if self.busy.as_ref().is_some_and(|busy| busy.try_recv() == Err(TryRecvError::Empty)) {
            return None;
        }
        self.busy = None;
        let patience = PATIENCE.min(self.allowance);
        if patience.is_zero() {
            return None;
        }
        let (answer, answered) = sync_channel(1);
        let (free, freed) = sync_channel(1);
        let asked = self.questions.try_send(Box::new(move || {
            // Who has asked may not wait any more.
            let _ = answer.send(question());
            let _ = free.send(());
        }));
        asked.ok()?;
        let given = answered.recv_timeout(patience).ok();
        if given.is_none() {
            self.busy = Some(freed);
        }
        self.allowance = self.allowance.saturating_sub(begun.elapsed());
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn who_does_not_answer_is_not_waited_for_again_until_he_has() {
        let mut aside = Aside::start().unwrap();
        assert_eq!(aside.ask(|| 1), Some(1));
        let (answer, hangs) = channel::<()>();
        assert_eq!(aside.ask(move || hangs.recv()), None);
        for _ in 0..1000 {
            assert_eq!(aside.ask(|| 2), None, "nothing is asked, and nothing waited for");
        }
        assert!(aside.questions.try_send(Box::new(|| ())).is_ok(), "no question waits behind it");
        answer.send(()).unwrap();
        testkit::wait_for("an answer", Duration::from_secs(20), || aside.ask(|| 3) == Some(3));
    }

    #[test]
    fn slow_answers_use_up_what_may_be_waited() {
        let mut aside = Aside::start().unwrap();
        aside.allowance = Duration::ZERO;
        // As if no time had gone by since the last question.
        aside.asked = Instant::now() + Duration::from_secs(3600);
        assert_eq!(aside.ask(|| 1), None);
        aside.asked = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        assert_eq!(aside.ask(|| 2), Some(2));
        assert!(aside.allowance <= ALLOWANCE);
        let before = aside.allowance;
        aside.asked = Instant::now() + Duration::from_secs(3600);
        assert_eq!(aside.ask(|| std::thread::sleep(Duration::from_millis(20))), Some(()));
        assert!(aside.allowance + Duration::from_millis(20) <= before);
    }
}
