//! Nothing that was emitted is lost, and nothing is committed under two numbers.

use crate::agent::{Agent, Shared, Site, State, soon, until};
use crate::collector::{config, emits, item, start, waits};
use collector_core::{CollectorConfig, EmitError, Ended, FlushError, MAX_ITEM, SourceStatus};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

fn spool_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("spool")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// What was committed is exactly the items of this range, each once, in order, whatever their epochs.
fn assert_committed(shared: &Shared, items: std::ops::Range<usize>) {
    use prost::Message;
    let state = shared.lock();
    let mut expected: Vec<Vec<u8>> = items.map(|number| item(number, 20).encode_to_vec()).collect();
    let mut committed: Vec<Vec<u8>> = state.committed.values().cloned().collect();
    expected.sort();
    committed.sort();
    assert_eq!(committed.len(), expected.len());
    assert!(committed == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_emitted_is_committed_and_then_trimmed() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let collector = start(config(&site, Some(agent.token())), emits(0..40_000));
    until("all committed", || shared.committed() == 40_000).await;
    until("trimmed", || spool_bytes(&site.collector_dir()) < 1_200_000).await;
    {
        let state = shared.lock();
        let sequences: Vec<u64> = state.committed.keys().map(|(_, sequence)| *sequence).collect();
        assert_eq!(sequences, (1..=40_000).collect::<Vec<_>>());
        let [registration] = &state.registrations[..] else { panic!("{} registrations", state.registrations.len()) };
        assert_eq!(registration.mode, "scripted");
        assert_eq!(registration.limitations, ["sees nothing real"]);
        assert_eq!((registration.epoch.len(), registration.run.len()), (16, 16));
        assert_eq!(registration.pid, std::process::id());
    }
    assert_committed(&shared, 0..40_000);
    assert_eq!(shared.lock().repeated, 0);
    assert_eq!(collector.stop().await.unwrap(), Ended::Stopped);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acknowledgements_the_spool_grows_and_the_window_does_not() {
    let (site, shared) = (Site::new(), Shared::new(State::default()));
    let agent = Agent::start(&site, &shared).await;
    let (emitted, mut all_emitted) = mpsc::channel(1);
    let collector = start(config(&site, Some(agent.token())), move |sink| {
        for number in 0..20_000 {
            sink.emit(item(number, 20))?;
        }
        sink.flush()?;
        emitted.blocking_send(()).unwrap();
        waits(&sink)
    });
    soon("all spooled", all_emitted.recv()).await;
    until("the window is full", || shared.lock().batches == 16).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(shared.lock().batches, 16);
    assert!(spool_bytes(&site.collector_dir()) > 20_000 * 20);
    collector.kill().await;

    // The next run replays the same numbers, without asking the source.
    shared.lock().acknowledges = true;
    let collector = start(config(&site, None), emits(20_000..20_010));
    until("all committed", || shared.committed() == 20_010).await;
    assert_committed(&shared, 0..20_010);
    let epochs: std::collections::BTreeSet<_> =
        shared.lock().committed.keys().map(|(epoch, _)| epoch.clone()).collect();
    assert_eq!(epochs.len(), 1, "the epoch goes on");
    assert_eq!(shared.lock().repeated, 0, "what the registration's reply covers is not sent again");
    collector.stop().await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_gets_all_that_was_spooled_meanwhile() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let (numbers, mut to_emit) = mpsc::channel::<std::ops::Range<usize>>(8);
    let collector = start(config(&site, Some(agent.token())), move |sink| {
        while let Some(range) = to_emit.blocking_recv() {
            for number in range {
                sink.emit(item(number, 20))?;
            }
        }
        waits(&sink)
    });
    numbers.send(0..100).await.unwrap();
    until("the first hundred", || shared.committed() == 100).await;
    // Committed, but the acknowledgement is lost with the agent.
    shared.lock().acknowledges = false;
    numbers.send(100..200).await.unwrap();
    until("some of the second hundred", || shared.committed() > 100).await;
    agent.stop().await;
    numbers.send(200..5_000).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    shared.lock().acknowledges = true;
    let agent = Agent::start(&site, &shared).await;
    until("all", || shared.committed() == 5_000).await;
    assert_eq!(shared.lock().repeated, 0);
    drop(numbers);
    assert_committed(&shared, 0..5_000);
    assert_eq!(shared.lock().registrations.len(), 2);
    collector.stop().await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_item_travels_and_a_larger_one_is_refused() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let collector = start(config(&site, Some(agent.token())), |sink| {
        let overhead = prost::Message::encoded_len(&item(1, MAX_ITEM)) - MAX_ITEM;
        let refused = sink.emit(item(1, MAX_ITEM - overhead + 1));
        assert_eq!(refused, Err(EmitError::TooLarge { bytes: MAX_ITEM + 1, limit: MAX_ITEM }));
        sink.emit(item(1, MAX_ITEM - overhead))?;
        sink.emit(item(2, 20))?;
        waits(&sink)
    });
    until("committed", || shared.committed() == 2).await;
    assert_eq!(shared.lock().batches, 2, "it goes alone");
    collector.stop().await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_hears_how_the_collector_is() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let token = agent.token();
    agent.stop().await;
    let (reported, mut report) = mpsc::channel(1);
    let mut config = config(&site, Some(token));
    config.spool_max_bytes = 1024 * 1024;
    let running = start(config, move |sink| {
        sink.report(SourceStatus {
            scan_interval_ms: 1234,
            last_error: Some("/proc is odd".into()),
            ..Default::default()
        });
        sink.emit(item(1, 20))?;
        sink.flush()?;
        reported.blocking_send(()).unwrap();
        waits(&sink)
    });
    soon("reported", report.recv()).await;
    // The token died with the first agent: only the refusal can come of it.
    let agent = Agent::start(&site, &shared).await;
    let refused = running.ended().await.unwrap_err();
    assert!(refused.to_string().contains("refuse"), "{refused}");
    let mut config = crate::collector::config(&site, Some(agent.token()));
    config.spool_max_bytes = 1024 * 1024;
    let running = start(config, |sink| {
        sink.report(SourceStatus {
            scan_interval_ms: 1234,
            last_error: Some("/proc is odd".into()),
            ..Default::default()
        });
        waits(&sink)
    });
    until("a status that the source is in", || {
        shared.lock().status.as_ref().is_some_and(|status| status.scan_interval_ms == 1234 && status.spool_items == 0)
    })
    .await;
    let status = shared.lock().status.clone().unwrap();
    assert_eq!((status.last_error.as_str(), status.spool_limit_bytes), ("/proc is odd", 1024 * 1024));
    assert_eq!(shared.committed(), 1, "what the refused run left in the spool");
    running.stop().await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn items_that_the_disk_refuses_are_written_when_it_accepts_them_again() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let mut config = config(&site, Some(agent.token()));
    // Segments of 8 KiB.
    config.spool_max_bytes = 64 * 1024;
    let spool = site.collector_dir().join("spool");
    let (seen, away) = (shared.clone(), spool.clone());
    let (refused, mut was_refused) = mpsc::channel(1);
    let collector = start(config, move |sink| {
        for number in 0..10 {
            sink.emit(item(number, 20))?;
        }
        sink.flush()?;
        while seen.committed() < 10 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_dir_all(&away)?;
        for number in 10..1_000 {
            sink.emit(item(number, 20))?;
        }
        refused.blocking_send(sink.flush()).unwrap();
        while sink.flush().is_err() {
            sink.pause(Duration::from_millis(10))?;
        }
        waits(&sink)
    });
    let flushed = soon("a flush", was_refused.recv()).await;
    assert_eq!(flushed, Some(Err(FlushError::Unwritten)));
    until("the agent hears of it", || {
        shared.lock().status.as_ref().is_some_and(|status| status.last_error.contains(spool.to_str().unwrap()))
    })
    .await;
    assert!(shared.committed() < 1_000);
    std::fs::create_dir(&spool).unwrap();
    until("all committed", || shared.committed() == 1_000).await;
    assert_committed(&shared, 0..1_000);
    collector.stop().await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_told_while_more_than_half_of_the_spool_waits() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let bounded = CollectorConfig { spool_max_bytes: 1 << 20, ..config(&site, Some(agent.token())) };
    let (tells, mut told) = mpsc::channel(1);
    let collector = start(bounded, move |sink| {
        let mut number = 0;
        while !sink.is_crowded() {
            sink.emit(item(number, 1_000))?;
            sink.flush()?;
            number += 1;
        }
        tells.blocking_send(number).unwrap();
        while sink.is_crowded() {
            sink.pause(Duration::from_millis(1))?;
        }
        tells.blocking_send(number).unwrap();
        waits(&sink)
    });
    until("registered", || !shared.lock().registrations.is_empty()).await;
    agent.stop().await;
    let emitted = soon("a crowded spool", told.recv()).await.unwrap();
    let held = spool_bytes(&site.collector_dir());
    assert!((1 << 19..1 << 20).contains(&held), "{held} bytes after {emitted} items");
    let agent = Agent::start(&site, &shared).await;
    soon("room in the spool", told.recv()).await.unwrap();
    until("all committed", || shared.committed() == emitted).await;
    assert_eq!(collector.stop().await.unwrap(), Ended::Stopped);
    agent.stop().await;
}
