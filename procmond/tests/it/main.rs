//! procmond against a real kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test panics")]

mod acts;
mod agent;
mod host;
mod privileges;
mod program;
mod sources;
