//! What the command lines of all programs share: common flags, logging, and whether colours are wanted.
//!
//! Logs and messages go to stderr, results to stdout; nothing here writes to stdout.

mod arguments;
mod colour;
pub mod logging;

pub use arguments::CommonArgs;
pub use colour::colours_wanted;
