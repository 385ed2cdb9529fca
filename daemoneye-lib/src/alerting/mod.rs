//! From matches to alerts, and from alerts to the operator.
//!
//! [`generate_alert`] decides whether a match is a new alert or another occurrence of one that is there; [`Sinks`] hands
//! alerts over, each sink on a thread of its own, so that one that is stuck holds nobody up. Whoever owns the store keeps
//! both the alerts and what became of their deliveries. [`Trial`] and [`golden`] tell what rules would raise over events that
//! were recorded, [`replay`] what they match.

mod alert;
mod format;
pub mod golden;
mod recorded;
pub mod replay;
mod sinks;
mod trial;

pub use alert::{Generated, MAX_EVENT_IDS, generate_alert};
pub use format::{alert_json, alert_line};
pub use sinks::{SinkError, Sinks};
pub use trial::Trial;
