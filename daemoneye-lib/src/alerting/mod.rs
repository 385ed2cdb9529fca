//! From matches to alerts, and from alerts to the operator.
//!
//! [`generate_alert`] decides whether a match is a new alert or another occurrence of one that is there; [`Sinks`] hands
//! alerts over, each sink on a thread of its own, so that one that is stuck holds nobody up. Whoever owns the store keeps
//! both the alerts and what became of their deliveries.

mod alert;
mod format;
mod sinks;

pub use alert::{Generated, generate_alert};
pub use format::{alert_json, alert_line};
pub use sinks::{SinkError, Sinks};
