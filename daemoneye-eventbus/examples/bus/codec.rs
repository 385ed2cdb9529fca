//! Encode, frame, check and decode one event message, over and over.

use std::time::{Duration, Instant};

use daemoneye_eventbus::{
    MAX_FRAME, Payload, frame,
    proto::{CollectionEventPayload, EventBusMessage},
};
use prost::Message as _;

const TIME: Duration = Duration::from_secs(2);

pub(crate) fn run() {
    println!("| message | messages/s | MB/s |\n|---|---:|---:|");
    for size in [100, 1_000, 10_000, 100_000, 1_000_000] {
        let payload = Payload::CollectionEvent(CollectionEventPayload { message: vec![0x5a; size] });
        let topic = "events.process.procmond".to_owned();
        let message = EventBusMessage { topic, sender: None, payload: Some(payload) };
        let (start, mut count, mut bytes) = (Instant::now(), 0_u32, 0);
        while start.elapsed() < TIME {
            for _ in 0..16 {
                let framed = frame::encode(&message.encode_to_vec()).unwrap();
                let (payload, length) = frame::decode(&framed, MAX_FRAME).unwrap().unwrap();
                assert!(EventBusMessage::decode(payload).unwrap().topic.len() == message.topic.len());
                count += 1;
                bytes += length;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("| {size} B | {:.0} | {:.0} |", f64::from(count) / seconds, bytes as f64 / 1e6 / seconds);
    }
}
