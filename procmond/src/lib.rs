//! DaemonEye's process collector.
//!
//! One process's way through here:
//!
//! ```text
//!  /proc ─ reader ─► bytes ─ procfs ─► Glance ─► Pass (differ) ─ wanted ─► record ─► event ─► Sink
//!                                                  │  ▲
//!                                                  ▼  │
//!                                                 Table ──► known.bin (memory)
//! ```
//!
//! * [`reader`] is the edge to `/proc`; `procfs` reads its texts as pure functions over bytes;
//! * [`scan`] enumerates: a cheap look at each process, and its whole record where that is wanted;
//! * `mask` takes secrets out of what a process was given, before anything else sees it; `hashing` hashes executables on a
//!   thread of its own;
//! * `differ` knows what was told and makes `seen`, `changed` and `exit` of the difference;
//! * `poller` is a round of that with its summary and the gap before it, `source` the poller under
//!   collector-core, `pace` its rhythm, `memory` what outlives it, `reload` another
//!   configuration while it runs;
//! * `tasks` does what the agent asks for beside the collection;
//! * [`cli`] is the program.
//!
//! This crate is privileged: it opens no network socket and knows no SQL; all host data is hostile bytes to it. What it
//! holds is bounded: a table entry for each process with a budget of text, one record at a time, and so many hashes.
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test panics"))]

#[cfg(not(target_os = "linux"))]
compile_error!("procmond reads the process table of Linux; for other systems it has no source yet");

pub mod cli;
mod differ;
mod digest;
mod hashing;
mod limitations;
mod mask;
mod memory;
mod pace;
mod poller;
mod print;
mod procfs;
mod provenance;
pub mod reader;
mod reload;
pub mod scan;
mod source;
mod tasks;
mod token;

pub use mask::Masker;
pub use procfs::boot::{Boot, BootError};
