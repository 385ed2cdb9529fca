//! Many hostile peers at once, while somebody else keeps working.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use daemoneye_eventbus::{
    Credential, Payload, frame,
    proto::{CollectionEventPayload, EventBusMessage, Role, RpcRequestPayload, Subscribe, control_payload::Control},
};
use prost::Message as _;

use crate::{Bus, Raw, echo_works, hostile, within};

pub(crate) fn framed(message: &EventBusMessage) -> Vec<u8> {
    frame::encode(&message.encode_to_vec()).unwrap()
}

#[tokio::test]
async fn a_thousand_connections_do_no_harm() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let operator = bus.operator().await;
    let (collector, _) = bus.collector("procmond").await;
    let mut crowd = VecDeque::new();
    for number in 0..1000 {
        crowd.push_back(Raw::connect(&bus.socket).await);
        if crowd.len() > 200 {
            // The tests share this process's descriptors.
            crowd.pop_front();
        }
        if number % 100 == 0 {
            echo_works(&operator).await;
        }
    }
    within(async {
        while bus.gate.refused() < 1000 - 16 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    echo_works(&operator).await;
    collector.subscribe("control.collector.procmond").await.unwrap();
    bus.collector("another").await;
}

#[tokio::test]
async fn those_who_call_without_end_delay_nobody_and_are_not_cut_off() {
    const CALLS: u64 = 1500;
    let bus = Bus::start();
    bus.serve_echo().await;
    let operator = bus.operator().await;
    let answered = Arc::new(AtomicU64::new(0));
    let mut floods = Vec::new();
    for _ in 0..4 {
        let mut raw = hostile::let_in(&bus, Role::Operator, "", None).await;
        let answered = Arc::clone(&answered);
        floods.push(tokio::spawn(async move {
            // More than may be under way: some are refused, all are answered.
            for first in (0..CALLS).step_by(100) {
                let calls = (first..first + 100).map(|correlation_id| {
                    let request = RpcRequestPayload { correlation_id, ..RpcRequestPayload::default() };
                    let payload = Some(Payload::RpcRequest(request));
                    framed(&EventBusMessage { topic: "requests.echo".into(), payload, sender: None })
                });
                raw.write(&calls.collect::<Vec<_>>().concat()).await;
                for _ in 0..100 {
                    raw.read().await.unwrap();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }
    while answered.load(Ordering::Relaxed) < 4 * CALLS {
        echo_works(&operator).await;
    }
    for flood in floods {
        within(flood).await.unwrap();
    }
    assert_eq!(bus.gate.refused(), 0, "calling much is no crime");
}

#[tokio::test]
async fn a_flood_of_subscriptions_is_cut_off() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let operator = bus.operator().await;
    for _ in 0..20 {
        let mut raw = hostile::let_in(&bus, Role::Operator, "", None).await;
        for number in 0..65 {
            let subscribe = Subscribe { pattern: format!("alerts.x{number}.#"), ..Subscribe::default() };
            raw.send(&hostile::control(Control::Subscribe(subscribe))).await;
        }
        assert!(raw.goodbye().await.contains("64 subscriptions"));
    }
    // The same one again and again counts once.
    let mut raw = hostile::let_in(&bus, Role::Operator, "", None).await;
    for _ in 0..200 {
        let subscribe = Subscribe { pattern: "alerts.#".into(), ..Subscribe::default() };
        raw.send(&hostile::control(Control::Subscribe(subscribe))).await;
    }
    raw.settle().await;
    echo_works(&operator).await;
    assert_eq!(bus.gate.refused(), 20);
}

#[tokio::test]
async fn a_flood_of_events_is_cut_off_at_the_end_of_the_credit() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let operator = bus.operator().await;
    let _never_taken = bus.agent.subscribe("events.#").await.unwrap();
    for _ in 0..10 {
        let token = bus.gate.issue_token("procmond").unwrap();
        let mut raw = hostile::let_in(&bus, Role::Collector, "procmond", Some(&token)).await;
        let event = framed(&EventBusMessage {
            topic: "events.process.procmond".into(),
            payload: Some(Payload::CollectionEvent(CollectionEventPayload { message: vec![1; 100] })),
            ..EventBusMessage::default()
        });
        raw.write(&event.repeat(2000)).await;
        let mut reason = None;
        while let Some(message) = raw.read().await {
            reason = hostile::goodbye_in(&message).or(reason);
        }
        assert!(reason.is_none_or(|reason| reason.contains("without credit")));
        echo_works(&operator).await;
    }
    assert_eq!(bus.gate.refused(), 10);
}

#[tokio::test]
async fn whatever_was_recorded_opens_nothing_a_second_time() {
    let bus = Bus::start();
    let token = bus.gate.issue_token("procmond").unwrap();
    let mut hello = Vec::new();
    drop(hostile::let_in(&bus, Role::Collector, "procmond", Some(&token)).await);
    // The very bytes that let it in, as often as one likes.
    hello.extend(framed(&hostile::hello(Role::Collector, "procmond", Some(&token))));
    for number in 1..=100 {
        let mut raw = Raw::connect(&bus.socket).await;
        raw.write(&hello).await;
        assert!(raw.goodbye().await.contains("unknown, used or too old"));
        assert_eq!(bus.gate.refused(), number);
    }
    // A frame that is sent again is just another message; a Hello that is sent again is a violation.
    let (collector, key) = bus.collector("procmond").await;
    drop(collector);
    assert!(bus.collector_with("other", Credential::Session(key)).await.is_err());
}

/// One frame in many ways of being none. The long run is `examples/bus/soak.rs`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_end_their_connections_alone() {
    const PEERS: u64 = 8;
    const FRAMES: u64 = 250;
    let bus = Bus::start();
    bus.serve_echo().await;
    let operator = bus.operator().await;
    let mut peers = Vec::new();
    for peer in 0..PEERS {
        let socket = bus.socket.clone();
        peers.push(tokio::spawn(async move {
            let hello = framed(&hostile::hello(Role::Operator, "", None));
            for number in 0..FRAMES {
                let mut raw = Raw::connect(&socket).await;
                raw.write(&malformed(&hello, peer * FRAMES + number)).await;
                while raw.read().await.is_some() {}
            }
        }));
    }
    while peers.iter().any(|peer| !peer.is_finished()) {
        echo_works(&operator).await;
    }
    assert_eq!(bus.gate.refused(), PEERS * FRAMES);
}

/// Changes a byte, or cuts the frame, as the number says; never a frame that could pass.
pub(crate) fn malformed(frame: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let place = usize::try_from(number).unwrap() % bytes.len();
    match number % 3 {
        0 => bytes[4 + place % (frame.len() - 4)] ^= 1 << (number % 8),
        1 => bytes[3] = 1 + (number % 255) as u8,
        _ => {
            bytes.truncate(1 + place % (frame.len() - 1));
            // Something that a longer frame would not be.
            bytes.extend_from_slice(&[0xff; 8192]);
        }
    }
    bytes
}
