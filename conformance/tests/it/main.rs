//! The suite on collectors that are right, and on collectors that are wrong in one way each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test panics")]

mod defects;
mod sound;
