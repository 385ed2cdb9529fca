//! The messages of `proto/eventbus.proto`, as the compiler made them.

#![allow(missing_docs, clippy::all, unreachable_pub, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/daemoneye.eventbus.v1.rs"));
