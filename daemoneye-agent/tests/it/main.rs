//! The line from end to end: the programs as they are shipped, driven from outside as an operator, a process of the host,
//! a broken disk and an attacker meet them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

mod away;
mod coexist;
mod collectors;
mod damage;
mod data;
mod disk;
mod domains;
mod encryption;
mod events;
mod kills;
mod limits;
mod line;
mod managed;
mod memory;
mod metrics;
mod mount;
mod network;
mod observing;
mod refusals;
mod reload;
mod rule_life;
mod rules;
mod shipped;
mod sigma;
mod signals;
mod socket;
mod support;
mod tasks;
mod testmode;
mod traces;
mod user;
mod watching;
