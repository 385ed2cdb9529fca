//! How a collector ends, and what it does first.

use crate::agent::{Agent, NAME, Shared, Site, State, until};
use crate::collector::{config, emits, item, start, waits};
use collector_core::{CollectorError, DataDirLock, EmitError, Ended, SourceError};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_shutdown_drains_the_source() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let collector = start(config(&site, Some(agent.token())), |sink| {
        sink.emit(item(0, 20))?;
        // A `Stopped` is not a failure.
        let stopped = waits(&sink);
        for number in 1..2_000 {
            sink.emit(item(number, 20))?;
        }
        stopped
    });
    until("the first", || shared.committed() == 1).await;
    agent.shut_collector_down().await;
    assert_eq!(collector.ended().await.unwrap(), Ended::Stopped);
    assert_eq!(shared.committed(), 2_000, "what came while stopping is committed before the end");
    assert!(!DataDirLock::is_held(&site.collector_dir()));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_end_and_an_agent_that_does_not_answer_delay_the_end_by_two_seconds() {
    let (site, shared) = (Site::new(), Shared::new(State::default()));
    let agent = Agent::start(&site, &shared).await;
    let (release, hold) = std::sync::mpsc::channel::<()>();
    let (ended, source_ended) = std::sync::mpsc::channel();
    let collector = start(config(&site, Some(agent.token())), move |sink| {
        sink.emit(item(0, 20))?;
        let _ = hold.recv();
        ended.send(sink.emit(item(1, 20))).unwrap();
        Ok(())
    });
    until("received", || shared.committed() == 1).await;
    let started = Instant::now();
    assert_eq!(collector.stop().await.unwrap(), Ended::Stopped);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(8), "{took:?}");
    drop(release);
    let late = tokio::task::spawn_blocking(move || source_ended.recv_timeout(Duration::from_secs(10)));
    assert_eq!(late.await.unwrap().unwrap(), Err(EmitError::Stopped));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_ends_and_keeps_its_spool() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let mut with_timeout = config(&site, Some(agent.token()));
    with_timeout.orphan_timeout = Some(Duration::from_millis(600));
    let (go, mut wait) = tokio::sync::mpsc::channel::<()>(1);
    let collector = start(with_timeout, move |sink| {
        let _ = wait.blocking_recv();
        emits(0..10)(sink)
    });
    until("registered", || !shared.lock().registrations.is_empty()).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    let alone = Instant::now();
    agent.stop().await;
    drop(go);
    assert_eq!(collector.ended().await.unwrap(), Ended::Orphaned);
    assert!(alone.elapsed() >= Duration::from_millis(600), "the time with an agent does not count");
    assert_eq!(shared.committed(), 0);

    let agent = Agent::start(&site, &shared).await;
    let collector = start(config(&site, None), |sink| waits(&sink));
    until("replayed", || shared.committed() == 10).await;
    collector.stop().await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_panics_or_gives_up_ends_the_collector_with_its_reason() {
    type Script = fn() -> Result<(), SourceError>;
    let scripts: [(Script, &str); 4] = [
        (|| Err(std::io::Error::other("no /proc here").into()), "no /proc here"),
        (|| Err(SourceError::message("nothing to see")), "nothing to see"),
        (|| panic!("a defect in the source"), "panicked: a defect in the source"),
        (|| Ok(()), "ended by itself"),
    ];
    for (script, reason) in scripts {
        let (site, shared) = (Site::new(), Shared::acknowledging());
        let agent = Agent::start(&site, &shared).await;
        let seen = shared.clone();
        let collector = start(config(&site, Some(agent.token())), move |sink| {
            sink.emit(item(0, 20))?;
            while seen.committed() == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            sink.emit(item(1, 20))?;
            script()
        });
        let error = collector.ended().await.unwrap_err();
        assert!(matches!(&error, CollectorError::Source { name, .. } if name == NAME), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(shared.committed(), 2, "what it told last is committed before the end");
        agent.stop().await;
    }
}
