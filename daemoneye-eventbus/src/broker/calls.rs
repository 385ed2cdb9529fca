//! The calls that are under way: who is asked, who waits, until when.
//!
//! A call goes to one server of its topic. Where the instances of a collector share a topic, that is the one with the fewest
//! calls to answer, and another of them when it leaves before anything of the answer came. A call of all goes to each of
//! them, and ends when the last of them has answered, failed or run out of time.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::router::{MAX_CALLS, Member, Router};
use crate::{
    message,
    policy::{self, Act},
    proto::{EventBusMessage, RpcRequestPayload, RpcResponsePayload, RpcStatus, event_bus_message::Payload},
    queue::{Delivery, Permit},
    topic,
};

/// What one server was asked, under an id of ours.
#[derive(Debug)]
struct Call {
    caller: u64,
    callers_id: u64,
    server: u64,
    servers_name: String,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    /// What another server of the topic would be asked, as long as nothing of the answer came.
    again: Option<(EventBusMessage, Permit)>,
}

/// A member's own view of its call: which of our ids belong to it.
#[derive(Debug)]
pub(super) struct UnderWay {
    ids: Vec<u64>,
    all: bool,
}

/// All that were asked and have not answered.
#[derive(Debug, Default)]
pub(super) struct Calls {
    by_id: HashMap<u64, Call>,
    deadlines: BTreeSet<(Instant, u64)>,
    last_id: u64,
}

impl Calls {
    fn add(&mut self, id: u64, call: Call) {
        self.deadlines.extend(call.deadline.map(|at| (at, id)));
        self.by_id.insert(id, call);
    }

    fn remove(&mut self, id: u64) -> Option<Call> {
        let call = self.by_id.remove(&id)?;
        if let Some(at) = call.deadline {
            self.deadlines.remove(&(at, id));
        }
        Some(call)
    }

    /// The time for the next part begins.
    fn wind_up(&mut self, id: u64, now: Instant) {
        let Some(mut call) = self.remove(id) else { return };
        call.deadline = call.timeout.and_then(|timeout| now.checked_add(timeout));
        self.add(id, call);
    }

    /// Resolves when somebody's time is over.
    pub(super) async fn overdue(&self) {
        match self.deadlines.first() {
            Some((at, _)) => sleep_until(*at).await,
            None => std::future::pending().await,
        }
    }

    fn of_server(&self, server: u64) -> Vec<u64> {
        self.by_id.iter().filter(|(_, call)| call.server == server).map(|(id, _)| *id).collect()
    }
}

impl Router {
    /// Passes a request on to who serves its topic.
    pub(super) fn request(
        &mut self,
        from: u64,
        message: EventBusMessage,
        mut request: RpcRequestPayload,
        permit: Permit,
    ) -> Result<(), String> {
        topic::check(&message.topic).map_err(|error| error.to_string())?;
        let callers_id = request.correlation_id;
        let Some(caller) = self.members.get(&from) else { return Ok(()) };
        if caller.calls.contains_key(&callers_id) {
            return Err(format!("two calls under way with correlation id {callers_id}"));
        }
        let mut servers = self.servers_of(&message.topic);
        let refusal = if !caller.may(Act::Call, &message.topic) {
            Some((RpcStatus::RpcDenied, format!("{} may not call it", caller.peer.role.as_str_name())))
        } else if caller.calls.len() >= MAX_CALLS {
            Some((RpcStatus::RpcDenied, format!("{MAX_CALLS} calls are under way already")))
        } else if servers.is_empty() {
            Some((RpcStatus::RpcNoServer, "nobody serves it".to_owned()))
        } else {
            None
        };
        if let Some((status, reason)) = refusal {
            caller.push_response(RpcResponsePayload { correlation_id: callers_id, ..failure(status, &reason) }, permit);
            return Ok(());
        }

        let all = std::mem::take(&mut request.all);
        let timeout = (request.timeout_ms > 0).then(|| Duration::from_millis(request.timeout_ms));
        let retriable = !all && policy::is_shared(&message.topic);
        let message = EventBusMessage { payload: Some(Payload::RpcRequest(request)), ..message };
        if !all {
            let chosen = servers.iter().copied().find(|server| self.has_room(*server, &message));
            servers = vec![chosen.unwrap_or(servers[0])];
        }
        let ids: Vec<u64> = servers.iter().map(|_| self.next_call_id()).collect();
        if let Some(caller) = self.members.get_mut(&from) {
            caller.calls.insert(callers_id, UnderWay { ids: ids.clone(), all });
            caller.idle_since = None;
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        for (id, server) in ids.into_iter().zip(servers) {
            let again = retriable.then(|| (message.clone(), permit.clone()));
            let servers_name = self.members.get(&server).map(|server| server.peer.name.clone()).unwrap_or_default();
            self.calls.add(id, Call { caller: from, callers_id, server, servers_name, timeout, deadline, again });
            if !self.hand_over(id, server, message.clone(), permit.clone()) {
                self.answer(id, failure(RpcStatus::RpcError, "the server does not take requests now"), Permit::free());
            }
        }
        Ok(())
    }

    fn next_call_id(&mut self) -> u64 {
        self.calls.last_id += 1;
        self.calls.last_id
    }

    /// Those who serve the pattern that the oldest server of the topic serves; the one to ask first is the first.
    fn servers_of(&self, topic: &str) -> Vec<u64> {
        let serves = |member: &Member| member.serves(topic).cloned();
        let Some(pattern) = self.members.values().find_map(serves) else { return Vec::new() };
        let mut servers: Vec<&Member> =
            self.members.values().filter(|member| member.serves(topic) == Some(&pattern)).collect();
        servers.sort_by_key(|server| (server.working_on, server.last_asked));
        servers.into_iter().map(|server| server.peer.connection).collect()
    }

    fn has_room(&self, server: u64, message: &EventBusMessage) -> bool {
        self.members.get(&server).is_some_and(|server| server.has_room_for(message))
    }

    /// Gives a request to a server; false where its queue is full.
    fn hand_over(&mut self, id: u64, server: u64, mut message: EventBusMessage, permit: Permit) -> bool {
        if let Some(Payload::RpcRequest(request)) = &mut message.payload {
            request.correlation_id = id;
        }
        let caller = self.calls.by_id.get(&id).and_then(|call| self.members.get(&call.caller));
        let room = caller.map(|caller| caller.outbox.room.clone());
        let Some(server) = self.members.get_mut(&server) else { return false };
        server.working_on += 1;
        server.last_asked = id;
        if server.is_remote() {
            server.outbox.try_push(message)
        } else {
            server.outbox.push_delivery(Delivery { message, permit, room })
        }
    }

    /// An answer of a server; one to a call that is over, or that somebody else serves, goes nowhere.
    pub(super) fn response(&mut self, from: u64, mut response: RpcResponsePayload, permit: Permit) {
        let id = response.correlation_id;
        if self.calls.by_id.get(&id).is_none_or(|call| call.server != from) {
            return;
        }
        if response.status() != RpcStatus::RpcOk {
            response.set_status(RpcStatus::RpcError);
            response.more = false;
        }
        self.answer(id, response, permit);
    }

    /// Passes a part of an answer on to the caller; after the last, the call is over.
    fn answer(&mut self, id: u64, mut response: RpcResponsePayload, permit: Permit) {
        let last = !response.more;
        let Some(call) = self.calls.by_id.get_mut(&id) else { return };
        let (caller, callers_id, server) = (call.caller, call.callers_id, call.servers_name.clone());
        call.again = None;
        if last {
            self.forget(id);
        } else {
            self.calls.wind_up(id, Instant::now());
        }
        let Some(caller) = self.members.get_mut(&caller) else { return };
        let Some(under_way) = caller.calls.get_mut(&callers_id) else { return };
        if last {
            under_way.ids.retain(|other| *other != id);
        }
        let (all, over) = (under_way.all, under_way.ids.is_empty());
        if over {
            caller.calls.remove(&callers_id);
        }
        response.correlation_id = callers_id;
        response.last_of_server = all && last;
        response.server = if all { server } else { String::new() };
        response.more |= all;
        caller.push_response(response, permit);
        if all && over {
            let end = RpcResponsePayload { correlation_id: callers_id, ..RpcResponsePayload::default() };
            caller.push_response(end, Permit::free());
        }
    }

    fn forget(&mut self, id: u64) -> Option<Call> {
        let call = self.calls.remove(id)?;
        if let Some(server) = self.members.get_mut(&call.server) {
            server.working_on = server.working_on.saturating_sub(1);
        }
        Some(call)
    }

    /// Tells the server of a call that nobody waits any more.
    fn call_off(&self, id: u64, server: u64) {
        if let Some(server) = self.members.get(&server) {
            server.outbox.push_with(message::cancel(id), Permit::free());
        }
    }

    /// A caller no longer waits.
    pub(super) fn cancel(&mut self, under_way: UnderWay) {
        for id in under_way.ids {
            if let Some(call) = self.forget(id) {
                self.call_off(id, call.server);
            }
        }
    }

    /// The calls whose time is over. Time does not pass for a caller that has not read what there is for it.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((at, id)) = self.calls.deadlines.first().copied()
            && at <= now
        {
            let Some(call) = self.calls.by_id.get(&id) else { return };
            let (caller, server) = (call.caller, call.server);
            if self.members.get(&caller).is_some_and(Member::has_unread) {
                self.calls.wind_up(id, now);
            } else {
                self.call_off(id, server);
                self.answer(id, failure(RpcStatus::RpcTimedOut, "nothing came in time"), Permit::free());
            }
        }
    }

    /// What a server that is gone has not answered goes to another, or fails.
    pub(super) fn reassign_calls_of(&mut self, gone: u64) {
        for id in self.calls.of_server(gone) {
            if !self.reassign(id) {
                self.answer(id, failure(RpcStatus::RpcError, "the server left before it answered"), Permit::free());
            }
        }
    }

    fn reassign(&mut self, id: u64) -> bool {
        let again = self.calls.by_id.get(&id).and_then(|call| call.again.clone());
        let Some((message, permit)) = again else { return false };
        let servers = self.servers_of(&message.topic);
        let Some(server) = servers.into_iter().find(|server| self.has_room(*server, &message)) else { return false };
        if let Some(call) = self.calls.by_id.get_mut(&id) {
            call.server = server;
        }
        self.hand_over(id, server, message, permit)
    }
}

fn failure(status: RpcStatus, reason: &str) -> RpcResponsePayload {
    RpcResponsePayload { status: status.into(), reason: reason.to_owned(), ..RpcResponsePayload::default() }
}
