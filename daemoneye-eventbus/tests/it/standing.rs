//! Processes whose connections fail again and again: they wait, and nobody else does.

use std::{io::Write as _, path::PathBuf, process::Stdio};

use daemoneye_eventbus::{BrokerConfig, Client, ConnectError, Identity, proto::Role};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    task::JoinSet,
};

use crate::{
    Bus, Raw, echo_works,
    floods::{framed, malformed},
    hostile, within,
};

const SOCKET: &str = "DAEMONEYE_TEST_HOSTILE_TO";
const TOLD_TO_WAIT: &str = "too many connections of this process have failed; come again in a second";

/// The bounds of a broker that nobody has configured.
fn as_shipped(config: &mut BrokerConfig) {
    let BrokerConfig { failures_at_once, failures_a_second, .. } = BrokerConfig::new("", "");
    *config = BrokerConfig { failures_at_once, failures_a_second, ..config.clone() };
}

fn shipped() -> Bus {
    Bus::start_with(tempfile::tempdir().unwrap(), as_shipped)
}

/// Fails without end, on many connections at a time, until one of them is told that it is too much.
async fn fail_until_told(socket: PathBuf) {
    let mut peers = JoinSet::new();
    for seed in 0..100 {
        let socket = socket.clone();
        peers.spawn(async move {
            let hello = framed(&hostile::hello(Role::Operator, "", None));
            for number in (seed..).step_by(100) {
                let mut raw = Raw::connect(&socket).await;
                raw.write(&malformed(&hello, number)).await;
                while let Some(message) = raw.read().await {
                    if hostile::goodbye_in(&message).is_some_and(|reason| reason == TOLD_TO_WAIT) {
                        return;
                    }
                }
            }
        });
    }
    within(peers.join_next()).await;
}

#[tokio::test]
async fn who_fails_again_and_again_has_to_wait_but_is_not_shut_out() {
    let bus = shipped();
    bus.serve_echo().await;
    let operator = bus.operator().await;
    tokio::select! {
        () = fail_until_told(bus.socket.clone()) => {}
        () = async { loop { echo_works(&operator).await } } => {}
    }
    echo_works(&operator).await;
    // An honest part of the same process comes in a moment later.
    let late = within(async {
        loop {
            match Client::connect(&bus.socket, Identity::Operator).await {
                Ok(connected) => break connected.client,
                Err(ConnectError::Busy { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    echo_works(&late).await;
}

#[tokio::test]
async fn being_cut_off_counts_more_than_being_turned_away() {
    // What is owed is forgotten within a second, which a busy machine may take; so there are some attempts.
    for _ in 0..10 {
        let bus = Bus::start_with(tempfile::tempdir().unwrap(), |config| {
            (config.failures_at_once, config.failures_a_second) = (200, 1);
        });
        for _ in 0..26 {
            let mut raw = hostile::let_in(&bus, Role::Operator, "", None).await;
            raw.write(b"garbage and more garbage").await;
            assert!(raw.goodbye().await.contains("over the limit"));
        }
        let mut waiting = Vec::new();
        for _ in 0..=64 {
            waiting.push(Raw::connect(&bus.socket).await);
        }
        if waiting[0].goodbye().await == TOLD_TO_WAIT {
            return;
        }
    }
    panic!("26 connections were cut off, and the next 65 did not have to wait");
}

/// The hostile half of the next test.
#[tokio::test]
#[ignore = "another test starts it, as a process of its own"]
async fn hostile_process() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let socket = PathBuf::from(socket);
    fail_until_told(socket.clone()).await;
    std::io::stdout().write_all(b"told to wait\n").unwrap();
    while socket.exists() {
        fail_until_told(socket.clone()).await;
    }
}

#[tokio::test]
async fn other_processes_do_not_wait_for_one_that_fails() {
    let bus = shipped();
    bus.serve_echo().await;
    let mut hostile = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "standing::hostile_process"])
        .env(SOCKET, &bus.socket)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(hostile.stdout.take().unwrap()).lines();
    while !within(lines.next_line()).await.unwrap().expect("it is told to wait").contains("told to wait") {}
    let before = bus.gate.refused();
    let mut came_in = 0;
    // Each of these comes while the other process fails.
    while came_in < 100 || bus.gate.refused() < before + 100 {
        echo_works(&bus.operator().await).await;
        came_in += 1;
    }
    hostile.kill().await.unwrap();
}
