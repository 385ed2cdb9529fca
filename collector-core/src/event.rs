//! What a source tells of its subject.

use daemoneye_lib::models::event::Event;
use daemoneye_lib::proto::common::{FilesystemEvent, NetworkEvent, PerformanceSample, ProcessEvent, SecurityEvent};
use daemoneye_lib::proto::ipc::collected_item::Item;
use daemoneye_lib::proto::ipc::{CollectedItem, TriggerRequest};

/// What a source tells of its subject, one kind for each domain. (Scans and gaps, which say how it looked, are emitted as
/// the items that they are.)
#[expect(clippy::large_enum_variant, reason = "nearly all events are of the largest kind")]
#[derive(Clone, Debug, PartialEq)]
pub enum CollectionEvent {
    /// Of the domain `process`.
    Process(ProcessEvent),
    /// Of the domain `network`.
    Network(NetworkEvent),
    /// Of the domain `filesystem`.
    Filesystem(FilesystemEvent),
    /// Of the domain `performance`.
    Performance(PerformanceSample),
    /// Of the domain `security`.
    Security(SecurityEvent),
    /// Of the domain `trigger`: a task that another collector is to do.
    Trigger(TriggerRequest),
}

impl From<Event> for CollectionEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::Process(event) => Self::Process(event),
            Event::Network(event) => Self::Network(event),
            Event::Filesystem(event) => Self::Filesystem(event),
            Event::Performance(sample) => Self::Performance(sample),
            Event::Security(event) => Self::Security(event),
        }
    }
}

impl From<CollectionEvent> for CollectedItem {
    fn from(event: CollectionEvent) -> Self {
        let item = match event {
            CollectionEvent::Process(event) => Item::Process(event),
            CollectionEvent::Network(event) => Item::Network(event),
            CollectionEvent::Filesystem(event) => Item::Filesystem(event),
            CollectionEvent::Performance(sample) => Item::Performance(sample),
            CollectionEvent::Security(event) => Item::Security(event),
            CollectionEvent::Trigger(request) => Item::Trigger(request),
        };
        Self { item: Some(item) }
    }
}
