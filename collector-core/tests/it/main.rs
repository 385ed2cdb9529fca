//! Collectors against a real broker, whose other side is played by the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test panics")]

mod agent;
mod collector;
mod delivery;
mod ending;
mod epochs;
mod identity;
mod instructions;
mod reports;
mod tasks;
