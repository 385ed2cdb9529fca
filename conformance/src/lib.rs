//! Whether a program is a collector as the agent expects it.
//!
//! The suite plays the agent for any program, whatever it is written in: it listens on a socket in a private place, starts
//! the program as `docs/collectors.md` says, and speaks the frames of `docs/formats/bus.md` with the messages of `proto/`.
//! It shares no code with the agent, the bus or collector-core. Each [check](CHECKS) starts the program anew and ends with
//! the first thing that is not as it should be. The program must tell something every second or so.
//!
//! ```no_run
//! let subject = daemoneye_conformance::Subject::new("sniffer", ["/opt/sniffer".into()]);
//! for (check, verdict) in daemoneye_conformance::run(&subject) {
//!     println!("{check}: {verdict:?}");
//! }
//! ```
#![warn(missing_docs)]

mod agent;
mod answers;
mod checks;
mod fault;
mod link;
mod place;
mod run;
pub mod wire;

pub use checks::{CHECKS, Check, run};
pub use fault::Fault;

use std::ffi::OsString;
use std::time::Duration;

/// The messages of `proto/`, as the compiler made them.
pub mod protocol {
    #![allow(missing_docs, clippy::all, unreachable_pub, reason = "generated code")]
    include!(concat!(env!("OUT_DIR"), "/protocol.rs"));

    pub use daemoneye::common::v1 as common;
    pub use daemoneye::eventbus::v1 as bus;
    pub use daemoneye::ipc::v1 as ipc;
}

/// The program under test.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The name that it collects under.
    pub name: String,
    /// The program and its own arguments.
    pub command: Vec<OsString>,
    /// How long to wait for anything that must come.
    pub patience: Duration,
    /// The settings that it is given, a JSON object that it must take.
    pub settings: String,
}

impl Subject {
    /// A program that is waited for half a minute and needs no settings.
    pub fn new(name: &str, command: impl IntoIterator<Item = OsString>) -> Self {
        Self {
            name: name.to_owned(),
            command: command.into_iter().collect(),
            patience: Duration::from_secs(30),
            settings: "{}".to_owned(),
        }
    }
}
