//! Peers that send what they should not, while somebody else keeps working.

use std::time::{Duration, Instant};

use daemoneye_eventbus::{
    MAX_FRAME, Payload, Token, frame,
    proto::{
        ControlPayload, EventBusMessage, Goodbye, HeartbeatPayload, Hello, Role, RpcRequestPayload, Subscribe, Welcome,
        control_payload::Control,
    },
};
use prost::Message as _;

use crate::{Bus, PATIENCE, Raw, alert, echo_works, within};

pub(crate) fn control(control: Control) -> EventBusMessage {
    EventBusMessage {
        payload: Some(Payload::Control(ControlPayload { control: Some(control) })),
        ..EventBusMessage::default()
    }
}

pub(crate) fn serve(pattern: &str) -> EventBusMessage {
    control(Control::Subscribe(Subscribe { pattern: pattern.into(), serve: true, credit: None }))
}

pub(crate) fn hello(role: Role, name: &str, token: Option<&Token>) -> EventBusMessage {
    let token = token.map(|token| token.to_string()).unwrap_or_default();
    let token = (0..token.len() / 2).map(|i| u8::from_str_radix(&token[2 * i..2 * i + 2], 16).unwrap()).collect();
    control(Control::Hello(Hello { protocol: 1, role: role.into(), name: name.into(), token, ..Hello::default() }))
}

/// A peer that has been let in and speaks by hand from there.
pub(crate) async fn let_in(bus: &Bus, role: Role, name: &str, token: Option<&Token>) -> Raw {
    let mut raw = Raw::connect(&bus.socket).await;
    raw.send(&hello(role, name, token)).await;
    let welcome = raw.read().await.unwrap();
    let Some(Payload::Control(ControlPayload { control: Some(Control::Welcome(Welcome { protocol, max_frame, .. })) })) =
        welcome.payload
    else {
        panic!("{welcome:?} is no Welcome");
    };
    assert_eq!((protocol, max_frame as usize), (1, MAX_FRAME));
    raw
}

impl Raw {
    /// Waits until the broker has handled everything that was sent.
    pub(crate) async fn settle(&mut self) {
        let heartbeat = Payload::Heartbeat(HeartbeatPayload { counter: 77 });
        self.send(&EventBusMessage { payload: Some(heartbeat.clone()), ..EventBusMessage::default() }).await;
        assert_eq!(self.read().await.unwrap().payload, Some(heartbeat));
    }

    /// The reason that the broker gives before it closes.
    pub(crate) async fn goodbye(&mut self) -> String {
        let message = self.read().await.expect("a Goodbye before the end");
        assert!(self.read().await.is_none(), "the end after the Goodbye");
        goodbye_in(&message).expect("a Goodbye before the end")
    }
}

pub(crate) fn goodbye_in(message: &EventBusMessage) -> Option<String> {
    match &message.payload {
        Some(Payload::Control(ControlPayload { control: Some(Control::Goodbye(Goodbye { reason, .. })) })) => {
            Some(reason.clone())
        }
        _ => None,
    }
}

fn oversized() -> Vec<u8> {
    let mut header = u32::try_from(MAX_FRAME + 1).unwrap().to_le_bytes().to_vec();
    header.extend_from_slice(&[0; 4]);
    header
}

fn corrupt() -> Vec<u8> {
    let mut bytes = frame::encode(b"payload").unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

#[tokio::test]
async fn bytes_that_are_no_hello_are_refused() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let operator = bus.operator().await;
    let event =
        EventBusMessage { topic: "alerts.high".into(), payload: Some(alert("x")), ..EventBusMessage::default() };
    let large_hello = control(Control::Hello(Hello {
        protocol: 1,
        role: Role::Operator.into(),
        name: "x".repeat(5000),
        ..Hello::default()
    }));
    let attempts = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "over the limit"),
        (oversized(), "over the limit"),
        (corrupt(), "checksum"),
        (frame::encode(b"\xff\xff\xff").unwrap(), "not a Hello"),
        (frame::encode(b"").unwrap(), "not a Hello"),
        (frame::encode(&event.encode_to_vec()).unwrap(), "not a Hello"),
        (frame::encode(&large_hello.encode_to_vec()).unwrap(), "over the limit"),
        (frame::encode(&hello(Role::Agent, "agent", None).encode_to_vec()).unwrap(), "only collectors and operators"),
        (frame::encode(&hello(Role::Collector, "procmond", None).encode_to_vec()).unwrap(), "no session"),
    ];
    for (number, (bytes, reason)) in (1..).zip(&attempts) {
        let mut raw = Raw::connect(&bus.socket).await;
        raw.write(bytes).await;
        let given = raw.goodbye().await;
        assert!(given.contains(reason), "{reason}: {given}");
        echo_works(&operator).await;
        assert_eq!(bus.gate.refused(), number);
    }
    let mut raw = Raw::connect(&bus.socket).await;
    raw.write(&frame::encode(b"abc").unwrap()[..5]).await;
    drop(raw);
    drop(Raw::connect(&bus.socket).await);
    let refused = u64::try_from(attempts.len()).unwrap() + 2;
    within(async {
        while bus.gate.refused() < refused {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    echo_works(&operator).await;
}

#[tokio::test]
async fn bad_bytes_of_a_member_end_that_member_alone() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let operator = bus.operator().await;
    let with_topic =
        |topic: &str, payload| EventBusMessage { topic: topic.into(), payload, ..EventBusMessage::default() };
    let call = |topic: &str| {
        with_topic(topic, Some(Payload::RpcRequest(RpcRequestPayload { correlation_id: 5, ..Default::default() })))
    };
    let framed = |message: &EventBusMessage| frame::encode(&message.encode_to_vec()).unwrap();
    let _unanswered = bus.agent.serve("requests.query").await.unwrap();
    let attempts = [
        (b"garbage and more garbage".to_vec(), "over the limit"),
        (oversized(), "over the limit"),
        (corrupt(), "checksum"),
        (frame::encode(&vec![0; MAX_FRAME]).unwrap(), "over the limit"),
        (frame::encode(b"\xff\xff\xff").unwrap(), "no message"),
        (frame::encode(b"").unwrap(), "without a payload"),
        (framed(&hello(Role::Operator, "", None)), "after the handshake"),
        (framed(&with_topic("", Some(Payload::Control(ControlPayload { control: None })))), "unknown control"),
        (framed(&with_topic("Alerts..high", Some(alert("x")))), "segment 1"),
        (framed(&call(&"x".repeat(1000))), "over the limit"),
        ([framed(&call("requests.query")), framed(&call("requests.query"))].concat(), "two calls"),
    ];
    for (number, (bytes, reason)) in (1..).zip(&attempts) {
        let mut raw = let_in(&bus, Role::Operator, "", None).await;
        raw.write(bytes).await;
        let given = raw.goodbye().await;
        assert!(given.contains(reason), "{reason}: {given}");
        echo_works(&operator).await;
        assert_eq!(bus.gate.refused(), number);
    }
    let before = bus.gate.refused();
    let mut raw = let_in(&bus, Role::Operator, "", None).await;
    raw.write(&framed(&call("requests.query"))[..20]).await;
    drop(raw);
    within(async {
        while bus.gate.refused() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    echo_works(&operator).await;
    let mut peers = bus.gate.connected();
    within(peers.wait_for(|peers| peers.len() == 1)).await.unwrap();
}

#[tokio::test]
async fn answers_to_other_peoples_calls_go_nowhere() {
    let bus = Bus::start();
    let mut requests = bus.agent.serve("requests.query").await.unwrap();
    let operator = bus.operator().await;
    let call = tokio::spawn(async move { operator.call("requests.query", Vec::new(), PATIENCE).await });
    let request = within(requests.recv()).await.unwrap();
    let mut raw = let_in(&bus, Role::Operator, "", None).await;
    for correlation_id in 0..50 {
        let forged = daemoneye_eventbus::proto::RpcResponsePayload {
            correlation_id,
            message: b"forged".to_vec(),
            ..Default::default()
        };
        raw.send(&EventBusMessage { payload: Some(Payload::RpcResponse(forged)), ..EventBusMessage::default() }).await;
    }
    raw.settle().await;
    request.respond(b"true".to_vec()).await;
    assert_eq!(within(call).await.unwrap(), Ok(b"true".to_vec()));
}

#[tokio::test]
async fn whoever_says_nothing_is_dropped_after_five_seconds() {
    let bus = Bus::start();
    let mut raw = Raw::connect(&bus.socket).await;
    let start = Instant::now();
    assert!(raw.goodbye().await.contains("no Hello within 5 s"));
    assert!((4..9).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}
