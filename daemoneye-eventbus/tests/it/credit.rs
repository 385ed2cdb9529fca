//! What a collector may publish, and what happens to one that publishes more.

use std::time::Duration;

use daemoneye_eventbus::{
    Credential, Credit, Payload,
    proto::{ControlPayload, EventBusMessage, HeartbeatPayload, Role, control_payload::Control},
};

use crate::{Bus, Raw, body, event, hostile, within};

const TOPIC: &str = "events.process.procmond";

fn credit(messages: u64, bytes: u64) -> Credit {
    Credit { messages, bytes }
}

async fn raw_collector(bus: &Bus) -> Raw {
    let token = bus.gate.issue_token("procmond").unwrap();
    hostile::let_in(bus, Role::Collector, "procmond", Some(&token)).await
}

impl Raw {
    async fn publish(&mut self, bytes: impl Into<Vec<u8>>) {
        let topic = TOPIC.to_owned();
        self.send(&EventBusMessage { topic, payload: Some(event(bytes)), ..EventBusMessage::default() }).await;
    }

    /// What the broker says next: credit, or nothing more until the echo of a heartbeat.
    async fn next_credit(&mut self) -> Option<Credit> {
        let heartbeat = Payload::Heartbeat(HeartbeatPayload { counter: 5 });
        self.send(&EventBusMessage { payload: Some(heartbeat), ..EventBusMessage::default() }).await;
        let mut told = None;
        loop {
            match self.read().await.unwrap().payload {
                Some(Payload::Control(ControlPayload { control: Some(Control::Credit(credit)) })) => {
                    told = Some(credit);
                }
                Some(Payload::Heartbeat(_)) => return told,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn credit(&mut self) -> Credit {
        match self.read().await.unwrap().payload {
            Some(Payload::Control(ControlPayload { control: Some(Control::Credit(credit)) })) => credit,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn without_a_receiver_there_is_no_credit() {
    let bus = Bus::start();
    let (collector, _) = bus.collector("procmond").await;
    let publishing = tokio::spawn({
        let collector = collector.clone();
        async move { collector.publish(TOPIC, event("x")).await }
    });
    // Whatever needs none passes.
    collector.subscribe("control.collector.procmond").await.unwrap();
    assert!(!collector.has_credit() && !publishing.is_finished());
    let mut events = bus.agent.subscribe("events.#").await.unwrap();
    within(collector.credited()).await;
    within(publishing).await.unwrap().unwrap();
    assert_eq!(body(within(events.recv()).await.unwrap()), b"x");
}

#[tokio::test]
async fn waiting_for_credit_ends_with_the_connection() {
    let bus = Bus::start();
    let (collector, _) = bus.collector("procmond").await;
    let publishing = tokio::spawn({
        let collector = collector.clone();
        async move { collector.publish(TOPIC, event("x")).await }
    });
    drop(bus.stop().await);
    assert!(within(publishing).await.unwrap().is_err());
    within(collector.credited()).await;
}

#[tokio::test]
async fn credit_comes_back_as_events_are_taken() {
    let bus = Bus::start();
    let mut events = bus.agent.subscribe_with("events.#", credit(4, 1 << 20)).await.unwrap();
    let mut collector = raw_collector(&bus).await;
    assert_eq!(collector.credit().await, credit(4, 1 << 20));
    for number in 0..4_u8 {
        collector.publish([number]).await;
    }
    assert_eq!(collector.next_credit().await, None, "nothing was taken");
    assert_eq!(body(within(events.recv()).await.unwrap()), [0]);
    assert_eq!(collector.credit().await.messages, 5);
    for number in 1..4_u8 {
        assert_eq!(body(within(events.recv()).await.unwrap()), [number]);
    }
    let mut told = credit(0, 0);
    while told.messages < 8 {
        told = collector.credit().await;
    }
    assert_eq!(told.messages, 8, "four are taken, four may come");
    assert_eq!(bus.gate.refused(), 0);
}

#[tokio::test]
async fn bytes_count_and_the_last_may_exceed_them() {
    let bus = Bus::start();
    let mut events = bus.agent.subscribe_with("events.#", credit(100, 1000)).await.unwrap();
    let (collector, _) = bus.collector("procmond").await;
    within(collector.publish(TOPIC, event(vec![1; 900]))).await.unwrap();
    within(collector.publish(TOPIC, event(vec![2; 100_000]))).await.unwrap();
    assert!(!collector.has_credit());
    assert_eq!(body(within(events.recv()).await.unwrap()).len(), 900);
    assert_eq!(body(within(events.recv()).await.unwrap()).len(), 100_000);
    within(collector.publish(TOPIC, event("small"))).await.unwrap();
    assert_eq!(body(within(events.recv()).await.unwrap()), b"small");
}

#[tokio::test]
async fn whoever_publishes_without_credit_is_cut_off_alone() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let mut events = bus.agent.subscribe_with("events.#", credit(2, 1 << 20)).await.unwrap();
    let mut collector = raw_collector(&bus).await;
    for number in 0..3_u8 {
        collector.publish([number]).await;
    }
    assert_eq!(collector.credit().await, credit(2, 1 << 20));
    assert!(collector.goodbye().await.contains("without credit"));
    for number in 0..2_u8 {
        assert_eq!(body(within(events.recv()).await.unwrap()), [number]);
    }
    assert_eq!(bus.gate.refused(), 1);

    let mut collector = raw_collector(&bus).await;
    collector.send(&hostile::control(Control::Credit(credit(1000, 1000)))).await;
    assert_eq!(collector.credit().await, credit(2, 1 << 20));
    assert!(collector.goodbye().await.contains("only the broker gives credit"));
    crate::echo_works(&bus.operator().await).await;
}

#[tokio::test]
async fn the_least_of_several_credits_counts() {
    let bus = Bus::start();
    let generous = bus.agent.subscribe_with("events.#", credit(8, 4096)).await.unwrap();
    let strict = bus.agent.subscribe_with("events.process.+", credit(2, 1 << 20)).await.unwrap();
    let _of_another = bus.agent.subscribe_with("events.process.other", credit(1, 1)).await.unwrap();
    let mut collector = raw_collector(&bus).await;
    assert_eq!(collector.credit().await, credit(2, 4096));
    drop(strict);
    assert_eq!(collector.credit().await, credit(8, 4096));
    drop(generous);
    assert_eq!(collector.next_credit().await, None, "what was told stays told");
}

#[tokio::test]
async fn coming_back_brings_no_credit_for_what_is_held() {
    let bus = Bus::start();
    let mut events = bus.agent.subscribe_with("events.#", credit(4, 1 << 20)).await.unwrap();
    let (collector, key) = bus.collector("procmond").await;
    for number in 0..3_u8 {
        within(collector.publish(TOPIC, event([number]))).await.unwrap();
    }
    // The broker has them when it answers this.
    collector.subscribe("control.collector.procmond").await.unwrap();
    let back = bus.collector_with("procmond", Credential::Session(key)).await.unwrap().client;
    within(collector.closed()).await;
    within(back.publish(TOPIC, event([3]))).await.unwrap();
    back.subscribe("control.collector.procmond").await.unwrap();
    assert!(!back.has_credit(), "four are held, three of them of the connection before");
    assert!(tokio::time::timeout(Duration::from_millis(100), back.publish(TOPIC, event([4]))).await.is_err());
    for number in 0..4_u8 {
        assert_eq!(body(within(events.recv()).await.unwrap()), [number]);
    }
    within(back.publish(TOPIC, event([5]))).await.unwrap();
    assert_eq!(body(within(events.recv()).await.unwrap()), [5], "the one that was given up was never sent");
}
