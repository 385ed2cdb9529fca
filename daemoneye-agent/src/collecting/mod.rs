//! Everything between the agent and its collectors: who they are and how they are, starting and admitting them, what they
//! send, what they are told to do.

pub(crate) mod admission;
pub(crate) mod collectors;
pub(crate) mod ingest;
pub(crate) mod observing;
pub(crate) mod orders;
pub(crate) mod spawn;
pub(crate) mod supervise;
pub(crate) mod tasks;
pub(crate) mod triggers;
