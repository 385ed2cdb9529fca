//! More connections than there is room for: who is turned away, and who always gets in.

use std::time::{Duration, Instant};

use daemoneye_eventbus::{
    Client, ConnectError, Connected, Credential, Identity, Payload,
    proto::{ControlPayload, Role, control_payload::Control},
};

use crate::{Bus, PATIENCE, Raw, body, echo_works, event, hostile::let_in, within};

/// As many operators as there is room for, of so many that try.
async fn operators(bus: &Bus, tries: usize) -> Vec<Client> {
    let mut operators = Vec::new();
    for _ in 0..tries {
        match within(Client::connect(&bus.socket, Identity::Operator)).await {
            Ok(Connected { client, .. }) => operators.push(client),
            Err(ConnectError::Busy { reason }) => assert_eq!(reason, "too many operators are connected"),
            Err(error) => panic!("{error}"),
        }
    }
    operators
}

#[tokio::test]
async fn operators_leave_room_for_collectors() {
    let bus = Bus::start();
    let mut registrations = bus.agent.serve("control.collector.register").await.unwrap();
    let mut events = bus.agent.subscribe("events.#").await.unwrap();
    assert_eq!(operators(&bus, 70).await.len(), 48);

    for name in ["procmond", "netmond"] {
        let (collector, _) = bus.collector(name).await;
        let topic = format!("control.collector.{name}");
        let mut acknowledgements = collector.subscribe(&topic).await.unwrap();
        let call = collector.call("control.collector.register", b"hello".to_vec(), PATIENCE);
        let answer = async { within(registrations.recv()).await.unwrap().respond(b"welcome".to_vec()).await };
        assert_eq!(tokio::join!(call, answer).0.unwrap(), b"welcome");
        collector.publish(&format!("events.process.{name}"), event("one")).await.unwrap();
        assert_eq!(body(within(events.recv()).await.unwrap()), b"one");
        let ack = Payload::Control(ControlPayload { control: Some(Control::Message(b"ack".to_vec())) });
        bus.agent.publish(&topic, ack).await.unwrap();
        assert!(within(acknowledgements.recv()).await.is_some());
    }
}

#[tokio::test]
async fn silent_connections_make_room_for_those_that_speak() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let start = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..70 {
        silent.push(Raw::connect(&bus.socket).await);
    }
    echo_works(&bus.operator().await).await;
    bus.collector("procmond").await;
    assert!(start.elapsed() < Duration::from_secs(4), "they were not waited for: {:?}", start.elapsed());
    assert_eq!(silent[0].goodbye().await, "too many connections that have not said Hello");
    assert!(silent.pop().unwrap().goodbye().await.contains("no Hello within 5 s"), "the newest may stay");
}

#[tokio::test]
async fn a_place_is_free_again_when_an_operator_leaves() {
    let bus = Bus::start_with(tempfile::tempdir().unwrap(), |config| config.max_connections = 4);
    bus.serve_echo().await;
    let mut crowd = operators(&bus, 5).await;
    assert_eq!(crowd.len(), 3);
    crowd.pop();
    within(async {
        // The place is free a moment after the connection is closed.
        while operators(&bus, 1).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    echo_works(&crowd[0]).await;
}

#[tokio::test]
async fn a_busy_agent_does_not_use_a_token_up() {
    let bus = Bus::start_with(tempfile::tempdir().unwrap(), |config| config.max_connections = 2);
    let others = (bus.collector("one").await, bus.collector("two").await);
    let credential = Credential::Token(bus.gate.issue_token("three").unwrap());
    let busy = bus.collector_with("three", credential.clone()).await.unwrap_err();
    assert!(matches!(&busy, ConnectError::Busy { reason } if reason == "too many connections"), "{busy}");
    drop(others);
    within(async {
        while let Err(error) = bus.collector_with("three", credential.clone()).await {
            assert!(matches!(error, ConnectError::Busy { .. }), "{error}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_operator_that_waits_for_nothing_is_dismissed() {
    let patience = Duration::from_millis(400);
    let bus = Bus::start_with(tempfile::tempdir().unwrap(), |config| config.operator_patience = patience);
    bus.serve_echo().await;
    let mut requests = bus.agent.serve("requests.query").await.unwrap();
    let (caller, listener, busy) = (bus.operator().await, bus.operator().await, bus.operator().await);
    let (collector, _) = bus.collector("procmond").await;
    let call = tokio::spawn(async move { caller.call("requests.query", Vec::new(), PATIENCE).await });
    let request = within(requests.recv()).await.unwrap();
    let _alerts = listener.subscribe("alerts.#").await.unwrap();

    let start = Instant::now();
    let mut idle = let_in(&bus, Role::Operator, "", None).await;
    let working = async {
        while start.elapsed() < 3 * patience {
            echo_works(&busy).await;
            tokio::time::sleep(patience / 10).await;
        }
    };
    let (reason, ()) = tokio::join!(idle.goodbye(), working);
    assert_eq!(reason, "no call for too long");
    for still_there in [&collector, &listener] {
        assert!(tokio::time::timeout(Duration::from_millis(1), still_there.closed()).await.is_err());
    }
    request.respond(b"late".to_vec()).await;
    assert_eq!(within(call).await.unwrap(), Ok(b"late".to_vec()));
    assert_eq!(bus.gate.refused(), 0, "nobody did anything wrong");
}
