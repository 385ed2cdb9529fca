//! The texts of `/proc`, read as pure functions over bytes.
//!
//! Every byte here may have been chosen by a hostile process: a parser answers `None` or what it understood, and never
//! panics. Nothing in this module opens a file, but [`users`] and [`boot`], which read what belongs to the host.

pub(crate) mod arguments;
pub(crate) mod boot;
pub(crate) mod cgroup;
#[cfg(test)]
mod fuzz;
pub(crate) mod link;
pub(crate) mod mounts;
mod number;
pub(crate) mod stat;
pub(crate) mod status;
pub(crate) mod tty;
pub(crate) mod users;

pub(crate) use number::number;
