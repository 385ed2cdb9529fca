//! The life of rules: loading them and keeping them as the directory says, switching them, trying them, running those that
//! have a schedule.

pub(crate) mod keeper;
pub(crate) mod requests;
pub(crate) mod schedule;
pub(crate) mod state;
pub(crate) mod trial;
