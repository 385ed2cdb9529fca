//! What the kernel tells of processes when it happens.
//!
//! ```text
//!            ┌ ebpf ─────── ring of records, drained every few milliseconds ┐
//!  choose ──►│ connector ── netlink datagrams, completed from /proc         ├─► Feed ─► listen
//!            └ nothing ──── the scans alone (poll)                          ┘
//! ```
//!
//! A [`Feed`] gives [`News`] in the order of the kernel, and says how much it lost. Beside it [`Acts`] give what processes do on
//! the network and to each other, whichever feed there is. What comes of them is told by [`tell`](crate::tell), which knows what
//! was told before.
//!
//! All of it is untrusted: names, arguments and paths are whatever the host's processes chose; the layout is ours, and a
//! record that does not have it is counted and left out.

mod acts;
mod choose;
mod connector;
pub(crate) mod ebpf;
mod feed;
mod happening;
mod heard;
mod listen;
mod notice;

pub(crate) use acts::{Acts, Connection, Deed, Owner, Step, Wanted, What};
pub(crate) use choose::{Chosen, choose, mount_namespace, pid_namespace};
pub(crate) use ebpf::{KernelTypes, Options};
pub(crate) use feed::{Feed, FeedError, Loss, Standby};
pub(crate) use happening::{Act, Exec, Exit, Fork, Happening, News, Noticed, Who};
pub(crate) use listen::Listening;
