//! What the command lines of all programs share: common flags, logging, whether colours are wanted, and whether the terminal
//! is still there.
//!
//! Logs and messages go to stderr, results to stdout; nothing here writes to stdout.

mod arguments;
mod colour;
pub mod logging;
mod terminal;

pub use arguments::CommonArgs;
pub use colour::colours_wanted;
pub use terminal::Terminal;
