//! The event store: one redb file that the agent alone opens.
//!
//! Events arrive in batches and are committed in groups ([`Store::append`]); what has just arrived lies row by row in a
//! small *head*, and is sealed into *blocks* of compressed columns when there are enough rows. Beside the events stand the
//! present state of each process, scans, gaps, alerts and their deliveries. Readers take a [`Snapshot`], which neither
//! blocks the writer nor is blocked by it.
//!
//! Bytes and crash windows are specified in `docs/formats/store.md`. The store refuses to open what it does not
//! understand, and never replaces it by an empty one.
//!
//! The writer is one thread (the agent's pipeline); a snapshot may be used anywhere.

mod alerts;
mod ancestors;
mod append;
mod block;
mod codec;
mod current;
mod damage;
#[cfg(not(unix))]
#[path = "directory_plain.rs"]
mod directory;
#[cfg(unix)]
#[path = "directory_unix.rs"]
mod directory;
mod error;
mod fields;
mod filter;
mod gaps;
mod head;
mod partition;
mod read;
mod retention;
mod rows;
mod seal;
mod series;
mod sieve;
mod snapshot;
mod snapshots;
mod statistics;
mod store;
mod tables;
mod triggers;

pub use append::{Appended, Arrived, Evaluated, Understood};
pub use error::{OpenError, StoreError};
pub use retention::{Keep, Removed};
pub use snapshot::{Rows, Snapshot, TimeRange};
pub use statistics::{Extent, TableSize, Verified};
pub use store::{Opened, Store};
pub use triggers::MAX_TRIGGERS;
