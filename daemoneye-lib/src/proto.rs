//! The messages of `proto/`, as the compiler made them.

/// An observed process and what happened to it.
pub mod common {
    #![allow(missing_docs, clippy::all, unreachable_pub, reason = "generated code")]
    include!(concat!(env!("OUT_DIR"), "/daemoneye.common.v1.rs"));
}

/// What the programs say to each other.
pub mod ipc {
    #![allow(missing_docs, clippy::all, unreachable_pub, reason = "generated code")]
    include!(concat!(env!("OUT_DIR"), "/daemoneye.ipc.v1.rs"));
}
