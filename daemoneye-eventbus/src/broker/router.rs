//! The router: who is there, who subscribed to what, which calls are under way.
//!
//! It owns all of this alone, is told by [`Event`]s, and never waits for anybody.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    auth::{Gate, Peer},
    message::{self, goodbye},
    policy::{self, Act},
    proto::{
        Cancel, ControlPayload, EventBusMessage, Role, RpcRequestPayload, RpcResponsePayload, RpcStatus, Subscribe,
        control_payload::Control, event_bus_message::Payload, goodbye::Kind,
    },
    queue::{Delivery, Outbox, Permit},
    topic::{self, Pattern},
};

/// The most subscriptions of one connection.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 64;

/// The most calls that one connection may have under way.
pub(crate) const MAX_CALLS: usize = 64;

/// What the router is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody came through the socket and was let in.
    Joined(Box<Member>),
    /// A member sent a message, which holds this credit.
    Message { connection: u64, message: EventBusMessage, permit: Permit },
    /// A connection ended, or must end for what the peer did.
    Left { connection: u64, violation: Option<String> },
    /// The broker ends.
    Stop,
}

/// Somebody who is there, and the queue towards them.
#[derive(Debug)]
pub(crate) struct Member {
    peer: Peer,
    outbox: Outbox,
    subscriptions: Vec<Subscription>,
    /// Calls of this member that are under way: its correlation id to ours.
    calls: HashMap<u64, u64>,
    /// Since when it was found idle, unless it has called since.
    idle_since: Option<Instant>,
    /// What makes a member of the socket one; dropping it tells the connection that it is closed.
    remote: Option<Remote>,
}

#[derive(Debug)]
struct Remote {
    _alive: oneshot::Sender<()>,
    welcome: Option<EventBusMessage>,
}

#[derive(Debug, PartialEq, Eq)]
struct Subscription {
    pattern: Pattern,
    serve: bool,
}

#[derive(Debug)]
struct Call {
    caller: u64,
    callers_id: u64,
    server: u64,
}

impl Member {
    /// A part of this process.
    pub(crate) fn local(peer: Peer, outbox: Outbox) -> Self {
        Self { peer, outbox, subscriptions: Vec::new(), calls: HashMap::new(), idle_since: None, remote: None }
    }

    /// Somebody who came through the socket, and what to greet them with.
    pub(crate) fn remote(peer: Peer, outbox: Outbox, alive: oneshot::Sender<()>, welcome: EventBusMessage) -> Self {
        Self { remote: Some(Remote { _alive: alive, welcome: Some(welcome) }), ..Self::local(peer, outbox) }
    }

    /// Whether it is an operator that waits for nothing: neither for an answer nor for publications.
    fn is_idle(&self) -> bool {
        self.peer.role == Role::Operator && self.calls.is_empty() && self.subscriptions.is_empty()
    }

    fn listens_to(&self, topic: &str, serve: bool) -> bool {
        self.subscriptions.iter().any(|s| s.serve == serve && s.pattern.matches(topic))
    }

    fn may(&self, act: Act, topic: &str) -> bool {
        policy::allows(self.peer.role, &self.peer.name, act, topic)
    }

    fn respond(&self, correlation_id: u64, status: RpcStatus, reason: &str, permit: Permit) {
        let response = RpcResponsePayload {
            correlation_id,
            status: status.into(),
            reason: reason.to_owned(),
            ..RpcResponsePayload::default()
        };
        self.outbox.push_with(message::response(response), permit);
    }
}

/// The task that owns the state.
pub(super) struct Router {
    inbox: mpsc::Receiver<Event>,
    gate: Gate,
    /// How long an operator may stay idle.
    patience: Duration,
    /// By connection, so in the order in which they came.
    members: BTreeMap<u64, Member>,
    /// By the id that the server knows.
    calls: HashMap<u64, Call>,
    last_call: u64,
}

impl Router {
    pub(super) fn new(inbox: mpsc::Receiver<Event>, gate: Gate, locals: Vec<Member>, patience: Duration) -> Self {
        let members = locals.into_iter().map(|member| (member.peer.connection, member)).collect();
        Self { inbox, gate, patience, members, calls: HashMap::new(), last_call: 0 }
    }

    pub(super) async fn run(mut self) {
        let mut rounds = interval((self.patience / 8).max(Duration::from_millis(1)));
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                event = self.inbox.recv() => event,
                now = rounds.tick() => {
                    self.dismiss_idle(now);
                    continue;
                }
            };
            let Some(event) = event else { break };
            match event {
                Event::Joined(member) => self.join(*member),
                Event::Message { connection, message, permit } => {
                    if let Err(violation) = self.route(connection, message, permit) {
                        self.expel(connection, &violation);
                    }
                }
                Event::Left { connection, violation: Some(violation) } => self.expel(connection, &violation),
                Event::Left { connection, violation: None } => self.remove(connection, "the connection ended"),
                Event::Stop => break,
            }
        }
        for connection in self.members.keys().copied().collect::<Vec<_>>() {
            self.remove(connection, "the agent stops");
        }
    }

    fn join(&mut self, mut member: Member) {
        if member.peer.role == Role::Collector {
            let same = |other: &&Member| other.peer.role == Role::Collector && other.peer.name == member.peer.name;
            if let Some(older) = self.members.values().find(same).map(|older| older.peer.connection) {
                self.remove(older, "replaced by a newer connection of the same collector");
            }
        }
        let welcome = member.remote.as_mut().and_then(|remote| remote.welcome.take());
        let outbox = member.outbox.clone();
        tracing::debug!(peer = %member.peer, "joined the bus");
        self.members.insert(member.peer.connection, member);
        self.show_peers();
        // Last, so that whoever has been welcomed is there for everybody.
        if let Some(welcome) = welcome {
            outbox.push_with(welcome, Permit::free());
        }
    }

    /// Forgets a member, says goodbye to it, and tells whoever waits for it or works for it.
    fn remove(&mut self, connection: u64, reason: &str) {
        let Some(member) = self.members.remove(&connection) else { return };
        tracing::debug!(peer = %member.peer, reason, "left the bus");
        member.outbox.push_with(goodbye(Kind::Other, reason), Permit::free());
        member.outbox.credit.close();
        for id in member.calls.values() {
            self.cancel(*id);
        }
        let unanswered: Vec<u64> =
            self.calls.iter().filter(|(_, call)| call.server == connection).map(|(id, _)| *id).collect();
        for id in unanswered {
            if let Some((call, caller)) = self.finish(id) {
                caller.respond(
                    call.callers_id,
                    RpcStatus::RpcError,
                    "the server left before it answered",
                    Permit::free(),
                );
            }
        }
        if member.remote.is_some() {
            self.show_peers();
        }
    }

    /// Operators that hold a place and do nothing make room for others.
    fn dismiss_idle(&mut self, now: Instant) {
        let mut idle = Vec::new();
        for (connection, member) in &mut self.members {
            if !member.is_idle() {
                member.idle_since = None;
            } else if now.duration_since(*member.idle_since.get_or_insert(now)) >= self.patience {
                idle.push(*connection);
            }
        }
        for connection in idle {
            self.remove(connection, "no call for too long");
        }
    }

    fn expel(&mut self, connection: u64, violation: &str) {
        if let Some(member) = self.members.get(&connection) {
            self.gate.note_refusal(&member.peer, violation);
            self.remove(connection, violation);
        }
    }

    fn show_peers(&self) {
        self.gate.show(
            self.members.values().filter(|member| member.remote.is_some()).map(|member| member.peer.clone()).collect(),
        );
    }

    /// Handles one message; an error is what the sender did wrong.
    fn route(&mut self, from: u64, mut message: EventBusMessage, permit: Permit) -> Result<(), String> {
        // What a member sent before it was removed may still arrive.
        let Some(member) = self.members.get(&from) else { return Ok(()) };
        message.sender = Some(member.peer.to_sender());
        match message.payload.take() {
            Some(Payload::Heartbeat(heartbeat)) => {
                member.outbox.push_with(message::heartbeat(heartbeat.counter), permit);
                Ok(())
            }
            Some(Payload::RpcRequest(request)) => self.request(from, message, request, permit),
            Some(Payload::RpcResponse(response)) => {
                self.response(from, response, permit);
                Ok(())
            }
            Some(Payload::Control(ControlPayload { control })) => match control {
                Some(Control::Subscribe(subscribe)) => self.subscribe(from, subscribe),
                Some(Control::Unsubscribe(unsubscribe)) => {
                    self.unsubscribe(from, &unsubscribe.pattern);
                    Ok(())
                }
                Some(Control::Cancel(Cancel { correlation_id })) => {
                    if let Some(id) =
                        self.members.get_mut(&from).and_then(|member| member.calls.remove(&correlation_id))
                    {
                        self.cancel(id);
                    }
                    Ok(())
                }
                Some(Control::Goodbye(_)) => {
                    self.remove(from, "goodbye");
                    Ok(())
                }
                Some(Control::Message(bytes)) => {
                    message.payload = Some(Payload::Control(ControlPayload { control: Some(Control::Message(bytes)) }));
                    self.publish(from, message, &permit)
                }
                Some(Control::Hello(_) | Control::Welcome(_)) => Err("a handshake after the handshake".into()),
                None => Err("an unknown control message".into()),
            },
            payload @ Some(Payload::CollectionEvent(_) | Payload::Alert(_)) => {
                message.payload = payload;
                self.publish(from, message, &permit)
            }
            None => Err("a message without a payload".into()),
        }
    }

    fn publish(&mut self, from: u64, message: EventBusMessage, permit: &Permit) -> Result<(), String> {
        self.check(from, Act::Publish, &message.topic)?;
        let mut receivers: Vec<&Member> =
            self.members.values().filter(|member| member.listens_to(&message.topic, false)).collect();
        let Some(last) = receivers.pop() else { return Ok(()) };
        let mut slow = Vec::new();
        let mut deliver = |member: &Member, message| {
            if member.remote.is_none() {
                member.outbox.push_with(message, permit.clone());
            } else if !member.outbox.try_push(message) {
                slow.push(member.peer.connection);
            }
        };
        for member in receivers {
            deliver(member, message.clone());
        }
        deliver(last, message);
        for connection in slow {
            self.expel(connection, "slow consumer: it does not read what it subscribed to");
        }
        Ok(())
    }

    fn subscribe(&mut self, from: u64, Subscribe { pattern, serve }: Subscribe) -> Result<(), String> {
        let pattern = Pattern::parse(&pattern).map_err(|error| error.to_string())?;
        let act = if serve { Act::Serve } else { Act::Subscribe };
        self.check(from, act, pattern.as_str())?;
        let wanted = Subscription { pattern, serve };
        let served = |(connection, member): (&u64, &Member)| {
            serve && *connection != from && member.subscriptions.contains(&wanted)
        };
        if self.members.iter().any(served) {
            return Err(format!("requests on {} are served already", wanted.pattern.as_str()));
        }
        let Some(member) = self.members.get_mut(&from) else { return Ok(()) };
        if member.subscriptions.contains(&wanted) {
            return Ok(());
        }
        if member.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(format!("more than {MAX_SUBSCRIPTIONS} subscriptions"));
        }
        member.subscriptions.push(wanted);
        Ok(())
    }

    fn unsubscribe(&mut self, from: u64, pattern: &str) {
        if let Some(member) = self.members.get_mut(&from) {
            member.subscriptions.retain(|subscription| subscription.pattern.as_str() != pattern);
        }
    }

    /// Passes a request on to whoever serves its topic, under an id of our own.
    fn request(
        &mut self,
        from: u64,
        mut message: EventBusMessage,
        mut request: RpcRequestPayload,
        permit: Permit,
    ) -> Result<(), String> {
        topic::check(&message.topic).map_err(|error| error.to_string())?;
        let callers_id = request.correlation_id;
        let Some(caller) = self.members.get(&from) else { return Ok(()) };
        if caller.calls.contains_key(&callers_id) {
            return Err(format!("two calls under way with correlation id {callers_id}"));
        }
        let refusal = if !caller.may(Act::Call, &message.topic) {
            Some((RpcStatus::RpcDenied, format!("{} may not call it", caller.peer.role.as_str_name())))
        } else if caller.calls.len() >= MAX_CALLS {
            Some((RpcStatus::RpcDenied, format!("{MAX_CALLS} calls are under way already")))
        } else {
            None
        };
        if let Some((status, reason)) = refusal {
            caller.respond(callers_id, status, &reason, permit);
            return Ok(());
        }
        let Some(server) = self.members.values().find(|member| member.listens_to(&message.topic, true)) else {
            caller.respond(callers_id, RpcStatus::RpcNoServer, "nobody serves it", permit);
            return Ok(());
        };

        self.last_call += 1;
        let id = self.last_call;
        request.correlation_id = id;
        message.payload = Some(Payload::RpcRequest(request));
        let delivered = match server.remote {
            Some(_) => server.outbox.try_push(message),
            None => server.outbox.push_delivery(Delivery {
                message,
                permit: permit.clone(),
                room: Some(caller.outbox.credit.clone()),
            }),
        };
        if !delivered {
            caller.respond(callers_id, RpcStatus::RpcError, "the server does not take requests now", permit);
            return Ok(());
        }
        self.calls.insert(id, Call { caller: from, callers_id, server: server.peer.connection });
        if let Some(caller) = self.members.get_mut(&from) {
            caller.calls.insert(callers_id, id);
            caller.idle_since = None;
        }
        Ok(())
    }

    /// Passes an answer back; one to a call that is over or that somebody else serves goes nowhere.
    fn response(&mut self, from: u64, mut response: RpcResponsePayload, permit: Permit) {
        let id = response.correlation_id;
        let Some(call) = self.calls.get(&id).filter(|call| call.server == from) else { return };
        response.correlation_id = call.callers_id;
        if response.status() != RpcStatus::RpcOk {
            response.set_status(RpcStatus::RpcError);
            response.more = false;
        }
        let caller =
            if response.more { self.members.get(&call.caller) } else { self.finish(id).map(|(_, caller)| caller) };
        if let Some(caller) = caller {
            caller.outbox.push_with(message::response(response), permit);
        }
    }

    /// Forgets a call, and returns it with the caller, if it is still there.
    fn finish(&mut self, id: u64) -> Option<(Call, &Member)> {
        let call = self.calls.remove(&id)?;
        let caller = self.members.get_mut(&call.caller)?;
        caller.calls.remove(&call.callers_id);
        Some((call, caller))
    }

    /// Forgets a call whose caller no longer waits, and tells the server.
    fn cancel(&mut self, id: u64) {
        if let Some(call) = self.calls.remove(&id)
            && let Some(server) = self.members.get(&call.server)
        {
            server.outbox.push_with(message::cancel(id), Permit::free());
        }
    }

    fn check(&self, from: u64, act: Act, topic: &str) -> Result<(), String> {
        let Some(member) = self.members.get(&from) else { return Ok(()) };
        if act == Act::Publish {
            topic::check(topic).map_err(|error| error.to_string())?;
        }
        if member.may(act, topic) {
            return Ok(());
        }
        let act = format!("{act:?}").to_lowercase();
        Err(format!("{} {:?} may not {act} on {topic}", member.peer.role.as_str_name(), member.peer.name))
    }
}
