//! What processes do beside beginning, changing and ending, as the kernel tells it: connections, and what matters for security.
//!
//! Each act is seen by a program of its own, so a kernel that lacks one lacks that act alone: [`Acts::features`] says which,
//! and why. Nothing here is an error.

use super::ebpf::{self, Deeds, KernelTypes, LOST, LoadError, Ring};
use super::{Happening, Loss, Who};
use crate::procfs::boot::since_boot;
use collector_core::Feature;
use std::net::IpAddr;
use std::ops::ControlFlow;

/// So many acts may wait, out of their ring, while it is told what was before them.
const MAX_HELD: usize = 4096;

/// A connection of a process, or a place where it waits for some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection<'a> {
    pub(crate) what: Step,
    /// When it happened, in nanoseconds since boot.
    pub(crate) at: u64,
    pub(crate) owner: Owner<'a>,
    pub(crate) local: (IpAddr, u16),
    /// `None` for a place where connections are waited for.
    pub(crate) remote: Option<(IpAddr, u16)>,
    /// The other side began.
    pub(crate) incoming: bool,
    /// Inode number of the network namespace.
    pub(crate) namespace: u32,
    /// Inode number of the socket.
    pub(crate) inode: Option<u64>,
    /// When it was established, in nanoseconds since boot.
    pub(crate) established: Option<u64>,
    /// Bytes sent and received, of a connection that ends.
    pub(crate) bytes: Option<(u64, u64)>,
    /// Why it failed, as the system numbers errors.
    pub(crate) error: Option<i32>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Connected,
    NotConnected,
    Accepted,
    Listens,
    Closed,
}

/// Whose a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner<'a> {
    /// Nobody was seen to have it.
    Unknown,
    /// Who asked for it.
    Seen(Who<'a>),
    /// Who was the first to use it.
    User(Who<'a>),
    /// Who waits for connections there.
    Listener(Who<'a>),
}

impl<'a> Owner<'a> {
    pub(crate) const fn who(&self) -> Option<&Who<'a>> {
        match self {
            Self::Unknown => None,
            Self::Seen(who) | Self::User(who) | Self::Listener(who) => Some(who),
        }
    }
}

/// What a process did that matters for security.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deed<'a> {
    pub(crate) who: Who<'a>,
    pub(crate) what: What<'a>,
    /// How many like it this one stands for.
    pub(crate) count: u64,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// It became root.
    Credentials { uid: (u32, u32), euid: (u32, u32) },
    /// It traces another process, or reaches into its memory.
    Trace {
        target: Who<'a>,
        /// The other one asked for it.
        asked_for: bool,
    },
    /// It had a module loaded into the kernel.
    Module { name: &'a [u8] },
    /// It loads an eBPF program.
    Program { kind: u32, instructions: u32, name: &'a [u8] },
    /// It makes memory executable.
    Memory {
        protection: u32,
        /// As it is mapped, rather than afterwards.
        mapped: bool,
        /// The file, if it is one's.
        path: Option<Vec<u8>>,
    },
}

/// What of it is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) network: bool,
    pub(crate) security: bool,
    /// Inode number of our PID namespace.
    pub(crate) pid_namespace: u32,
}

/// Everything that acts are heard by.
#[derive(Default)]
pub(crate) struct Acts {
    network: Option<Ring>,
    security: Option<Deeds>,
    features: Vec<Feature>,
    /// They are others than in the beginning.
    changed: bool,
    held: Vec<(Domain, Box<[u8]>)>,
    /// Records of another layout.
    foreign: u64,
}

#[derive(Clone, Copy)]
enum Domain {
    Network,
    Security,
}

impl Acts {
    /// Attaches what can be attached.
    pub(crate) fn load(wanted: Wanted, types: &KernelTypes) -> Self {
        if !wanted.network && !wanted.security {
            return Self::default();
        }
        match types.get() {
            Err(error) => Self::without(wanted, &error.to_string()),
            Ok(types) => {
                let mut acts = Self::default();
                if wanted.network {
                    acts.network = acts.add(ebpf::network(types, wanted.pid_namespace), ebpf::NETWORK_FEATURES);
                }
                if wanted.security {
                    acts.security = acts.add(ebpf::security(types, wanted.pid_namespace), ebpf::SECURITY_FEATURES);
                }
                acts
            }
        }
    }

    /// None can be heard here.
    pub(crate) fn without(wanted: Wanted, reason: &str) -> Self {
        let names = [(wanted.network, ebpf::NETWORK_FEATURES), (wanted.security, ebpf::SECURITY_FEATURES)];
        let names = names.into_iter().filter(|(wanted, _)| *wanted).flat_map(|(_, names)| names);
        Self { features: names.map(|feature| feature.missing(reason.to_owned())).collect(), ..Self::default() }
    }

    fn add<T>(
        &mut self,
        loaded: Result<(Option<T>, Vec<Feature>), LoadError>,
        names: &[ebpf::FeatureName],
    ) -> Option<T> {
        let (ring, features) = loaded.unwrap_or_else(|error| {
            let reason = ebpf::in_one_line(&error);
            (None, names.iter().map(|feature| feature.missing(reason.clone())).collect())
        });
        for feature in features.iter().filter(|feature| !feature.available) {
            tracing::info!(feature = feature.name, reason = feature.reason, "not seen here");
        }
        self.features.extend(features);
        ring
    }

    /// What is seen here, and what is not.
    pub(crate) fn features(&self) -> &[Feature] {
        &self.features
    }

    /// Whether that is another than in the beginning.
    pub(crate) const fn is_changed(&self) -> bool {
        self.changed
    }

    /// Connections are heard of.
    pub(crate) const fn has_network(&self) -> bool {
        self.network.is_some()
    }

    /// What matters for security is heard of.
    pub(crate) const fn has_security(&self) -> bool {
        self.security.is_some()
    }

    /// There is something to be heard.
    pub(crate) const fn has_any(&self) -> bool {
        self.has_network() || self.has_security()
    }

    /// Takes what has happened out of the rings; to be told, by [`tell`](Self::tell), after the processes' events that are
    /// there by then. So whoever did something is known, and with the program that it ran.
    pub(crate) fn hold(&mut self) {
        let held = &mut self.held;
        let mut hold = |domain, record: &[u8]| {
            held.push((domain, record.into()));
            if held.len() < MAX_HELD { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        if let Some(ring) = &mut self.network {
            ring.take(|record| hold(Domain::Network, record));
        }
        if let Some(deeds) = &mut self.security {
            deeds.take(since_boot(), |record| hold(Domain::Security, record));
        }
    }

    /// Gives what is held.
    pub(crate) fn tell(&mut self, take: &mut dyn FnMut(Happening<'_>) -> ControlFlow<()>) {
        for (domain, record) in self.held.drain(..) {
            let happening = match domain {
                Domain::Network => {
                    ebpf::connection(&record).map(|connection| Happening::Connection(Box::new(connection)))
                }
                Domain::Security => ebpf::deed(&record).map(|deed| Happening::Deed(Box::new(deed))),
            };
            let Some(happening) = happening else {
                self.foreign += 1;
                continue;
            };
            if take(happening).is_break() {
                return;
            }
        }
    }

    /// What was lost since the last call.
    pub(crate) fn losses(&mut self) -> Vec<Loss> {
        let mut losses = Vec::new();
        let mut unknown = Vec::new();
        for (names, lost, what) in [
            (ebpf::NETWORK_FEATURES, self.network.as_mut().map(|ring| ring.growth(LOST)), "connections"),
            (ebpf::SECURITY_FEATURES, self.security.as_mut().map(Deeds::lost), "events of security"),
        ] {
            let available =
                self.features.iter().any(|it| it.available && names.iter().any(|name| name.name == it.name));
            match lost.filter(|_| available) {
                None => {}
                Some(Ok(lost)) => {
                    let reason = format!("the kernel's ring had no room: {what} were lost");
                    losses.extend(Loss::of("ring_overflow", lost, &reason));
                }
                Some(Err(error)) => unknown.push((names, error.to_string())),
            }
        }
        losses.extend(unknown.into_iter().map(|(names, error)| self.mistrust(names, &error)));
        let reason = "acts of ptrace or of memory were kept back behind others, and whose they were is forgotten";
        losses.extend(Loss::of("shed", self.security.as_mut().map_or(0, Deeds::shed), reason));
        let reason = "records of the kernel's rings have another layout than this procmond reads";
        losses.extend(Loss::of("ring_foreign", std::mem::take(&mut self.foreign), reason));
        losses
    }

    /// How many acts are lost cannot be known any more: those that are told prove nothing, so their features count as missing.
    fn mistrust(&mut self, names: &[ebpf::FeatureName], error: &str) -> Loss {
        let reason = format!("how many events are lost cannot be known any more: {error}");
        for feature in self.features.iter_mut().filter(|it| names.iter().any(|name| name.name == it.name)) {
            if feature.available {
                (feature.available, feature.reason) = (false, reason.clone());
            }
        }
        self.changed = true;
        Loss { kind: "losses_unknown", count: None, reason }
    }
}

#[cfg(test)]
#[path = "acts_tests.rs"]
mod tests;
