//! Of the readers of `/proc`, what is of use where there is none: arguments are split alike everywhere.

#[path = "../procfs/arguments.rs"]
#[expect(dead_code, reason = "environments are not read here")]
pub(crate) mod arguments;
