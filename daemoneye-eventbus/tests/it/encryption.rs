//! The encrypted bus: who gets in with which keys, and that nothing can be read, changed or repeated on the way.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use daemoneye_eventbus::{Client, ConnectError, Connected, Credential, Identity, Keys, Token};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use crate::{Bus, Raw, body, echo_works, event, hostile, within};

fn encrypted() -> (Bus, Keys) {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::in_dir(dir.path().join("keys"));
    let bus = Bus::start_with(dir, |config| config.encryption = Some(keys.clone()));
    (bus, keys)
}

fn file(bus: &Bus, name: &str) -> std::path::PathBuf {
    bus.dir.path().join("keys").join(name)
}

async fn connect(socket: &Path, identity: Identity, keys: &Keys) -> Result<Connected, ConnectError> {
    within(Client::connect_with(socket, identity, Some(keys))).await
}

fn collector(token: Token) -> Identity {
    Identity::Collector { name: "procmond".into(), credential: Credential::Token(token) }
}

#[track_caller]
fn disagrees<T: std::fmt::Debug>(result: Result<T, ConnectError>, part: &str) {
    match result {
        Err(error @ ConnectError::Encryption { .. }) => assert!(error.to_string().contains(part), "{error}"),
        other => panic!("{other:?} is no disagreement about encryption"),
    }
}

#[tokio::test]
async fn everything_works_sealed() {
    let (bus, keys) = encrypted();
    bus.serve_echo().await;
    let operator = connect(&bus.socket, Identity::Operator, &keys).await.unwrap().client;
    echo_works(&operator).await;
    let token = bus.gate.issue_token("procmond").unwrap();
    let Connected { client, session_key, .. } = connect(&bus.socket, collector(token), &keys).await.unwrap();
    let mut events = bus.agent.subscribe("events.#").await.unwrap();
    for size in [1, 65_000, 70_000, 3_000_000] {
        within(client.publish("events.process.procmond", event(vec![7; size]))).await.unwrap();
        assert!(body(within(events.recv()).await.unwrap()) == vec![7; size], "{size} bytes");
    }
    let again = Identity::Collector { name: "procmond".into(), credential: Credential::Session(session_key.unwrap()) };
    connect(&bus.socket, again, &keys).await.unwrap();
    assert_eq!(bus.gate.refused(), 0);
}

#[tokio::test]
async fn both_sides_must_agree() {
    let (bus, keys) = encrypted();
    bus.serve_echo().await;
    let plain = within(Client::connect(&bus.socket, Identity::Operator)).await;
    disagrees(plain, "the agent's is encrypted, this connection is not");

    let open = Bus::start();
    disagrees(
        connect(&open.socket, Identity::Operator, &keys).await,
        "this connection is encrypted, the agent's is not",
    );
    assert_eq!((bus.gate.refused(), open.gate.refused()), (1, 1));
    echo_works(&connect(&bus.socket, Identity::Operator, &keys).await.unwrap().client).await;
}

#[tokio::test]
async fn a_key_that_is_not_pinned_is_refused() {
    let (bus, keys) = encrypted();
    let token = bus.gate.issue_token("procmond").unwrap();
    // The operator's pair in the collector's place: known, but as somebody else.
    let own = tempfile::tempdir().unwrap();
    for (from, to) in
        [("operator.key", "collector.procmond.key"), ("operator.key", "operator.key"), ("agent.pub", "agent.pub")]
    {
        fs::copy(file(&bus, from), own.path().join(to)).unwrap();
    }
    let mixed = Keys::in_dir(own.path());
    disagrees(connect(&bus.socket, collector(token.clone()), &mixed).await, "not the one that the agent has pinned");
    connect(&bus.socket, Identity::Operator, &mixed).await.unwrap();
    connect(&bus.socket, collector(token), &keys).await.expect("the token was not used up");

    fs::remove_file(file(&bus, "operator.pub")).unwrap();
    disagrees(connect(&bus.socket, Identity::Operator, &keys).await, "there is no operator.pub");
}

#[tokio::test]
async fn another_agent_than_the_pinned_one_is_refused() {
    let (bus, keys) = encrypted();
    let (_other, others) = encrypted();
    let other_pub = fs::read(_other.dir.path().join("keys/agent.pub")).unwrap();
    drop(others);
    fs::write(file(&bus, "agent.pub"), other_pub).unwrap();
    disagrees(connect(&bus.socket, Identity::Operator, &keys).await, "agent's key is not the one that is pinned");
    fs::write(file(&bus, "agent.pub"), "nonsense").unwrap();
    let error = connect(&bus.socket, Identity::Operator, &keys).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Key(_)) && error.to_string().contains("64 hex digits"), "{error}");
    let error = connect(&bus.socket, Identity::Operator, &Keys::in_dir("/nonexistent")).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Key(_)) && error.to_string().contains("there is no bus key"), "{error}");
}

/// Passes connections on to a bus, and keeps what clients sent; changes the byte at `spoil` of each direction.
async fn wiretap(to: &Path, at: &Path, spoil: Option<usize>) -> Arc<Mutex<Vec<u8>>> {
    let (listener, to, heard) = (UnixListener::bind(at).unwrap(), to.to_owned(), Arc::<Mutex<Vec<u8>>>::default());
    let kept = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_bus, mut to_bus) = UnixStream::connect(&to).await.unwrap().into_split();
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let (mut buffer, mut count) = (vec![0; 4096], 0);
                while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
                    if let Some(byte) = spoil.and_then(|place| buffer[..length].get_mut(place.checked_sub(count)?)) {
                        *byte ^= 1;
                    }
                    count += length;
                    kept.lock().unwrap().extend_from_slice(&buffer[..length]);
                    if to_bus.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
            });
            tokio::spawn(async move { tokio::io::copy(&mut from_bus, &mut to_client).await });
        }
    });
    heard
}

#[tokio::test]
async fn who_listens_hears_nothing_and_cannot_repeat_it() {
    let (bus, keys) = encrypted();
    bus.serve_echo().await;
    let tapped = bus.dir.path().join("tapped.sock");
    let heard = wiretap(&bus.socket, &tapped, None).await;
    let operator = connect(&tapped, Identity::Operator, &keys).await.unwrap().client;
    echo_works(&operator).await;
    drop(operator);
    let heard = heard.lock().unwrap().clone();
    let contains = |part: &[u8]| heard.windows(part.len()).any(|window| window == part);
    assert!(!contains(b"still here") && !contains(b"requests.echo"));

    let refused = bus.gate.refused();
    let mut repeated = Raw::connect(&bus.socket).await;
    repeated.write(&heard).await;
    assert!(repeated.read().await.is_some(), "the answer of a handshake that it cannot finish");
    within(async {
        while bus.gate.refused() == refused {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut peers = bus.gate.connected();
    within(peers.wait_for(Vec::is_empty)).await.unwrap();
}

#[tokio::test]
async fn a_changed_byte_ends_the_connection() {
    let (bus, keys) = encrypted();
    bus.serve_echo().await;
    // Within the handshake, within the Hello, and within the call.
    for (number, place) in [30, 130, 300].into_iter().enumerate() {
        let tapped = bus.dir.path().join(format!("tapped{number}.sock"));
        let _heard = wiretap(&bus.socket, &tapped, Some(place)).await;
        if let Ok(connected) = connect(&tapped, Identity::Operator, &keys).await {
            let call = connected.client.call("requests.echo", vec![0; 1000], crate::PATIENCE);
            within(call).await.unwrap_err();
        }
        assert_eq!(bus.gate.refused(), number as u64 + 1);
    }
    echo_works(&connect(&bus.socket, Identity::Operator, &keys).await.unwrap().client).await;
}

#[tokio::test]
async fn a_hostile_name_reaches_no_file() {
    let (bus, _) = encrypted();
    let mut raw = Raw::connect(&bus.socket).await;
    raw.send(&hostile::control(daemoneye_eventbus::proto::control_payload::Control::Noise(vec![7; 200]))).await;
    assert!(raw.goodbye().await.contains("agent.pub"));
    for name in ["../agent", "a/b", ""] {
        assert!(bus.gate.issue_token(name).is_err(), "{name}");
    }
}
