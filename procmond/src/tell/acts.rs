//! Events of connections and of what matters for security, with what is known of the process that did it.

use super::{Scene, Teller};
use crate::differ::{Known, Tell};
use crate::kernel::{Connection, Deed, Exec, Owner, Step, What, Who};
use crate::provenance as why;
use crate::scan::Interrupted;
use daemoneye_lib::models::key::process_key;
use daemoneye_lib::models::text::escape_bytes;
use daemoneye_lib::proto::common::{NetworkEvent, NetworkEventType, SecurityEvent, SecurityEventType};
use daemoneye_lib::proto::ipc::collected_item::Item;
use std::collections::BTreeMap;
use std::io;

/// Connections and acts are told by eBPF, whatever tells of processes.
const SOURCE: &str = "ebpf";
/// The columns that say whose it is.
const WHOSE: [&str; 7] = ["process_key", "parent_key", "pid", "name", "executable_path", "uid", "user"];
/// A file with it runs as its owner.
const SET_UID: u32 = 0o4000;
/// As `linux/bpf.h` numbers types of eBPF programs.
const PROGRAM_TYPES: [&str; 33] = [
    "unspec",
    "socket_filter",
    "kprobe",
    "sched_cls",
    "sched_act",
    "tracepoint",
    "xdp",
    "perf_event",
    "cgroup_skb",
    "cgroup_sock",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "sock_ops",
    "sk_skb",
    "cgroup_device",
    "sk_msg",
    "raw_tracepoint",
    "cgroup_sock_addr",
    "lwt_seg6local",
    "lirc_mode2",
    "sk_reuseport",
    "flow_dissector",
    "cgroup_sysctl",
    "raw_tracepoint_writable",
    "cgroup_sockopt",
    "tracing",
    "struct_ops",
    "ext",
    "lsm",
    "sk_lookup",
    "syscall",
    "netfilter",
];
/// As `mmap(2)` has them.
const PROTECTIONS: [(u32, char); 3] = [(1, 'r'), (2, 'w'), (4, 'x')];

/// Of who did something, what every event says.
struct Doer {
    process_key: String,
    parent_key: Option<String>,
    pid: u32,
    name: String,
    executable_path: Option<String>,
    uid: u32,
    user: Option<String>,
}

/// By what a process became root, or another user.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gain {
    SetUidProgram,
    Exec,
    Noticed,
}

impl Gain {
    const fn word(self) -> &'static str {
        match self {
            Self::SetUidProgram => "set_uid_program",
            Self::Exec => "exec",
            Self::Noticed => "noticed",
        }
    }
}

impl Teller {
    pub(super) fn connection(
        &mut self,
        connection: &Connection<'_>,
        scene: &Scene<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        if scene.crowded {
            self.shed_connections += 1;
            return Ok(());
        }
        tell(Item::Network(self.network_event(connection, scene)))
    }

    fn network_event(&self, connection: &Connection<'_>, scene: &Scene<'_>) -> NetworkEvent {
        let (event_type, state) = match connection.what {
            Step::Connected => (NetworkEventType::Connect, "established"),
            Step::NotConnected => (NetworkEventType::Connect, "failed"),
            Step::Accepted => (NetworkEventType::Accept, "established"),
            Step::Listens => (NetworkEventType::Listen, "listen"),
            Step::Closed => (NetworkEventType::Close, "close"),
        };
        // Who is known only afterwards has it since before.
        let since = connection.established.filter(|_| connection.what == Step::Accepted);
        let direction = if connection.incoming { "in" } else { "out" };
        let mut event = NetworkEvent {
            event_type: event_type.into(),
            event_time: scene.time(since.unwrap_or(connection.at)),
            protocol: Some("tcp".to_owned()),
            family: Some(if connection.local.0.is_ipv4() { "ipv4" } else { "ipv6" }.to_owned()),
            local_address: Some(connection.local.0.to_string()),
            local_port: Some(connection.local.1.into()),
            remote_address: connection.remote.map(|(address, _)| address.to_string()),
            remote_port: connection.remote.map(|(_, port)| port.into()),
            direction: connection.remote.map(|_| direction.to_owned()),
            state: Some(state.to_owned()),
            bytes_sent: connection.bytes.map(|(sent, _)| sent),
            bytes_received: connection.bytes.map(|(_, received)| received),
            inode: connection.inode,
            namespace: Some(connection.namespace.into()),
            source: SOURCE.to_owned(),
            provenance: BTreeMap::from([(why::EVERY.to_owned(), why::CAPTURED.to_owned())]),
            collection_time: scene.time(connection.at),
            ..NetworkEvent::default()
        };
        if let Some(who) = connection.owner.who() {
            let doer = self.doer(who, scene);
            event.process_key = Some(doer.process_key);
            event.parent_key = doer.parent_key;
            event.pid = Some(doer.pid);
            event.name = Some(doer.name);
            event.executable_path = doer.executable_path;
            event.uid = Some(doer.uid);
            event.user = doer.user;
        }
        let known_by = match connection.owner {
            Owner::Seen(_) => None,
            Owner::User(_) => Some((why::INFERRED, "first use")),
            Owner::Listener(_) => Some((why::INFERRED, "listener")),
            Owner::Unknown => Some((why::NOBODY_SEEN, "nothing")),
        };
        if let Some((reason, how)) = known_by {
            event.provenance.extend(WHOSE.map(|column| (column.to_owned(), reason.to_owned())));
            event.platform_data.insert("process_known_by".to_owned(), how.to_owned());
        }
        if let Some(error) = connection.error {
            event.platform_data.insert("error".to_owned(), io::Error::from_raw_os_error(error).to_string());
        }
        event
    }

    pub(super) fn deed(&self, deed: &Deed<'_>, scene: &mut Scene<'_>, tell: &mut Tell<'_>) -> Result<(), Interrupted> {
        let event_type = match deed.what {
            What::Credentials { .. } => SecurityEventType::Credentials,
            What::Trace { .. } => SecurityEventType::Ptrace,
            What::Module { .. } => SecurityEventType::ModuleLoad,
            What::Program { .. } => SecurityEventType::BpfLoad,
            What::Memory { .. } => SecurityEventType::MemoryExec,
        };
        let mut event = self.security_event(event_type, &deed.who, SOURCE, scene);
        event.count = deed.count;
        let mut also = |name: &str, value: String| _ = event.platform_data.insert(name.to_owned(), value);
        match &deed.what {
            What::Credentials { uid, euid } => {
                also("how", "setuid".to_owned());
                self.changed(&mut event, *uid, *euid);
                // So that the program that it begins next is not taken for what made it root.
                let start = scene.ticks(deed.who.start);
                if let Some(known) = scene.table.get_mut(deed.who.pid).filter(|known| known.start_ticks == start) {
                    (known.uid, known.euid) = (Some(uid.1), Some(euid.1));
                }
            }
            What::Trace { target, asked_for } => {
                also("how", if *asked_for { "traceme" } else { "attach" }.to_owned());
                // Outside of our PID namespace it has no number.
                if target.pid != 0 {
                    event.target_process_key = Some(process_key(&scene.boot.id, target.pid, scene.ticks(target.start)));
                    event.target_pid = Some(target.pid);
                    event.target_name = Some(escape_bytes(target.name));
                }
            }
            What::Module { name } => event.object = Some(escape_bytes(name)),
            What::Program { kind, instructions, name } => {
                also("instructions", instructions.to_string());
                let name = if name.is_empty() { "unnamed".to_owned() } else { escape_bytes(name) };
                event.object = Some(format!("{name} ({})", program_type(*kind)));
            }
            What::Memory { protection, mapped, path } => {
                also("how", if *mapped { "mmap" } else { "mprotect" }.to_owned());
                let letter = |(bit, letter)| if protection & bit != 0 { letter } else { '-' };
                also("protection", PROTECTIONS.into_iter().map(letter).collect());
                event.object = Some(path.as_deref().map_or_else(|| "anonymous".to_owned(), escape_bytes));
            }
        }
        tell(Item::Security(event))
    }

    /// Tells of a program that made its process another user, or root: it is set-uid, or the process was not root when it was
    /// told last.
    pub(super) fn gained(
        &self,
        exec: &Exec<'_>,
        before: Option<(u32, u32)>,
        scene: &Scene<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        let who = &exec.who;
        // The bit has no effect on a file system mounted without it, and none that matters for the file's owner.
        let set_uid = exec.mode.is_some_and(|mode| mode & SET_UID != 0) && who.euid != who.uid;
        let by = if set_uid { Gain::SetUidProgram } else { Gain::Exec };
        self.told_as_gain(who, by, before, &escape_bytes(&exec.path), scene, tell)
    }

    /// The same where a look at the process is all that is known: by which act it became root cannot be told.
    pub(crate) fn gained_by_look(
        &self,
        at: u64,
        pid: u32,
        before: Option<(u32, u32)>,
        scene: &Scene<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        let Some(known) = scene.table.get(pid) else { return Ok(()) };
        let (Some((uid, euid)), Some(program)) = (users_of(known), &known.program) else { return Ok(()) };
        let within = |ticks| scene.boot.within(ticks);
        let (start, parent_start) = (within(known.start_ticks), known.parent_start.map(within));
        let who = Who {
            at,
            pid,
            start,
            parent: known.ppid,
            parent_start,
            uid,
            euid,
            name: known.name.as_bytes(),
            ..Who::default()
        };
        self.told_as_gain(&who, Gain::Noticed, before, program, scene, tell)
    }

    fn told_as_gain(
        &self,
        who: &Who<'_>,
        by: Gain,
        before: Option<(u32, u32)>,
        program: &str,
        scene: &Scene<'_>,
        tell: &mut Tell<'_>,
    ) -> Result<(), Interrupted> {
        let became_root = who.euid == 0 && before.is_some_and(|(_, euid)| euid != 0);
        if !self.tells_security || !(by == Gain::SetUidProgram || became_root) {
            return Ok(());
        }
        let mut event = self.security_event(SecurityEventType::Credentials, who, scene.source, scene);
        event.executable_path = Some(program.to_owned());
        event.object = Some(program.to_owned());
        event.count = 1;
        event.platform_data.insert("how".to_owned(), by.word().to_owned());
        if by == Gain::Noticed {
            event.provenance.insert(why::EVERY.to_owned(), why::SCRAPED.to_owned());
        }
        // A process that changed its users since it was told last has kept the real one over exec; the effective one was the
        // same, or the program would not have been what gave it another.
        let (old, inferred) = match before {
            Some(users) if became_root || users.0 == who.uid => (users, false),
            _ => ((who.uid, who.uid), true),
        };
        if inferred {
            for column in ["old_uid", "old_euid"] {
                event.provenance.insert(column.to_owned(), why::INFERRED.to_owned());
            }
        }
        self.changed(&mut event, (old.0, who.uid), (old.1, who.euid));
        tell(Item::Security(event))
    }

    /// What it is after the act, which is what the process's columns say.
    fn changed(&self, event: &mut SecurityEvent, uid: (u32, u32), euid: (u32, u32)) {
        (event.old_uid, event.new_uid) = (Some(uid.0), Some(uid.1));
        (event.old_euid, event.new_euid) = (Some(euid.0), Some(euid.1));
        event.uid = Some(uid.1);
        event.user = self.users.name(uid.1).map(str::to_owned);
    }

    fn security_event(
        &self,
        event_type: SecurityEventType,
        who: &Who<'_>,
        source: &str,
        scene: &Scene<'_>,
    ) -> SecurityEvent {
        let doer = self.doer(who, scene);
        SecurityEvent {
            event_type: event_type.into(),
            event_time: scene.time(who.at),
            process_key: Some(doer.process_key),
            parent_key: doer.parent_key,
            pid: Some(doer.pid),
            name: Some(doer.name),
            executable_path: doer.executable_path,
            uid: Some(doer.uid),
            user: doer.user,
            source: source.to_owned(),
            provenance: BTreeMap::from([(why::EVERY.to_owned(), why::CAPTURED.to_owned())]),
            collection_time: scene.time(who.at),
            ..SecurityEvent::default()
        }
    }

    fn doer(&self, who: &Who<'_>, scene: &Scene<'_>) -> Doer {
        let start = scene.ticks(who.start);
        let known = scene.table.find(who.pid, start);
        let parent = || who.parent_start.map(|start| process_key(&scene.boot.id, who.parent, scene.ticks(start)));
        Doer {
            process_key: process_key(&scene.boot.id, who.pid, start),
            parent_key: known.and_then(|known| known.parent_key(scene.boot)).or_else(parent),
            pid: who.pid,
            name: escape_bytes(who.name),
            executable_path: known.and_then(|known| known.program.clone()),
            uid: who.uid,
            user: self.users.name(who.uid).map(str::to_owned),
        }
    }
}

/// Real and effective user, where both are known.
pub(crate) fn users_of(known: &Known) -> Option<(u32, u32)> {
    known.uid.zip(known.euid)
}

fn program_type(number: u32) -> String {
    let name = usize::try_from(number).ok().and_then(|index| PROGRAM_TYPES.get(index));
    name.map_or_else(|| format!("type {number}"), |name| (*name).to_owned())
}

#[cfg(test)]
#[path = "acts_tests.rs"]
mod tests;
