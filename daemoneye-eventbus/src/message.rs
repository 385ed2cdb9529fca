//! Shorthand for the messages that the broker and the clients make themselves.

use crate::proto::{
    Cancel, ControlPayload, EventBusMessage, Goodbye, HeartbeatPayload, RpcRequestPayload, RpcResponsePayload,
    control_payload::Control, event_bus_message::Payload, goodbye::Kind,
};

/// What the broker may add to a message that it passes on: who sent it, and its own correlation id.
pub(crate) const STAMP: usize = 256;

pub(crate) fn message(topic: &str, payload: Payload) -> EventBusMessage {
    EventBusMessage { topic: topic.to_owned(), sender: None, payload: Some(payload) }
}

pub(crate) fn control(control: Control) -> EventBusMessage {
    message("", Payload::Control(ControlPayload { control: Some(control) }))
}

pub(crate) fn goodbye(kind: Kind, reason: &str) -> EventBusMessage {
    control(Control::Goodbye(Goodbye { reason: reason.to_owned(), kind: kind.into() }))
}

pub(crate) fn cancel(correlation_id: u64) -> EventBusMessage {
    control(Control::Cancel(Cancel { correlation_id }))
}

pub(crate) fn heartbeat(counter: u64) -> EventBusMessage {
    message("", Payload::Heartbeat(HeartbeatPayload { counter }))
}

pub(crate) fn request(topic: &str, request: RpcRequestPayload) -> EventBusMessage {
    message(topic, Payload::RpcRequest(request))
}

pub(crate) fn response(response: RpcResponsePayload) -> EventBusMessage {
    message("", Payload::RpcResponse(response))
}
