//! Agents that know more of an epoch than the spool, or nothing of it.

use crate::agent::{Agent, Shared, Site, State, until};
use crate::collector::{config, emits, item, start, waits};
use collector_core::Epoch;
use std::sync::mpsc::channel;
use std::time::Duration;
use tokio::sync::mpsc;

/// The status, which comes every five seconds, says that everything was acknowledged.
async fn acknowledged(shared: &Shared) {
    shared.lock().status = None;
    until("all acknowledged", || shared.lock().status.as_ref().is_some_and(|status| status.spool_items == 0)).await;
}

/// The sequences that are committed of this epoch.
fn sequences(shared: &Shared, epoch: Epoch) -> Vec<u64> {
    shared.lock().committed.keys().filter(|(of, _)| *of == epoch.0).map(|(_, sequence)| *sequence).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_knows_later_sequences_gets_a_new_epoch() {
    let site = Site::new();
    let shared = Shared::new(State { acknowledges: true, ahead: Some(100), ..State::default() });
    let agent = Agent::start(&site, &shared).await;
    let (registered, mut wait) = mpsc::channel::<()>(1);
    let collector = start(config(&site, Some(agent.token())), move |sink| {
        let _ = wait.blocking_recv();
        emits(0..50)(sink)
    });
    until("registered anew", || shared.lock().registrations.len() == 2).await;
    drop(registered);
    until("committed", || shared.committed() == 50).await;
    {
        let state = shared.lock();
        let [first, second] = &state.registrations[..] else { panic!() };
        assert_ne!(first.epoch, second.epoch);
        assert!(state.committed.keys().all(|(epoch, _)| *epoch == second.epoch));
    }
    collector.stop().await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lost_its_store_is_told_everything_anew_once() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let (more, extra) = channel();
    let (told, epochs) = channel();
    let collector = start(config(&site, Some(agent.token())), move |sink| {
        let mut epoch = None;
        loop {
            if epoch != Some(sink.epoch()) {
                epoch = Some(sink.epoch());
                told.send(sink.epoch())?;
                (0..10).try_for_each(|number| sink.emit(item(number, 20)))?;
            }
            extra.try_iter().try_for_each(|number| sink.emit(item(number, 20)))?;
            sink.pause(Duration::from_millis(5))?;
        }
    });
    acknowledged(&shared).await;
    let first = epochs.recv().unwrap();
    assert_eq!(sequences(&shared, first), (1..=10).collect::<Vec<_>>());
    shared.lock().acknowledges = false;
    (10..15).for_each(|number| more.send(number).unwrap());
    until("five that are not acknowledged", || shared.committed() == 15).await;
    agent.stop().await;

    {
        let mut state = shared.lock();
        state.committed.clear();
        state.acknowledges = true;
    }
    let agent = Agent::start(&site, &shared).await;
    until("committed anew", || shared.committed() == 15).await;
    let second = epochs.recv().unwrap();
    assert_eq!(sequences(&shared, first), (11..=15).collect::<Vec<_>>(), "what was not acknowledged, as it was");
    assert_eq!(sequences(&shared, second), (1..=10).collect::<Vec<_>>());
    acknowledged(&shared).await;
    agent.stop().await;

    let agent = Agent::start(&site, &shared).await;
    until("registered again", || shared.lock().registrations.len() == 4).await;
    more.send(99).unwrap();
    until("one more", || shared.committed() == 16).await;
    let registered: Vec<_> = shared.lock().registrations.iter().map(|it| it.epoch.clone()).collect();
    assert_eq!(registered, [first, first, second, second].map(|epoch| epoch.0.to_vec()));
    assert!(epochs.try_recv().is_err(), "nothing is told anew without need");
    collector.stop().await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_replaced_between_two_runs_is_noticed() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let mut config = config(&site, Some(agent.token()));
    // Segments of 8 KiB.
    config.spool_max_bytes = 64 * 1024;
    let collector = start(config.clone(), emits(0..1_000));
    until("committed", || shared.committed() == 1_000).await;
    acknowledged(&shared).await;
    collector.stop().await.unwrap();

    let before = shared.lock().registrations.last().unwrap().epoch.clone();
    let before = Epoch::try_from(before.as_slice()).unwrap();
    shared.lock().committed.clear();
    let (told, epochs) = channel();
    let collector = start(config, move |sink| {
        while sink.epoch() == before {
            sink.pause(Duration::from_millis(5))?;
        }
        told.send(sink.epoch())?;
        sink.emit(item(0, 20))?;
        waits(&sink)
    });
    let now = tokio::task::spawn_blocking(move || epochs.recv_timeout(Duration::from_secs(30)).unwrap()).await.unwrap();
    until("committed anew", || sequences(&shared, now) == [1]).await;
    let registered: Vec<_> = shared.lock().registrations.iter().map(|it| it.epoch.clone()).collect();
    assert_eq!(registered, [before, before, now].map(|epoch| epoch.0.to_vec()));
    collector.stop().await.unwrap();
    agent.stop().await;
}
