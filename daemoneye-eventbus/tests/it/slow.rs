//! Readers that do not read: who waits, who is cut off, and what may pile up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use daemoneye_eventbus::{
    Credential,
    proto::{Role, Subscribe, control_payload::Control},
};

use crate::{Bus, PATIENCE, alert, body, echo_works, event, hostile, within};

const MIB: usize = 1024 * 1024;

/// Waits until a counter has stood still for a while, and returns it.
async fn stalled_at(counter: &AtomicUsize) -> usize {
    within(async {
        let mut last = counter.load(Ordering::Relaxed);
        let mut quiet = 0;
        while quiet < 15 || last == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = counter.load(Ordering::Relaxed);
            quiet = if now == last { quiet + 1 } else { 0 };
            last = now;
        }
        last
    })
    .await
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_cut_off_and_others_go_on() {
    let bus = Bus::start_with(tempfile::tempdir().unwrap(), |config| config.queue_messages = 64);
    let operator = bus.operator().await;
    let mut alerts = operator.subscribe("alerts.#").await.unwrap();
    let mut slow = hostile::let_in(&bus, Role::Operator, "", None).await;
    let alerts_too = Subscribe { pattern: "alerts.#".into(), ..Subscribe::default() };
    slow.send(&hostile::control(Control::Subscribe(alerts_too))).await;
    slow.settle().await;

    let mut sent = 0_u32;
    while bus.gate.refused() == 0 {
        assert!(sent < 10_000, "the slow one is still there");
        let mut bytes = sent.to_le_bytes().to_vec();
        bytes.resize(8 * 1024, 0);
        within(bus.agent.publish("alerts.high", alert(bytes))).await.unwrap();
        let message = within(alerts.recv()).await.unwrap();
        assert_eq!(body(message)[..4], sent.to_le_bytes());
        sent += 1;
    }
    let mut peers = bus.gate.connected();
    within(peers.wait_for(|peers| peers.len() == 1)).await.unwrap();
    // What had been queued for it and the reason are still there for a moment.
    let (mut got, mut reason) = (0, None);
    while let Some(message) = slow.read().await {
        match hostile::goodbye_in(&message) {
            None => got += 1,
            given => reason = given,
        }
    }
    assert!(got < sent, "all {sent} were kept for it");
    assert!(reason.is_some_and(|reason| reason.contains("slow consumer")));
    bus.agent.publish("alerts.high", alert("after")).await.unwrap();
    assert_eq!(body(within(alerts.recv()).await.unwrap()), b"after");
}

#[tokio::test]
async fn a_slow_reader_of_a_large_answer_holds_up_that_answer_alone() {
    const PARTS: usize = 300;
    let bus = Bus::start();
    bus.serve_echo().await;
    let mut requests = bus.agent.serve("requests.query").await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Some(mut request) = requests.recv().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                for number in 0..PARTS {
                    let mut part = vec![0; MIB];
                    part[..8].copy_from_slice(&number.to_le_bytes());
                    if request.send_part(part).await.is_err() {
                        return;
                    }
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                request.respond(Vec::new()).await;
            });
        }
    });

    let slow = bus.operator().await;
    let mut parts = slow.call_stream("requests.query", Vec::new(), PATIENCE).await.unwrap();
    let stalled = stalled_at(&sent).await;
    assert!(stalled <= 24, "{stalled} MiB of {PARTS} wait for a reader that does not read");

    let other = bus.operator().await;
    echo_works(&other).await;
    within(other.subscribe("alerts.#")).await.unwrap();
    let mut second = other.call_stream("requests.query", Vec::new(), PATIENCE).await.unwrap();
    for _ in 0..=PARTS {
        within(second.next()).await.unwrap().unwrap();
    }
    assert_eq!(sent.load(Ordering::Relaxed), stalled + PARTS, "the slow one is still where it was");

    for number in 0..PARTS {
        let part = within(parts.next()).await.unwrap().unwrap();
        assert_eq!((part.len(), &part[..8]), (MIB, &number.to_le_bytes()[..]));
    }
    assert_eq!(within(parts.next()).await, Some(Ok(Vec::new())));
    assert_eq!(parts.next().await, None);
    assert_eq!(bus.gate.refused(), 0, "nobody was cut off");
}

#[tokio::test]
async fn a_slow_reader_that_leaves_frees_the_server() {
    let bus = Bus::start();
    let mut requests = bus.agent.serve("requests.query").await.unwrap();
    let server = tokio::spawn(async move {
        let mut request = requests.recv().await.unwrap();
        while request.send_part(vec![0; MIB]).await.is_ok() {}
    });
    let operator = bus.operator().await;
    let parts = operator.call_stream("requests.query", Vec::new(), PATIENCE).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!server.is_finished(), "it waits for room");
    drop((parts, operator));
    within(server).await.unwrap();
}

#[tokio::test]
async fn a_slow_agent_makes_the_collector_wait_and_loses_nothing() {
    const EVENTS: usize = 100;
    let bus = Bus::start();
    bus.serve_echo().await;
    let mut events = bus.agent.subscribe("events.#").await.unwrap();
    let (collector, _) = bus.collector("procmond").await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    tokio::spawn(async move {
        for number in 0..EVENTS {
            let mut bytes = number.to_le_bytes().to_vec();
            bytes.resize(MIB, 0);
            collector.publish("events.process.procmond", event(bytes)).await.unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
        }
        collector.closed().await;
    });
    let stalled = stalled_at(&sent).await;
    assert!(stalled <= 24, "{stalled} MiB wait for an agent that does not take them");
    echo_works(&bus.operator().await).await;
    for number in 0..EVENTS {
        assert_eq!(body(within(events.recv()).await.unwrap())[..8], number.to_le_bytes());
    }
    assert_eq!(bus.gate.refused(), 0, "nobody was cut off");
}

#[tokio::test]
async fn coming_back_makes_no_room() {
    let bus = Bus::start();
    let mut events = bus.agent.subscribe("events.#").await.unwrap();
    let (mut collector, key) = bus.collector("procmond").await;
    for _ in 0..6 {
        while let Ok(published) = tokio::time::timeout(
            Duration::from_millis(200),
            collector.publish("events.process.procmond", event(vec![0; MIB])),
        )
        .await
        {
            published.unwrap();
        }
        collector = bus.collector_with("procmond", Credential::Session(key.clone())).await.unwrap().client;
    }
    drop(collector);
    let mut peers = bus.gate.connected();
    within(peers.wait_for(Vec::is_empty)).await.unwrap();
    let mut held = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(300), events.recv()).await {
        held += 1;
    }
    assert!((1..=9).contains(&held), "{held} MiB were kept for one collector");
}
