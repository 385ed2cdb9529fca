//! DaemonEye's vocabulary and engines.
//!
//! * [`proto`]: the messages of `proto/common.proto` and `proto/ipc.proto`, which are the record types everywhere;
//! * [`models`]: what those records mean: keys, times, text, columns, completeness;
//! * [`config`]: the layered configuration of all programs;
//! * [`lock`]: one program for each data directory;
//! * `telemetry` (feature): what the programs tell of themselves;
//! * `storage` (feature): the event store, opened by the agent alone;
//! * `detection` (feature): SQL, from text to validated plan to matches;
//! * `alerting` (feature): from matches to alerts and their delivery;
//! * `sigma` (feature): from Sigma rules to ours.
//!
//! The privileged collector links none of the last four.
//!
//! ```
//! use daemoneye_lib::models::{key, time};
//!
//! let key = key::process_key("2f5c0f3e-7a46-4f7e-9d0a-0c6c3a1f9b11", 1, 42);
//! assert_eq!(key.len(), 32);
//! assert_eq!(time::sql_text(0), "1970-01-01 00:00:00.000000");
//! ```
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test panics"))]

#[cfg(feature = "alerting")]
pub mod alerting;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
#[cfg(feature = "detection")]
pub mod detection;
pub mod lock;
pub mod models;
#[cfg(unix)]
#[path = "os/unix.rs"]
mod os;
#[cfg(windows)]
#[path = "os/windows.rs"]
mod os;
pub mod proto;
#[cfg(feature = "sigma")]
pub mod sigma;
#[cfg(feature = "storage")]
pub mod storage;
#[cfg(feature = "telemetry")]
pub mod telemetry;
