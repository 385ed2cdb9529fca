//! The router: who is there, who subscribed to what, which [calls](super::calls) are under way.
//!
//! It owns all of this alone, is told by [`Event`]s, takes them from each connection in [turns](super::fair), and never waits
//! for anybody.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    calls::{Calls, UnderWay},
    fair::Inbox,
};

use prost::Message as _;

use crate::{
    auth::{Gate, Peer},
    message::{self, goodbye},
    policy::{self, Act},
    proto::{
        Cancel, ControlPayload, Credit, EventBusMessage, Role, RpcResponsePayload, Subscribe, control_payload::Control,
        event_bus_message::Payload, goodbye::Kind,
    },
    queue::{Outbox, Permit},
    standing::CUT_OFF,
    topic::{self, Pattern},
};

/// The most subscriptions of one connection.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 64;

/// The most calls that one connection may have under way.
pub(crate) const MAX_CALLS: usize = 64;

/// Messages that one task handles before the others get their turn.
pub(super) const IN_A_ROW: usize = 16;

/// What the router is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody came through the socket and was let in.
    Joined(Box<Member>),
    /// A member sent a message, which holds this room.
    Message { connection: u64, message: EventBusMessage, permit: Permit },
    /// A connection ended, or must end for what the peer did.
    Left { connection: u64, violation: Option<String> },
    /// The broker ends.
    Stop,
}

/// Somebody who is there, and the queue towards them.
#[derive(Debug)]
pub(crate) struct Member {
    pub(super) peer: Peer,
    pub(super) outbox: Outbox,
    subscriptions: Vec<Subscription>,
    /// Calls of this member that are under way, by its correlation id.
    pub(super) calls: HashMap<u64, UnderWay>,
    /// Calls that it serves and has not answered.
    pub(super) working_on: usize,
    /// The last call that it was given.
    pub(super) last_asked: u64,
    /// Since when it was found idle, unless it has called since.
    pub(super) idle_since: Option<Instant>,
    /// What makes a member of the socket one; dropping it tells the connection that it is closed.
    remote: Option<Remote>,
}

#[derive(Debug)]
struct Remote {
    _alive: oneshot::Sender<()>,
    welcome: Option<EventBusMessage>,
    /// What a collector may have on its way.
    window: watch::Sender<Credit>,
}

#[derive(Debug)]
struct Subscription {
    pattern: Pattern,
    serve: bool,
    /// What each collector may have on its way to it.
    credit: Option<Credit>,
}

impl Member {
    /// A part of this process.
    pub(crate) fn local(peer: Peer, outbox: Outbox) -> Self {
        Self {
            peer,
            outbox,
            subscriptions: Vec::new(),
            calls: HashMap::new(),
            working_on: 0,
            last_asked: 0,
            idle_since: None,
            remote: None,
        }
    }

    /// Somebody who came through the socket, what to greet them with, and where to tell what they may have on their way.
    pub(crate) fn remote(
        peer: Peer,
        outbox: Outbox,
        alive: oneshot::Sender<()>,
        welcome: EventBusMessage,
        window: watch::Sender<Credit>,
    ) -> Self {
        let remote = Remote { _alive: alive, welcome: Some(welcome), window };
        Self { remote: Some(remote), ..Self::local(peer, outbox) }
    }

    pub(super) fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Whether something waits to be written to it.
    pub(super) fn has_unread(&self) -> bool {
        self.is_remote() && self.outbox.room.held().messages > 0
    }

    pub(super) fn has_room_for(&self, message: &EventBusMessage) -> bool {
        !self.is_remote() || self.outbox.room.try_acquire(message.encoded_len()).is_some()
    }

    /// Whether it is an operator that waits for nothing: neither for an answer nor for publications.
    fn is_idle(&self) -> bool {
        self.peer.role == Role::Operator && self.calls.is_empty() && self.subscriptions.is_empty()
    }

    fn listens_to(&self, topic: &str) -> bool {
        self.subscriptions.iter().any(|s| !s.serve && s.pattern.matches(topic))
    }

    /// The pattern by which it serves a topic.
    pub(super) fn serves(&self, topic: &str) -> Option<&Pattern> {
        self.subscriptions.iter().find(|s| s.serve && s.pattern.matches(topic)).map(|s| &s.pattern)
    }

    pub(super) fn may(&self, act: Act, topic: &str) -> bool {
        policy::allows(self.peer.role, &self.peer.name, act, topic)
    }

    pub(super) fn push_response(&self, response: RpcResponsePayload, permit: Permit) {
        self.outbox.push_with(message::response(response), permit);
    }
}

/// The task that owns the state.
pub(super) struct Router {
    inbox: Inbox,
    gate: Gate,
    /// How long an operator may stay idle.
    patience: Duration,
    /// By connection, so in the order in which they came.
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) calls: Calls,
}

impl Router {
    pub(super) fn new(inbox: Inbox, gate: Gate, locals: Vec<Member>, patience: Duration) -> Self {
        let members = locals.into_iter().map(|member| (member.peer.connection, member)).collect();
        Self { inbox, gate, patience, members, calls: Calls::default() }
    }

    pub(super) async fn run(mut self) {
        let mut rounds = interval((self.patience / 8).max(Duration::from_millis(1)));
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut in_a_row = 0;
        loop {
            // Whoever this wakes must get to run, also when there is always something more to do here.
            in_a_row += 1;
            if in_a_row >= IN_A_ROW {
                in_a_row = 0;
                tokio::task::yield_now().await;
            }
            let event = tokio::select! {
                event = self.inbox.recv() => event,
                now = rounds.tick() => {
                    self.dismiss_idle(now);
                    continue;
                }
                () = self.calls.overdue() => {
                    self.expire(Instant::now());
                    continue;
                }
            };
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
        // And the credit after that.
        self.grant();
    }

    /// Says of every collector how much it may have on its way: the least that one of the subscriptions to its events grants.
    fn grant(&self) {
        for member in self.members.values().filter(|member| member.peer.role == Role::Collector) {
            let (Some(remote), Ok(events)) = (&member.remote, Pattern::parse(&policy::events_of(&member.peer.name)))
            else {
                continue;
            };
            let granted = self
                .members
                .values()
                .flat_map(|member| &member.subscriptions)
                .filter(|subscription| subscription.pattern.overlaps(&events))
                .filter_map(|subscription| subscription.credit)
                .reduce(|a, b| Credit { messages: a.messages.min(b.messages), bytes: a.bytes.min(b.bytes) })
                .unwrap_or_default();
            remote.window.send_if_modified(|now| std::mem::replace(now, granted) != granted);
        }
    }

    /// Forgets a member, says goodbye to it, and tells whoever waits for it or works for it.
    fn remove(&mut self, connection: u64, reason: &str) {
        let Some(mut member) = self.members.remove(&connection) else { return };
        tracing::debug!(peer = %member.peer, reason, "left the bus");
        member.outbox.push_with(goodbye(Kind::Other, reason), Permit::free());
        member.outbox.room.close();
        for under_way in std::mem::take(&mut member.calls).into_values() {
            self.cancel(under_way);
        }
        self.reassign_calls_of(connection);
        if member.subscriptions.iter().any(|subscription| subscription.credit.is_some()) {
            self.grant();
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
            self.gate.blame(member.peer.pid, CUT_OFF);
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
                    if let Some(under_way) =
                        self.members.get_mut(&from).and_then(|member| member.calls.remove(&correlation_id))
                    {
                        self.cancel(under_way);
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
                Some(Control::Hello(_) | Control::Welcome(_) | Control::Noise(_)) => {
                    Err("a handshake after the handshake".into())
                }
                Some(Control::Credit(_)) => Err("only the broker gives credit".into()),
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
            self.members.values().filter(|member| member.listens_to(&message.topic)).collect();
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

    fn subscribe(&mut self, from: u64, Subscribe { pattern, serve, credit }: Subscribe) -> Result<(), String> {
        let pattern = Pattern::parse(&pattern).map_err(|error| error.to_string())?;
        let act = if serve { Act::Serve } else { Act::Subscribe };
        self.check(from, act, pattern.as_str())?;
        let same = |other: &Subscription| other.serve == serve && other.pattern == pattern;
        let Some(member) = self.members.get(&from) else { return Ok(()) };
        let shared = |other: &Member| {
            policy::is_shared(pattern.as_str()) && [member, other].iter().all(|m| m.peer.role == Role::Collector)
        };
        let mut others = self.members.values().filter(|other| other.peer.connection != from);
        if serve && others.any(|other| other.subscriptions.iter().any(same) && !shared(other)) {
            return Err(format!("requests on {} are served already", pattern.as_str()));
        }
        let Some(Member { subscriptions, .. }) = self.members.get_mut(&from) else { return Ok(()) };
        match subscriptions.iter().position(same) {
            Some(place) => subscriptions[place].credit = credit,
            None if subscriptions.len() >= MAX_SUBSCRIPTIONS => {
                return Err(format!("more than {MAX_SUBSCRIPTIONS} subscriptions"));
            }
            None => subscriptions.push(Subscription { pattern, serve, credit }),
        }
        if credit.is_some() {
            self.grant();
        }
        Ok(())
    }

    fn unsubscribe(&mut self, from: u64, pattern: &str) {
        if let Some(member) = self.members.get_mut(&from) {
            member.subscriptions.retain(|subscription| subscription.pattern.as_str() != pattern);
            self.grant();
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
