//! The proc connector: a netlink socket on which the kernel tells that processes fork, execute, exit and change ids.
//!
//! ```text
//!  kernel ── datagram ──► socket ── message (pure) ──► sequence (what is missing?) ──► Notice
//! ```
//!
//! * `message` reads datagrams as a pure function over bytes;
//! * `sequence` finds from the numbers that each CPU gives its messages how many are missing;
//! * `leaders` tells the end of a process from that of its first thread;
//! * `socket` is the edge: it opens, proves that events come, and receives;
//! * `feed` makes of it what happens to processes;
//! * `error` says what is missing where it cannot be had.
//!
//! What it cannot do: a message names pids and little else. Arguments, paths and ids of the process are to be read from
//! `/proc` afterwards, where a short-lived process is gone by then.
//!
//! **Loss.** What does not fit the socket's buffer is dropped by the kernel, which says so once ([`Notice::Overrun`]) and not
//! how much. Every CPU numbers its messages, dropped ones as well, so the number is known when the next message of the same
//! CPU comes ([`Notice::Lost`]). [`Connector::roll_call`] makes every CPU send one, so that no loss stays unknown for long; and
//! where none of its messages comes, the kernel has stopped telling (some of Linux 6.6 and 6.7 do after an overrun).
//!
//! **Who may.** Only a process of the host's first network, PID and user namespace; with `CAP_NET_ADMIN`, before Linux 6.6.
//! In another PID namespace the kernel ignores the subscription, and yet events may come there while somebody else
//! listens. So it counts as available only when the kernel has acknowledged, and an event of our own has come.

mod error;
mod feed;
mod leaders;
mod message;
mod sequence;
mod socket;
#[cfg(test)]
mod tests;

pub(crate) use error::{OpenError, ReceiveError};
pub(crate) use feed::Notices;
pub(crate) use message::{ConnectorEvent, Message};
pub(crate) use socket::{Connector, Notice};
