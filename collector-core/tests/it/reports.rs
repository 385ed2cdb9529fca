//! What a source says of how it observes reaches every agent, also one that comes later.

use crate::agent::{Agent, Shared, Site, until};
use crate::collector::{config, start, waits};
use collector_core::{Feature, SourceStatus};
use std::sync::mpsc;

#[tokio::test(flavor = "multi_thread")]
async fn another_way_of_observing_is_told_at_once_and_to_the_next_agent() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let (report, reports) = mpsc::channel();
    let collector = start(config(&site, Some(agent.token())), move |sink| {
        loop {
            // Stopping takes the sender away.
            match reports.recv() {
                Ok(status) => sink.report(status),
                Err(_) => return waits(&sink),
            }
        }
    });
    until("it is registered", || shared.lock().registrations.len() == 1).await;
    let mode = |mode: &str| shared.lock().status.as_ref().is_some_and(|status| status.mode == mode);
    until("its first status", || mode("")).await;
    let lost = Feature { name: "ptrace".into(), reason: "the ring is gone".into(), ..Feature::default() };
    let turned = Some(("connector".to_owned(), "the ring is gone".to_owned()));
    report.send(SourceStatus { mode: turned, features: vec![lost.clone()], ..SourceStatus::default() }).unwrap();
    until("the change", || mode("connector")).await;
    let status = shared.lock().status.clone().unwrap();
    assert_eq!((status.mode_reason.as_str(), &status.features), ("the ring is gone", &vec![lost.clone()]));

    agent.stop().await;
    let agent = Agent::start(&site, &shared).await;
    until("it is back", || shared.lock().registrations.len() == 2).await;
    let registrations = shared.lock().registrations.clone();
    let [first, second] = &registrations[..] else { panic!() };
    assert_eq!((first.mode.as_str(), first.mode_since, first.features.len()), ("scripted", 0, 0));
    assert_eq!((second.mode.as_str(), second.mode_since), ("connector", status.mode_since));
    assert!(second.mode_since >= first.started && second.features == [lost]);

    report.send(SourceStatus::default()).unwrap();
    until("what it began with", || mode("scripted")).await;
    assert!(shared.lock().status.as_ref().is_some_and(|now| now.mode_since > status.mode_since));
    drop(report);
    collector.stop().await.unwrap();
    agent.stop().await;
}
