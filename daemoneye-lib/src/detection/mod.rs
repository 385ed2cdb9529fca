//! SQL from hostile text to rows: parsing, validation, lowering, and execution on Apache DataFusion.
//!
//! ```text
//! text ──limits, parser──► syntax tree ──lower──► lowered tree ──DataFusion──► plan ──► rows or matches
//! ```
//!
//! The dialect is SQLite's. Lowering walks the whole tree and builds a new one from the constructs, functions and tables
//! that it knows; everything else is refused by name, with its place. The text itself never reaches the engine, and
//! parameters become literal nodes of the tree, never text.
//!
//! [`query`] answers an operator's statement over a [`source::TableSource`]; [`rules`] reads rule files; [`engine`] evaluates
//! rules over each batch of events.

#[cfg(not(unix))]
#[path = "cost_plain.rs"]
mod cost;
#[cfg(unix)]
#[path = "cost_unix.rs"]
mod cost;
mod dialect;
pub mod engine;
mod error;
pub mod explain;
mod functions;
mod interrupt;
mod kinds;
mod limits;
mod lower;
mod matching;
pub mod query;
pub mod record;
pub mod rules;
pub mod scheduled;
mod screen;
mod session;
pub mod source;
pub mod standing;

pub use cost::Cost;
pub use error::{Refusal, nearest};
pub use limits::MAX_SQL_BYTES;
pub use lower::Parameters;
