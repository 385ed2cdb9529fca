//! What only a shorter patience makes testable: an agent that takes batches and acknowledges none.

use super::*;
use crate::{CollectionCapabilities, Sink, SourceCaps, SourceError};
use daemoneye_eventbus::proto::event_bus_message::Payload;
use daemoneye_eventbus::{Broker, BrokerConfig};
use daemoneye_lib::proto::ipc::{CollectedItem, Gap, RegisterReply, collected_item::Item};
use prost::Message;
use std::collections::BTreeSet;
use tokio::sync::oneshot;

struct Once;

impl EventSource for Once {
    fn describe(&self) -> SourceDescription {
        let capabilities = CollectionCapabilities { domains: vec!["process".into()], ..Default::default() };
        SourceDescription { caps: SourceCaps::PROCESS, capabilities, ..Default::default() }
    }

    fn run(self: Box<Self>, sink: Sink) -> Result<(), SourceError> {
        sink.emit(CollectedItem { item: Some(Item::Gap(Gap { reason: "once".into(), ..Gap::default() })) })?;
        Ok(sink.pause(Duration::from_secs(600))?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_acknowledges_nothing_is_connected_anew_and_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let broker = Broker::bind(BrokerConfig::new(&socket, dir.path().join("sessions"))).unwrap();
    let (client, token) = (broker.local("ingest"), broker.gate().issue_token("once").unwrap());
    let (stop_broker, broker_stopped) = oneshot::channel::<()>();
    let broker = tokio::spawn(broker.run(async { drop(broker_stopped.await) }));
    let mut registrations = client.serve("control.collector.register").await.unwrap();
    let mut events = client.subscribe("events.process.once").await.unwrap();

    let data_dir = dir.path().join("once");
    let lock = DataDirLock::acquire(&data_dir).unwrap();
    let config = CollectorConfig {
        name: "once".into(),
        version: String::new(),
        data_dir,
        socket,
        bus_keys: None,
        spool_max_bytes: 1024 * 1024,
        orphan_timeout: None,
        token: Some(token),
        boot_id: "a boot".into(),
        variables: Default::default(),
    };
    let window = Window::new(Duration::from_millis(200));
    let (stop, stopped) = oneshot::channel::<()>();
    let collector = tokio::spawn(run_with(window, config, lock, Box::new(Once), async { drop(stopped.await) }));

    let mut sequences = BTreeSet::new();
    let thrice = async {
        for _ in 0..3 {
            registrations.recv().await.unwrap().respond(RegisterReply::default().encode_to_vec()).await;
            let Some(Payload::CollectionEvent(event)) = events.recv().await.unwrap().payload else {
                panic!("no events")
            };
            let batch = EventBatch::decode(&event.message[..]).unwrap();
            sequences.insert((batch.epoch, batch.first_sequence, batch.items));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), thrice).await.unwrap();
    assert_eq!(sequences.len(), 1, "the same item under the same number");
    drop(stop);
    assert_eq!(collector.await.unwrap().unwrap(), Ended::Stopped);
    drop(stop_broker);
    broker.await.unwrap().unwrap();
}
