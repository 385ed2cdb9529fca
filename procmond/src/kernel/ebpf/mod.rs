//! Events by eBPF: the programs of `bpf/`, loaded and attached by `aya`.
//!
//! The objects are committed beside their source, so that building needs no clang; `bpf/build` makes them anew and CI
//! compares. They find the members of the kernel's structures when they are loaded (CO-RE).
//!
//! Nobody is woken by an event: the ring is drained every few milliseconds, which costs next to nothing while little
//! happens and little for each event while much does. What the ring had no room for is counted in the kernel.

mod attach;
mod error;
mod events;
mod kept;
mod layout;
mod network;
mod object;
mod ring;
mod roster;
mod security;
mod types;

pub(crate) use attach::FeatureName;
pub(crate) use error::{LoadError, in_one_line};
pub(crate) use events::Events;
pub(crate) use network::{NETWORK_FEATURES, connection, network};
pub(crate) use ring::{LOST, Ring};
pub(crate) use roster::{Member, Roster};
pub(crate) use security::{Deeds, SECURITY_FEATURES, deed, security};
pub(crate) use types::KernelTypes;

use error::{object_error, program_error};

/// How the programs are set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// The ring's size: a power of two.
    pub(crate) ring_bytes: u32,
    /// So much of a command line is taken.
    pub(crate) max_arguments: u32,
    pub(crate) environment: bool,
    /// Inode number of our PID namespace.
    pub(crate) pid_namespace: u32,
    pub(crate) page_size: u64,
}
