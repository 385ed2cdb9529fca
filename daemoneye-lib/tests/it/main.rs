//! Storage and detection as their callers meet them: through the public interface, on files and on rows.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod ancestors;
mod blocks;
mod crashes;
mod dialect;
mod domains;
mod engine;
mod fixture;
mod fuzz;
mod limits;
mod names;
mod nesting;
mod opening;
mod protocol;
mod pruning;
mod reading;
mod refusals;
mod retention;
mod rules;
mod scheduled;
mod sequences;
mod shipped;
mod sigma;
mod snapshots;
mod values;
