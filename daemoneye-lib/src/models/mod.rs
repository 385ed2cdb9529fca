//! What the records mean: the methods and newtypes that the generated messages do not have.
//!
//! Nothing here is a second shape of a process; [`columns`] is the one list that says which columns a process row has,
//! in which order, of which kind, and how each is read from a record.

#[cfg(any(feature = "storage", feature = "detection"))]
pub mod batch;
pub mod catalog;
pub mod columns;
pub mod condition;
pub mod describe;
pub mod domain;
pub mod event;
pub mod jsonl;
pub mod key;
pub mod network;
pub mod rows;
pub mod text;
pub mod time;
