//! Memory that was freed goes back to the system.
//!
//! glibc keeps an arena for each few threads, and raises by itself the size from which a buffer is a mapping of its own;
//! after ten thousand processes that was a hundred megabytes which nothing used. It takes its settings from the environment
//! only, and only at the start: so the agent begins again, once, with these in it. Its collectors inherit them.

#[cfg_attr(all(target_os = "linux", target_env = "gnu"), path = "glibc.rs")]
#[cfg_attr(not(all(target_os = "linux", target_env = "gnu")), path = "other.rs")]
mod system;

pub(crate) use system::settle;
