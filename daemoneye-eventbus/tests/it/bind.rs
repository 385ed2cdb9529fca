//! The socket file: where it can be, what may be there already, and what clients find.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::Path,
    time::Duration,
};

use daemoneye_eventbus::{BindError, Broker, BrokerConfig, Client, ConnectError, Identity, frame};

use crate::{Bus, config_in, echo_works, within};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_socket_is_private_and_goes_with_the_broker() {
    let bus = Bus::start();
    assert_eq!(mode(&bus.socket), 0o600);
    assert_eq!(mode(bus.socket.parent().unwrap()), 0o700);
    assert_eq!(mode(&bus.dir.path().join("sessions")), 0o700);
    let (operator, socket) = (bus.operator().await, bus.socket.clone());
    let agent = bus.agent.clone();
    let dir = bus.stop().await;
    assert!(!socket.exists());
    assert!(within(operator.closed()).await.contains("the agent stops"));
    assert!(within(agent.closed()).await.contains("the agent stops"));
    drop(Bus::start_with(dir, |_| {}));
}

#[tokio::test]
async fn a_dead_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_in(dir.path());
    fs::create_dir_all(config.path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&config.path).unwrap());
    assert!(config.path.exists());
    let refused = Client::connect(&config.path, Identity::Operator).await.unwrap_err();
    assert!(matches!(refused, ConnectError::NotRunning { .. }), "{refused}");

    let bus = Bus::start_with(dir, |_| {});
    bus.serve_echo().await;
    echo_works(&bus.operator().await).await;
}

#[tokio::test]
async fn a_living_broker_is_left_alone() {
    let bus = Bus::start();
    bus.serve_echo().await;
    let second = Broker::bind(config_in(bus.dir.path())).unwrap_err();
    assert!(matches!(second, BindError::InUse { .. }), "{second}");
    assert!(second.to_string().contains("--runtime-dir"), "{second}");
    echo_works(&bus.operator().await).await;

    let dir = bus.stop().await;
    let config = config_in(dir.path());
    // One that has the lock and is about to create its socket.
    let starting = fs::File::open(config.path.with_extension("sock.lock")).unwrap();
    starting.try_lock().unwrap();
    let second = Broker::bind(config.clone()).unwrap_err();
    assert!(matches!(second, BindError::InUse { .. }), "{second}");
    drop(starting);
    let _foreign = UnixListener::bind(&config.path).unwrap();
    let second = Broker::bind(config).unwrap_err();
    assert!(matches!(second, BindError::InUse { .. }), "one that takes no lock: {second}");
}

#[tokio::test]
async fn what_is_no_socket_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_in(dir.path());
    fs::create_dir_all(config.path.parent().unwrap()).unwrap();
    fs::write(&config.path, "precious").unwrap();
    let error = Broker::bind(config.clone()).unwrap_err();
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(&config.path).unwrap(), "precious");
}

#[tokio::test]
async fn a_path_that_is_too_long_is_named_with_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x".repeat(120)).join("agent.sock");
    let error = Broker::bind(BrokerConfig::new(&path, dir.path().join("sessions"))).unwrap_err();
    let BindError::PathTooLong { limit, .. } = error else { panic!("{error}") };
    assert!((90..=107).contains(&limit), "{limit}");
    assert!(error.to_string().contains("--runtime-dir"), "{error}");
    assert!(!path.parent().unwrap().exists(), "nothing is created for it");
    let error = Client::connect(&path, Identity::Operator).await.unwrap_err();
    assert!(matches!(error, ConnectError::PathTooLong { .. }), "{error}");

    // The longest that fits does work.
    let directory = dir.path().join("y".repeat(limit - dir.path().as_os_str().len() - 3));
    let longest = directory.join("s").to_string_lossy().into_owned();
    assert_eq!(longest.len(), limit);
    assert!(Broker::bind(BrokerConfig::new(longest, dir.path().join("sessions"))).is_ok());
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("run"), "").unwrap();
    let error = Broker::bind(config_in(dir.path())).unwrap_err();
    assert!(matches!(error, BindError::Io { .. }) && error.to_string().contains("/run"), "{error}");
}

#[tokio::test]
async fn clients_tell_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = Client::connect(&dir.path().join("agent.sock"), Identity::Operator).await.unwrap_err();
    assert!(
        matches!(nothing, ConnectError::NotRunning { .. }) && nothing.to_string().contains("daemoneye-agent"),
        "{nothing}"
    );

    let path = dir.path().join("mute.sock");
    let mute = tokio::net::UnixListener::bind(&path).unwrap();
    let error = within(Client::connect(&path, Identity::Operator)).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Protocol { reason, .. } if reason.contains("within 5 s")), "{error}");
    let closing = tokio::spawn(async move {
        // The first is the client that gave up.
        for _ in 0..2 {
            drop(mute.accept().await.unwrap());
        }
    });
    let error = within(Client::connect(&path, Identity::Operator)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Protocol { .. } | ConnectError::Io { .. }), "{error}");
    closing.await.unwrap();
}

#[tokio::test]
async fn a_broker_that_never_ran_releases_its_clients() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::bind(config_in(dir.path())).unwrap();
    let client = broker.local("early");
    drop(broker);
    assert!(within(client.closed()).await.contains("ended"));
    assert!(client.subscribe("alerts.#").await.is_err());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!config_in(dir.path()).path.exists());
}

#[tokio::test]
async fn a_client_waits_for_a_place_in_a_full_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let listener = tokio::net::UnixSocket::new_stream().unwrap();
    listener.bind(&path).unwrap();
    let listener = listener.listen(1).unwrap();
    let mut before = Vec::new();
    while let Ok(stream) = tokio::net::UnixStream::connect(&path).await {
        before.push(stream);
    }
    let client = tokio::spawn(async move { Client::connect(&path, Identity::Operator).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!client.is_finished(), "it waits");
    for _ in &before {
        within(listener.accept()).await.unwrap();
    }
    let (mut stream, _) = within(listener.accept()).await.unwrap();
    let hello = within(frame::read(&mut stream, frame::MAX_FRAME)).await.unwrap().unwrap();
    assert!(!hello.is_empty());
    client.abort();
}
