//! A connection to the collector: what it says, judged by what a collector may say, and what is said to it.

use crate::fault::{Fault, require};
use crate::protocol::bus::control_payload::Control;
use crate::protocol::bus::event_bus_message::Payload;
use crate::protocol::bus::{ControlPayload, Credit, EventBusMessage, RpcRequestPayload, RpcResponsePayload};
use crate::protocol::ipc::{
    BatchAck, CollectorStatus, EventBatch, Instructions, RegisterCollector, RegisterReply, Shutdown,
};
use crate::wire::{Wire, WireError};
use prost::Message;
use std::time::{Duration, Instant};

const REGISTER: &str = "control.collector.register";

/// What a collector said.
#[derive(Debug)]
pub(crate) enum Said {
    Register(u64, RegisterCollector),
    /// A batch, with the domain of its topic.
    Batch(String, EventBatch),
    Status(CollectorStatus),
    Response(RpcResponsePayload),
    Closed,
}

pub(crate) struct Link {
    wire: Wire,
    name: String,
    pub(crate) patience: Duration,
    /// Topics that it subscribed to, and those that it serves.
    pub(crate) subscribed: Vec<String>,
    pub(crate) served: Vec<String>,
    calls: u64,
    /// Batches that it may publish on this connection, and those that it did.
    granted: u64,
    published: u64,
}

/// The bytes that it may publish: more than any check reads.
const BYTES: u64 = 1 << 40;

impl Link {
    pub(crate) fn new(wire: Wire, name: &str, patience: Duration) -> Self {
        let (subscribed, served) = (Vec::new(), Vec::new());
        Self { wire, name: name.to_owned(), patience, subscribed, served, calls: 0, granted: 0, published: 0 }
    }

    /// What it says next; none when it says nothing within the time.
    pub(crate) fn next(&mut self, within: Duration) -> Result<Option<Said>, Fault> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = match self.wire.receive(left) {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(None),
                Err(WireError::Closed) => return Ok(Some(Said::Closed)),
                Err(garbage) => return Err(Fault::new(garbage.to_string())),
            };
            if let Some(said) = self.judge(message)? {
                return Ok(Some(said));
            }
        }
    }

    /// What a message means; whatever a collector may not send is a fault.
    fn judge(&mut self, message: EventBusMessage) -> Result<Option<Said>, Fault> {
        let EventBusMessage { topic, payload, .. } = message;
        let segments: Vec<&str> = topic.split('.').collect();
        let own = |segment: &str| segment == self.name;
        match payload {
            Some(Payload::RpcRequest(call)) => {
                require(topic == REGISTER, || format!("it calls {topic}; a collector may call {REGISTER}"))?;
                let register = decode::<RegisterCollector>("its registration", &call.message)?;
                Ok(Some(Said::Register(call.correlation_id, register)))
            }
            Some(Payload::CollectionEvent(event)) => {
                let [kind, domain, name] = segments[..] else {
                    return Err(Fault::new(format!(
                        "it publishes events on {topic}, not on events.DOMAIN.{}",
                        self.name
                    )));
                };
                require(kind == "events" && own(name), || {
                    format!("it publishes events on {topic}, not on events.DOMAIN.{}", self.name)
                })?;
                self.published += 1;
                require(self.published <= self.granted, || {
                    format!("it publishes {} batches, and has credit for {}", self.published, self.granted)
                })?;
                let batch = decode("its batch", &event.message)?;
                Ok(Some(Said::Batch(domain.to_owned(), batch)))
            }
            Some(Payload::RpcResponse(response)) => Ok(Some(Said::Response(response))),
            Some(Payload::Heartbeat(counter)) => {
                self.send("", Payload::Heartbeat(counter));
                Ok(None)
            }
            Some(Payload::Control(ControlPayload { control })) => match control {
                Some(Control::Message(body)) => {
                    let right = matches!(segments[..], ["control", "health", name] if own(name));
                    require(right, || {
                        format!("it publishes on {topic}; its status belongs on control.health.{}", self.name)
                    })?;
                    Ok(Some(Said::Status(decode("its status", &body)?)))
                }
                Some(Control::Subscribe(subscribe)) => {
                    let pattern = subscribe.pattern;
                    let parts: Vec<&str> = pattern.split('.').collect();
                    let allowed = match parts[..] {
                        ["control", "collector" | "shutdown" | "config", name] => own(name) && !subscribe.serve,
                        ["tasks", name] => own(name),
                        _ => false,
                    };
                    require(allowed, || format!("it subscribes to {pattern}, which a collector may not"))?;
                    if subscribe.serve { &mut self.served } else { &mut self.subscribed }.push(pattern);
                    Ok(None)
                }
                Some(Control::Goodbye(_)) => Ok(Some(Said::Closed)),
                Some(Control::Unsubscribe(_) | Control::Cancel(_)) => Ok(None),
                _ => Err(Fault::new("it sends a control message that a collector may not send")),
            },
            _ => Err(Fault::new(format!("it sends a message on {topic:?} that a collector may not send"))),
        }
    }

    /// Waits for something that must come; everything else may come before.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut is_it: impl FnMut(&mut Self, Said) -> Result<Option<T>, Fault>,
    ) -> Result<T, Fault> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.next(left)? {
                None => return Err(Fault::new(format!("{what}: not within {within:?}"))),
                Some(Said::Closed) => return Err(Fault::new(format!("{what}: it closed the connection instead"))),
                Some(said) => {
                    if let Some(found) = is_it(self, said)? {
                        return Ok(found);
                    }
                }
            }
        }
    }

    /// Waits for the registration; nothing may be published before it is answered.
    pub(crate) fn registration(&mut self) -> Result<(u64, RegisterCollector), Fault> {
        let patience = self.patience;
        self.wait_for("its registration", patience, |_, said| match said {
            Said::Register(id, register) => Ok(Some((id, register))),
            Said::Batch(..) => Err(Fault::new("it publishes events before it is registered")),
            _ => Ok(None),
        })
    }

    pub(crate) fn accept(&mut self, id: u64, reply: &RegisterReply) {
        let response =
            RpcResponsePayload { correlation_id: id, message: reply.encode_to_vec(), ..RpcResponsePayload::default() };
        self.send(REGISTER, Payload::RpcResponse(response));
    }

    pub(crate) fn acknowledge(&mut self, epoch: &[u8], through_sequence: u64) {
        let ack = BatchAck { epoch: epoch.to_vec(), through_sequence };
        self.control("collector", &ack);
    }

    pub(crate) fn instruct(&mut self, instructions: &Instructions) {
        self.control("config", instructions);
    }

    pub(crate) fn shut_down(&mut self) {
        self.control("shutdown", &Shutdown { reason: "the check is over".to_owned() });
    }

    /// Calls a topic that the collector serves.
    pub(crate) fn call(&mut self, topic: &str, message: Vec<u8>) -> u64 {
        self.calls += 1;
        let call = RpcRequestPayload { correlation_id: self.calls, message, timeout_ms: 10_000, ..Default::default() };
        self.send(topic, Payload::RpcRequest(call));
        self.calls
    }

    fn control(&mut self, kind: &str, message: &impl Message) {
        self.control_bytes(kind, message.encode_to_vec());
    }

    /// A domain message on `control.KIND.NAME`.
    pub(crate) fn control_bytes(&mut self, kind: &str, message: Vec<u8>) {
        let topic = format!("control.{kind}.{}", self.name);
        self.send(&topic, Payload::Control(ControlPayload { control: Some(Control::Message(message)) }));
    }

    fn send(&mut self, topic: &str, payload: Payload) {
        // A connection that is over is found by reading.
        let _ = self.wire.send(&EventBusMessage { topic: topic.to_owned(), payload: Some(payload), sender: None });
    }

    /// Gives it credit for so many batches in all.
    pub(crate) fn grant(&mut self, messages: u64) {
        self.granted = messages;
        let credit = Control::Credit(Credit { messages, bytes: BYTES });
        self.send("", Payload::Control(ControlPayload { control: Some(credit) }));
    }

    pub(crate) fn close(&self) {
        self.wire.close();
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.wire.send_bytes(bytes);
    }
}

pub(crate) fn decode<M: Message + Default>(what: &str, bytes: &[u8]) -> Result<M, Fault> {
    M::decode(bytes).map_err(|error| Fault::new(format!("{what} cannot be decoded: {error}")))
}
