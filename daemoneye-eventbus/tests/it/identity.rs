//! Tokens, sessions, and who is there.

use daemoneye_eventbus::{ConnectError, Credential, Peer, SessionKey, proto::Role};

use crate::{Bus, event, within};

#[track_caller]
fn refused_because<T: std::fmt::Debug>(result: Result<T, ConnectError>, part: &str) {
    match result {
        Err(ConnectError::Refused { reason }) => assert!(reason.contains(part), "{reason}"),
        other => panic!("{other:?} is not a refusal"),
    }
}

#[tokio::test]
async fn a_token_lets_its_collector_in_once() {
    let bus = Bus::start();
    let token = bus.gate.issue_token("procmond").unwrap();
    let first = bus.collector_with("procmond", Credential::Token(token.clone())).await.unwrap();
    assert!(first.session_key.is_some());
    refused_because(bus.collector_with("procmond", Credential::Token(token)).await, "unknown, used or too old");
    let mut events = bus.agent.subscribe("events.#").await.unwrap();
    first.client.publish("events.process.procmond", event("x")).await.unwrap();
    assert_eq!(crate::body(within(events.recv()).await.unwrap()), b"x");

    let for_another = bus.gate.issue_token("other").unwrap();
    refused_because(bus.collector_with("procmond", Credential::Token(for_another)).await, "unknown, used or too old");
    assert_eq!(bus.gate.refused(), 2);
}

#[tokio::test]
async fn a_session_outlives_the_agent() {
    let bus = Bus::start();
    let (collector, key) = bus.collector("procmond").await;
    let dir = bus.stop().await;
    assert!(within(collector.closed()).await.contains("the agent stops"));

    let file = dir.path().join("session.key");
    key.store(&file).unwrap();
    let key = SessionKey::load(&file).unwrap().unwrap();
    let bus = Bus::start_with(dir, |_| {});
    let session = |key: &SessionKey| Credential::Session(key.clone());
    let back = bus.collector_with("procmond", session(&key)).await.unwrap();
    assert!(back.session_key.is_none(), "the key stays the same");
    assert!(bus.collector_with("procmond", session(&key)).await.is_ok(), "as often as it needs");

    refused_because(bus.collector_with("other", session(&key)).await, "no session");
    let another = bus.collector("third").await.1;
    refused_because(bus.collector_with("procmond", session(&another)).await, "not the one");
}

#[tokio::test]
async fn a_collector_replaces_itself_but_nobody_else_can() {
    let bus = Bus::start();
    let (first, key) = bus.collector("procmond").await;
    let wrong = SessionKey::load(std::path::Path::new("/nonexistent")).unwrap();
    assert!(wrong.is_none());
    let (_, wrong) = bus.collector("other").await;
    refused_because(bus.collector_with("procmond", Credential::Session(wrong)).await, "not the one");
    let mut acks = first.subscribe("control.collector.procmond").await.expect("the first is untouched");

    let second = bus.collector_with("procmond", Credential::Session(key)).await.unwrap().client;
    assert!(within(first.closed()).await.contains("replaced by a newer connection"));
    assert!(within(acks.recv()).await.is_none());
    let mut acks = second.subscribe("control.collector.procmond").await.unwrap();
    bus.agent.publish("control.collector.procmond", event("ack")).await.unwrap();
    assert_eq!(crate::body(within(acks.recv()).await.unwrap()), b"ack");
}

#[tokio::test]
async fn the_gate_tells_who_is_there() {
    let bus = Bus::start();
    let mut peers = bus.gate.connected();
    assert!(peers.borrow_and_update().is_empty(), "the agent's own parts do not count");
    let (collector, _) = bus.collector("procmond").await;
    let operator = bus.operator().await;
    let there: Vec<Peer> = peers.borrow_and_update().clone();
    let summary: Vec<_> = there.iter().map(|peer| (peer.role, peer.name.as_str(), peer.pid)).collect();
    let pid = Some(std::process::id());
    assert_eq!(summary, [(Role::Collector, "procmond", pid), (Role::Operator, "", pid)]);
    assert!(there[0].connection != there[1].connection);
    drop((collector, operator));
    within(peers.wait_for(Vec::is_empty)).await.unwrap();
    assert_eq!(bus.gate.refused(), 0, "who leaves is not refused");
}

#[tokio::test]
async fn a_collector_comes_in_where_its_session_cannot_be_kept() {
    let bus = Bus::start();
    std::fs::remove_dir(bus.dir.path().join("sessions")).unwrap();
    let token = bus.gate.issue_token("procmond").unwrap();
    let connected = bus.collector_with("procmond", Credential::Token(token)).await.unwrap();
    assert!(connected.session_key.is_none());
}
