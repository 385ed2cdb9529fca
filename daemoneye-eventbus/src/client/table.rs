//! Who takes what arrives on a client's connection.
//!
//! The table's lock is held for look-ups only, never across an await, and nothing is dropped under it that could take it
//! again (requests answer themselves when they are dropped).

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{Client, Closed, credit::Purse, serve::Incoming};
use crate::{
    proto::{
        Cancel, ControlPayload, Credit, EventBusMessage, Goodbye, RpcRequestPayload, RpcResponsePayload,
        control_payload::Control, event_bus_message::Payload,
    },
    queue::{Delivery, Permit, Room},
    topic::Pattern,
};

/// An answer, and the room that it holds until it is taken.
pub(super) type Answer = (RpcResponsePayload, Permit);

pub(super) struct Shared {
    table: Mutex<Table>,
    closed: watch::Sender<Option<String>>,
    pub(super) purse: Purse,
}

#[derive(Default)]
pub(super) struct Table {
    last_id: u64,
    pub(super) listeners: Vec<Listener>,
    /// Calls under way, by correlation id.
    pub(super) calls: HashMap<u64, mpsc::UnboundedSender<Answer>>,
    /// Requests that are being served, by the broker's id; true is sent when nobody waits for the answer any more.
    pub(super) serving: HashMap<u64, watch::Sender<bool>>,
    /// Heartbeats whose echo is awaited.
    pub(super) probes: HashMap<u64, oneshot::Sender<()>>,
}

pub(super) struct Listener {
    pub(super) id: u64,
    pub(super) pattern: Pattern,
    pub(super) taker: Taker,
}

pub(super) enum Taker {
    Publications {
        taker: mpsc::UnboundedSender<Delivery>,
        credit: Credit,
    },
    /// `room` bounds what waits, whoever sent it: a caller that leaves and comes back makes no room.
    Requests {
        taker: mpsc::UnboundedSender<Incoming>,
        room: Room,
    },
}

impl Table {
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

impl Shared {
    pub(super) fn new(purse: Purse) -> Self {
        Self { table: Mutex::default(), closed: watch::Sender::default(), purse }
    }

    /// The table, unless the connection is gone.
    pub(super) fn open_table(&self) -> Result<MutexGuard<'_, Table>, Closed> {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        match self.closed_reason() {
            None => Ok(table),
            Some(reason) => Err(Closed { reason }),
        }
    }

    /// Marks the connection as gone; the first reason stays. Whoever waits for something is told by the end of its channel.
    pub(super) fn close(&self, reason: String) {
        let forgotten = {
            let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
            self.closed.send_if_modified(|closed| closed.is_none() && closed.replace(reason).is_none());
            std::mem::take(&mut *table)
        };
        drop(forgotten);
    }

    pub(super) fn closed_reason(&self) -> Option<String> {
        self.closed.borrow().clone()
    }

    pub(super) async fn closed(&self) -> String {
        let mut closed = self.closed.subscribe();
        let reason = closed.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    /// Hands what arrived to whoever it is for; an error is why the connection must end. `client` is absent when every handle
    /// is gone, and then nobody wants requests.
    pub(super) fn dispatch(&self, client: Option<Client>, delivery: Delivery) -> Result<(), String> {
        let Delivery { mut message, permit, room } = delivery;
        match message.payload.take() {
            Some(Payload::RpcRequest(request)) => {
                if let Some(client) = client {
                    self.dispatch_request(client, message, request, room);
                }
            }
            Some(Payload::RpcResponse(response)) => self.dispatch_response(response, permit),
            Some(Payload::Heartbeat(heartbeat)) => {
                let probe = self.open_table().ok().and_then(|mut table| table.probes.remove(&heartbeat.counter));
                // Whoever asked may have given up.
                let _ = probe.map(|probe| probe.send(()));
            }
            Some(Payload::Control(ControlPayload { control: Some(Control::Goodbye(Goodbye { reason, .. })) })) => {
                return Err(reason);
            }
            Some(Payload::Control(ControlPayload { control: Some(Control::Cancel(Cancel { correlation_id })) })) => {
                let cancelled = self.open_table().ok().and_then(|mut table| table.serving.remove(&correlation_id));
                cancelled.map(|cancelled| cancelled.send_replace(true));
            }
            Some(Payload::Control(ControlPayload { control: Some(Control::Credit(credit)) })) => {
                self.purse.raise(credit);
            }
            payload @ Some(Payload::CollectionEvent(_) | Payload::Alert(_) | Payload::Control(_)) => {
                message.payload = payload;
                self.dispatch_publication(message, &permit);
            }
            None => return Err("the broker sent a message without a payload".into()),
        }
        Ok(())
    }

    fn dispatch_publication(&self, message: EventBusMessage, permit: &Permit) {
        let Ok(table) = self.open_table() else { return };
        let mut takers =
            table.listeners.iter().filter(|listener| listener.pattern.matches(&message.topic)).filter_map(|listener| {
                match &listener.taker {
                    Taker::Publications { taker, .. } => Some(taker),
                    Taker::Requests { .. } => None,
                }
            });
        let Some(mut taker) = takers.next() else { return };
        for next in takers {
            // A subscription that is being dropped wants nothing more.
            let _ = taker.send(Delivery { message: message.clone(), permit: permit.clone(), room: None });
            taker = next;
        }
        let _ = taker.send(Delivery { message, permit: permit.clone(), room: None });
    }

    fn dispatch_request(
        &self,
        client: Client,
        message: EventBusMessage,
        request: RpcRequestPayload,
        room: Option<Room>,
    ) {
        let (cancel, cancelled) = watch::channel(false);
        let id = request.correlation_id;
        let size = request.message.len();
        let incoming = Incoming::new(client, message, request, room, cancelled);
        let (taker, held) = {
            let Ok(mut table) = self.open_table() else { return };
            table.serving.insert(id, cancel);
            let found = table.listeners.iter().find_map(|listener| match &listener.taker {
                Taker::Requests { taker, room } if listener.pattern.matches(incoming.topic()) => {
                    Some((taker.clone(), room.try_acquire(size)))
                }
                _ => None,
            });
            found.unzip()
        };
        match (taker, held.flatten()) {
            // Where the taker is being dropped, the request answers itself.
            (Some(taker), Some(held)) => drop(taker.send(incoming.holding(held))),
            (Some(_), None) => incoming.refuse("too many requests wait for the server"),
            (None, _) => incoming.refuse("nobody serves it"),
        }
    }

    fn dispatch_response(&self, response: RpcResponsePayload, permit: Permit) {
        let Ok(mut table) = self.open_table() else { return };
        let id = response.correlation_id;
        let taker = if response.more { table.calls.get(&id).cloned() } else { table.calls.remove(&id) };
        drop(table);
        // A call that was given up takes nothing more.
        let _ = taker.map(|taker| taker.send((response, permit)));
    }
}
