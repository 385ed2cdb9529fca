//! A file for each subcommand.

pub(crate) mod alerts;
pub(crate) mod alerts_watch;
pub(crate) mod collectors;
pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod processes;
pub(crate) mod query;
pub(crate) mod rule_events;
pub(crate) mod rule_history;
pub(crate) mod rule_import;
pub(crate) mod rule_new;
pub(crate) mod rule_test;
pub(crate) mod rules;
pub(crate) mod tables;
pub(crate) mod tasks;
pub(crate) mod validate;
