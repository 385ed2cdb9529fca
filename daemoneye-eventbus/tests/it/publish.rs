//! Publish and subscribe, and who may.

use daemoneye_eventbus::proto::{Role, Sender};

use crate::{Bus, alert, body, closed_because, event, within};

#[tokio::test]
async fn events_arrive_in_order_and_say_who_sent_them() {
    let bus = Bus::start();
    let mut events = bus.agent.subscribe("events.#").await.unwrap();
    let (collector, _) = bus.collector("procmond").await;
    for number in 0..5_000_u32 {
        collector.publish("events.process.procmond", event(number.to_le_bytes())).await.unwrap();
        if number % 100 == 99 {
            for expected in number - 99..=number {
                let message = within(events.recv()).await.unwrap();
                assert_eq!(message.topic, "events.process.procmond");
                let Sender { role, name, pid, .. } = message.sender.clone().unwrap();
                assert_eq!((role, name.as_str(), pid), (Role::Collector.into(), "procmond", Some(std::process::id())));
                assert_eq!(body(message), expected.to_le_bytes());
            }
        }
    }
}

#[tokio::test]
async fn a_forged_sender_is_replaced() {
    let bus = Bus::start();
    let mut events = bus.agent.subscribe("events.#").await.unwrap();
    let token = bus.gate.issue_token("procmond").unwrap();
    let mut raw = crate::hostile::let_in(&bus, Role::Collector, "procmond", Some(&token)).await;
    raw.send(&daemoneye_eventbus::proto::EventBusMessage {
        topic: "events.process.procmond".into(),
        sender: Some(Sender {
            role: Role::Agent.into(),
            name: "agent".into(),
            uid: Some(0),
            pid: Some(1),
            connection: 1,
        }),
        payload: Some(event("x")),
    })
    .await;
    let sender = within(events.recv()).await.unwrap().sender.unwrap();
    assert_eq!(
        (sender.role(), sender.name.as_str(), sender.pid),
        (Role::Collector, "procmond", Some(std::process::id()))
    );
}

#[tokio::test]
async fn the_agent_reaches_the_collector_that_it_means() {
    let bus = Bus::start();
    let (first, _) = bus.collector("first").await;
    let (second, _) = bus.collector("second").await;
    let mut to_first = first.subscribe("control.collector.first").await.unwrap();
    let mut to_second = second.subscribe("control.collector.second").await.unwrap();
    bus.agent.publish("control.collector.first", event("1")).await.unwrap();
    bus.agent.publish("control.collector.second", event("2")).await.unwrap();
    assert_eq!(body(within(to_first.recv()).await.unwrap()), b"1");
    assert_eq!(body(within(to_second.recv()).await.unwrap()), b"2");
}

#[tokio::test]
async fn every_subscription_gets_one_copy() {
    let bus = Bus::start();
    let operator = bus.operator().await;
    let mut all = operator.subscribe("alerts.#").await.unwrap();
    let mut high = operator.subscribe("alerts.high").await.unwrap();
    let mut own = bus.agent.subscribe("alerts.+").await.unwrap();
    bus.agent.publish("alerts.high", alert("1")).await.unwrap();
    bus.agent.publish("alerts.low", alert("2")).await.unwrap();
    for subscription in [&mut all, &mut own] {
        assert_eq!(body(within(subscription.recv()).await.unwrap()), b"1");
        assert_eq!(body(within(subscription.recv()).await.unwrap()), b"2");
    }
    assert_eq!(body(within(high.recv()).await.unwrap()), b"1");
    bus.agent.publish("alerts.high", alert("3")).await.unwrap();
    assert_eq!(body(within(high.recv()).await.unwrap()), b"3");
}

#[tokio::test]
async fn a_dropped_subscription_is_taken_back() {
    let bus = Bus::start();
    let operator = bus.operator().await;
    for number in 0..200 {
        let subscription =
            operator.subscribe(&format!("alerts.s{number}")).await.expect("only 64 are allowed at one time");
        drop(subscription);
    }
    let mut kept = Vec::new();
    let error = loop {
        match operator.subscribe(&format!("alerts.k{}", kept.len())).await {
            Ok(subscription) => kept.push(subscription),
            Err(error) => break error,
        }
    };
    assert_eq!(kept.len(), 64);
    assert!(error.reason.contains("more than 64 subscriptions"), "{error}");
}

#[tokio::test]
async fn one_of_two_equal_subscriptions_may_go() {
    let bus = Bus::start();
    let operator = bus.operator().await;
    let mut stays = operator.subscribe("alerts.#").await.unwrap();
    drop(operator.subscribe("alerts.#").await.unwrap());
    drop(operator.subscribe("alerts.other").await.unwrap());
    bus.agent.publish("alerts.high", alert("1")).await.unwrap();
    assert_eq!(body(within(stays.recv()).await.unwrap()), b"1");
}

#[tokio::test]
async fn whoever_oversteps_is_closed_with_the_reason() {
    let bus = Bus::start();
    let operator = bus.operator().await;
    closed_because(operator.subscribe("events.#").await, "OPERATOR \"\" may not subscribe on events.#");
    let operator = bus.operator().await;
    closed_because(operator.serve("requests.query").await, "may not serve");
    let operator = bus.operator().await;
    operator.publish("alerts.high", alert("x")).await.unwrap();
    assert!(within(operator.closed()).await.contains("may not publish on alerts.high"));

    let (collector, _) = bus.collector("procmond").await;
    closed_because(collector.subscribe("control.collector.other").await, "COLLECTOR \"procmond\" may not subscribe");
    let (collector, _) = bus.collector("procmond").await;
    closed_because(collector.serve("tasks.other").await, "may not serve");
    let _receiver = bus.agent.subscribe("events.#").await.unwrap();
    let (collector, _) = bus.collector("procmond").await;
    collector.publish("events.process.other", event("x")).await.unwrap();
    assert!(within(collector.closed()).await.contains("may not publish on events.process.other"));
    closed_because(collector.publish("events.process.procmond", event("x")).await, "may not publish");
    assert_eq!(bus.gate.refused(), 6);
}

#[tokio::test]
async fn mistakes_of_the_program_are_not_silent() {
    let bus = Bus::start();
    closed_because(bus.operator().await.subscribe("alerts.*").await, "segment 2");
    let (collector, _) = bus.collector("procmond").await;
    let too_large = event(vec![0; daemoneye_eventbus::MAX_FRAME]);
    closed_because(collector.publish("events.process.procmond", too_large).await, "larger than a frame");
    assert!(collector.closed().await.contains("larger than a frame"));
}

#[tokio::test]
async fn the_largest_message_passes() {
    let bus = Bus::start();
    let mut events = bus.agent.subscribe("events.#").await.unwrap();
    let (collector, _) = bus.collector("procmond").await;
    let largest = vec![7; daemoneye_eventbus::MAX_FRAME - 1024];
    let publishing = async {
        for _ in 0..3 {
            collector.publish("events.process.procmond", event(largest.clone())).await.unwrap();
        }
    };
    let taking = async {
        for _ in 0..3 {
            assert!(body(within(events.recv()).await.unwrap()) == largest);
        }
    };
    tokio::join!(publishing, taking);
}

#[tokio::test]
async fn what_was_queued_is_written_before_a_dropped_client_ends() {
    let bus = Bus::start();
    let mut events = bus.agent.subscribe("events.#").await.unwrap();
    let (collector, _) = bus.collector("procmond").await;
    for number in 0..100_u8 {
        collector.publish("events.process.procmond", event([number])).await.unwrap();
    }
    drop(collector);
    for number in 0..100_u8 {
        assert_eq!(body(within(events.recv()).await.unwrap()), [number]);
    }
    let mut peers = bus.gate.connected();
    within(peers.wait_for(Vec::is_empty)).await.unwrap();
}
