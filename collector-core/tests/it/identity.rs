//! Tokens, session keys, and what happens without.

use crate::agent::{Agent, Shared, Site, until};
use crate::collector::{Scripted, config, emits, start, waits};
use collector_core::{CollectorError, DataDirLock, Ended, run};
use daemoneye_eventbus::{BrokerConfig, Client, Credential, Identity};
use std::os::unix::fs::PermissionsExt;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_exchanged_for_a_key_that_opens_again() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    let collector = start(config(&site, Some(agent.token())), emits(0..1));
    until("committed", || shared.committed() == 1).await;
    collector.stop().await.unwrap();
    let key = site.collector_dir().join("session.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(site.collector_dir().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    agent.stop().await;

    let agent = Agent::start(&site, &shared).await;
    let collector = start(config(&site, None), emits(1..2));
    until("committed", || shared.committed() == 2).await;
    collector.stop().await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_refused_gives_way_to_the_token() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    std::fs::create_dir_all(site.collector_dir()).unwrap();
    let key = site.collector_dir().join("session.key");
    std::fs::write(&key, "00".repeat(32)).unwrap();
    let collector = start(config(&site, Some(agent.token())), emits(0..1));
    until("committed", || shared.committed() == 1).await;
    assert_ne!(std::fs::read_to_string(&key).unwrap().trim(), "00".repeat(32), "the new key is kept");
    collector.stop().await.unwrap();

    // Nor does a file that holds no key stand in the way.
    std::fs::write(&key, "rubbish").unwrap();
    let collector = start(config(&site, Some(agent.token())), emits(1..2));
    until("committed", || shared.committed() == 2).await;
    collector.stop().await.unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_the_agent_does_not_know_ends_and_says_so() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let agent = Agent::start(&site, &shared).await;
    std::fs::create_dir_all(site.collector_dir()).unwrap();
    std::fs::write(site.collector_dir().join("session.key"), "00".repeat(32)).unwrap();
    let error = start(config(&site, None), |sink| waits(&sink)).ended().await.unwrap_err();
    assert!(matches!(error, CollectorError::Refused { .. }), "{error}");
    assert!(shared.lock().registrations.is_empty());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_room_is_asked_again_with_the_same_token() {
    let (site, shared) = (Site::new(), Shared::acknowledging());
    let mut broker = BrokerConfig::new(site.socket(), site.sessions());
    broker.max_connections = 2;
    let agent = Agent::start_with(broker, &shared).await;
    let mut others = Vec::new();
    for name in ["one", "two"] {
        let credential = Credential::Token(agent.token_for(name));
        let identity = Identity::Collector { name: name.to_owned(), credential };
        others.push(Client::connect(&site.socket(), identity).await.unwrap());
    }
    let collector = start(config(&site, Some(agent.token())), emits(0..1));
    // More often than a refused collector would try.
    until("turned away again and again", || agent.refused() > 5).await;
    assert!(shared.lock().registrations.is_empty());
    drop(others);
    until("committed", || shared.committed() == 1).await;
    assert_eq!(collector.stop().await.unwrap(), Ended::Stopped);
    agent.stop().await;
}

#[tokio::test]
async fn without_any_credential_it_does_not_begin() {
    let site = Site::new();
    let config = config(&site, None);
    let lock = DataDirLock::acquire(&config.data_dir).unwrap();
    let source = Box::new(Scripted::idle());
    let error = run(config, lock, source, std::future::pending()).await.unwrap_err();
    assert!(matches!(&error, CollectorError::NoCredential { path, .. } if path.ends_with("session.key")), "{error}");
}
