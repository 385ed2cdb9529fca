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
//! * `snapshot` tells now and then what each process uses;
//! * `poller` is a round of that with its summary and the gap before it, `source` the poller under
//!   collector-core, `pace` its rhythm, `memory` what outlives it, `reload` another
//!   configuration while it runs;
//! * `portable` takes the place of `reader` and `scan` on other systems than Linux, whose edges are in `elsewhere`;
//! * `kernel` is what the kernel tells as it happens;
//! * `tasks` does what the agent asks for beside the collection;
//! * [`cli`] is the program, `flags` what it can be told, `setup` what every system sets up alike, `failure` why it ends.
//!
//! This crate is privileged: it opens no network socket and knows no SQL; all host data is hostile bytes to it. What it
//! holds is bounded: a table entry for each process with a budget of text, one record at a time, and so many hashes.
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test panics"))]

mod boot;
mod differ;
mod digest;
mod failure;
mod flags;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "environments are not read there"))]
mod mask;
mod memory;
mod pace;
mod poller;
mod print;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "other systems have fewer reasons"))]
mod provenance;
mod setup;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there are no tasks to ask for one"))]
mod snapshot;
mod source;
mod stat;

#[cfg(target_os = "linux")]
pub mod cli;
#[cfg(target_os = "linux")]
mod hashing;
#[cfg(target_os = "linux")]
mod kernel;
#[cfg(target_os = "linux")]
mod limitations;
#[cfg(target_os = "linux")]
mod procfs;
#[cfg(target_os = "linux")]
pub mod reader;
#[cfg(target_os = "linux")]
mod reload;
#[cfg(target_os = "linux")]
pub mod scan;
#[cfg(target_os = "linux")]
mod tasks;
#[cfg(target_os = "linux")]
mod tell;

// Other systems: `portable` in the place of reader and scan; tests compare the two on Linux.
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere/cli.rs"]
pub mod cli;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere/limitations.rs"]
mod limitations;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere/procfs.rs"]
mod procfs;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere/quiet.rs"]
mod quiet;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere/reader.rs"]
pub mod reader;
#[cfg(not(target_os = "linux"))]
#[path = "scan/observe.rs"]
pub mod scan;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere/tasks.rs"]
mod tasks;

#[cfg(unix)]
#[path = "cpu_thread.rs"]
mod cpu;
#[cfg(windows)]
#[path = "cpu_wall.rs"]
mod cpu;

pub use boot::Boot;
pub use mask::Masker;
#[cfg(target_os = "linux")]
pub use procfs::boot::BootError;
