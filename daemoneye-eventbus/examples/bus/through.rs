//! How many events a second go from a collector through the socket to a part of the agent.

use std::time::{Duration, Instant};

use daemoneye_eventbus::{
    Broker, BrokerConfig, Client, Credential, Credit, Identity, Payload, proto::CollectionEventPayload,
};

const TIME: Duration = Duration::from_secs(2);

pub(crate) async fn run() {
    println!("| message | messages/s | MB/s |\n|---|---:|---:|");
    for size in [100, 1_000, 10_000, 100_000, 200_000, 1_000_000] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/agent.sock");
        let broker = Broker::bind(BrokerConfig::new(&socket, dir.path().join("sessions"))).unwrap();
        let (gate, agent) = (broker.gate(), broker.local("ingest"));
        let running = tokio::spawn(broker.run(std::future::pending()));
        let credit = Credit { messages: 256, bytes: 4 << 20 };
        let mut events = agent.subscribe_with("events.#", credit).await.unwrap();
        let credential = Credential::Token(gate.issue_token("procmond").unwrap());
        let identity = Identity::Collector { name: "procmond".to_owned(), credential };
        let collector = Client::connect(&socket, identity).await.unwrap().client;
        let publishing = tokio::spawn(async move {
            loop {
                let event = Payload::CollectionEvent(CollectionEventPayload { message: vec![0x5a; size] });
                if collector.publish("events.process.procmond", event).await.is_err() {
                    return;
                }
            }
        });
        let (start, mut count) = (Instant::now(), 0_u32);
        while start.elapsed() < TIME {
            events.recv().await.unwrap();
            count += 1;
        }
        let seconds = start.elapsed().as_secs_f64();
        let each = f64::from(count) / seconds;
        println!("| {size} B | {each:.0} | {:.0} |", each * size as f64 / 1e6);
        publishing.abort();
        running.abort();
    }
}
