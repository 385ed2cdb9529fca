//! How much one connection may send: who is cut off for it, and who is not.

use std::time::Duration;

use daemoneye_eventbus::{
    Payload,
    proto::{
        Cancel, CollectionEventPayload, EventBusMessage, HeartbeatPayload, Role, Subscribe, Unsubscribe,
        control_payload::Control,
    },
};
use tokio::task::JoinSet;

use crate::{Bus, PATIENCE, Raw, echo_works, event, floods::framed, hostile, within};

const TOO_MUCH: &str = "too many control messages: more than 1024 at once and 256 a second";

/// Reads to the end, while somebody who behaves is answered; returns the Goodbye's reason.
async fn end_of(mut raw: Raw, bus: &Bus) -> String {
    let operator = bus.operator().await;
    let mut reason = None;
    let reading = async {
        while let Some(message) = raw.read().await {
            reason = hostile::goodbye_in(&message).or(reason.take());
        }
    };
    tokio::select! {
        () = reading => {}
        () = async { loop { echo_works(&operator).await } } => {}
    }
    echo_works(&operator).await;
    reason.expect("a Goodbye before the end")
}

#[tokio::test]
async fn who_sends_control_messages_without_end_is_cut_off() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let alerts = || "alerts.#".to_owned();
    let heartbeat = Payload::Heartbeat(HeartbeatPayload { counter: 1 });
    let floods = [
        EventBusMessage { payload: Some(heartbeat), ..EventBusMessage::default() },
        hostile::control(Control::Subscribe(Subscribe { pattern: alerts(), ..Subscribe::default() })),
        hostile::control(Control::Unsubscribe(Unsubscribe { pattern: alerts() })),
        hostile::control(Control::Cancel(Cancel { correlation_id: 1 })),
    ];
    for (number, flood) in (1..).zip(floods) {
        let mut raw = hostile::let_in(&bus, Role::Operator, "", None).await;
        // More than come back while they are handled, on however slow a machine: this is one write, of which the broker
        // reads as much as it allows.
        raw.write(&framed(&flood).repeat(8 * 1024)).await;
        assert_eq!(end_of(raw, &bus).await, TOO_MUCH, "{flood:?}");
        assert_eq!(bus.gate.refused(), number);
    }
}

#[tokio::test]
async fn a_status_without_end_is_cut_off() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let mut statuses = bus.agent.subscribe("control.health.+").await.unwrap();
    let taking = tokio::spawn(async move {
        let mut taken = 0;
        while statuses.recv().await.is_some() {
            taken += 1;
        }
        taken
    });
    let token = bus.gate.issue_token("procmond").unwrap();
    let mut raw = hostile::let_in(&bus, Role::Collector, "procmond", Some(&token)).await;
    let status = hostile::control(Control::Message(b"well".to_vec()));
    let status = EventBusMessage { topic: "control.health.procmond".into(), ..status };
    raw.write(&framed(&status).repeat(8 * 1024)).await;
    assert_eq!(end_of(raw, &bus).await, TOO_MUCH);
    bus.stop().await;
    let taken = within(taking).await.unwrap();
    assert!((1024..8 * 1024).contains(&taken), "what was within the bound arrived: {taken}");
}

#[tokio::test]
async fn a_long_control_message_counts_as_many() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let topic = "x".repeat(1 << 20);
    let heartbeat = Payload::Heartbeat(HeartbeatPayload { counter: 1 });
    let mut raw = hostile::let_in(&bus, Role::Operator, "", None).await;
    raw.write(&framed(&EventBusMessage { topic, payload: Some(heartbeat), sender: None })).await;
    assert_eq!(end_of(raw, &bus).await, TOO_MUCH);
}

/// As busy as a program can be that uses this crate's client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_operator_is_not_cut_off() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let operator = bus.operator().await;
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        let operator = operator.clone();
        callers.spawn(async move {
            for _ in 0..100 {
                echo_works(&operator).await;
            }
        });
    }
    while let Some(called) = within(callers.join_next()).await {
        called.unwrap();
    }
    // All subscriptions and all calls that it may have, and none of them wanted in the end.
    let mut subscriptions = Vec::new();
    for number in 0..64 {
        subscriptions.push(within(operator.subscribe(&format!("alerts.x{number}"))).await.unwrap());
    }
    let mut calls = Vec::new();
    for _ in 0..64 {
        calls.push(operator.call_stream("requests.echo", vec![1; 1000], PATIENCE).await.unwrap());
    }
    drop((subscriptions, calls));
    echo_works(&operator).await;
    assert_eq!(bus.gate.refused(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_at_full_speed_is_not_cut_off() {
    const EVENTS: u32 = 30_000;
    let bus = Bus::start();
    bus.serve_echo().await;
    let operator = bus.operator().await;
    let mut events = bus.agent.subscribe("events.#").await.unwrap();
    let (collector, _) = bus.collector("procmond").await;
    let publishing = tokio::spawn(async move {
        for number in 0..EVENTS {
            collector.publish("events.process.procmond", event(number.to_le_bytes())).await.unwrap();
        }
        collector
    });
    for number in 0..EVENTS {
        let message = within(events.recv()).await.unwrap();
        let Some(Payload::CollectionEvent(CollectionEventPayload { message })) = message.payload else { panic!() };
        assert_eq!(message, number.to_le_bytes());
        if number % 1000 == 0 {
            echo_works(&operator).await;
        }
    }
    let collector = within(publishing).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(1), collector.closed()).await.is_err());
    assert_eq!(bus.gate.refused(), 0);
}
