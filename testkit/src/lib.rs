//! What the tests of all crates share: what a test needs and may skip, where things are, child processes and whole
//! monitors that leave nothing behind.
//!
//! * [`require`] decides between running, skipping (counted) and failing a test that needs root, the corpus, …;
//! * [`Child`] is a process with its group, ended on drop; its output is captured in files;
//! * [`Site`] is a private place on disk for one monitor; [`Monitor`] is an agent that runs in it;
//! * [`wait_for`] replaces sleeping.
//!
//! What a test asks for at its start (`require`, `binary`, `wait_for`) panics when it is not to be had. Everything that
//! is worth asserting comes back as a [`Failure`], whose `Debug` is its message, so that `unwrap` reads well.
//!
//! ```no_run
//! let mut monitor = testkit::Monitor::start(testkit::Site::new().unwrap()).unwrap();
//! assert!(monitor.alerts().unwrap().is_empty());
//! monitor.stop().unwrap();
//! ```
#![warn(missing_docs)]
#![allow(
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot get what it needs panics, and says on stderr what it skips"
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics"))]

mod child;
mod failure;
mod host;
mod monitor;
mod places;
mod require;
mod site;
mod wait;

pub use child::Child;
pub use failure::Failure;
pub use host::{is_root, kill9, network_sockets, start_ticks};
pub use monitor::Monitor;
pub use places::{binary, corpus, find_binary, workspace_root};
pub use require::require;
pub use rustix::process::Signal;
pub use site::{Output, Site};
pub use wait::{Readiness, poll, wait_for};
