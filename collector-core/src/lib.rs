//! Everything a collector needs except its subject.
//!
//! A collector implements [`EventSource`]; [`run`] does the rest. One record's way through here:
//!
//! ```text
//!  source's thread                       one task
//!  EventSource::run ── Sink ─► queue ─► spool (sequence, segment files) ─► bus ─► agent
//!                                         ▲── trim ◄── acknowledgement ◄────────────┘
//! ```
//!
//! What is emitted gets the next sequence number of the spool's epoch, is written to the spool, published in batches
//! and forgotten when the agent has acknowledged it. An agent that is slow or away makes the spool grow, up to its
//! bound, and never the memory. A collector that was killed replays what was not acknowledged; the agent knows
//! repetitions by collector, epoch and sequence.
//!
//! What the agent asks of a collector beside that comes to its [`TaskHandler`], on threads of their own.
//!
//! A source that tells only what is new must know when what it told before is lost: see [`Sink::epoch`].
//!
//! This crate knows no subject: of the items that it carries it looks only whether they are of a domain that the source
//! declared. It opens no network socket, only the agent's local one.
//!
//! ```
//! use collector_core::{CollectionCapabilities, CollectionEvent, EventSource, Sink, SourceCaps};
//! use collector_core::{SourceDescription, SourceError};
//! use daemoneye_lib::models::time::now_ns;
//! use daemoneye_lib::proto::common::PerformanceSample;
//! use std::time::{Duration, Instant};
//!
//! struct Clock;
//!
//! impl EventSource for Clock {
//!     fn describe(&self) -> SourceDescription {
//!         SourceDescription {
//!             mode: "poll".into(),
//!             mode_reason: "time has no other source".into(),
//!             caps: SourceCaps::PERFORMANCE | SourceCaps::SYSTEM_WIDE,
//!             capabilities: CollectionCapabilities { domains: vec!["performance".into()], ..Default::default() },
//!             ..Default::default()
//!         }
//!     }
//!
//!     fn run(self: Box<Self>, sink: Sink) -> Result<(), SourceError> {
//!         let began = Instant::now();
//!         while !sink.stopped() {
//!             let sample = PerformanceSample {
//!                 event_time: now_ns(),
//!                 scope: "system".into(),
//!                 metric: "observed".into(),
//!                 value: began.elapsed().as_secs_f64(),
//!                 unit: Some("seconds".into()),
//!                 source: "poll".into(),
//!                 collection_time: now_ns(),
//!                 ..Default::default()
//!             };
//!             // A `Stopped` that travels out with `?` is a clean end.
//!             sink.emit(CollectionEvent::Performance(sample))?;
//!             sink.pause(Duration::from_secs(1))?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! assert!(Clock.describe().caps.contains(SourceCaps::SYSTEM_WIDE));
//! ```
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test panics"))]

mod caps;
mod event;
mod launch;
mod orders;
mod reported;
mod run;
mod sink;
mod source;
mod spool;
#[cfg_attr(unix, path = "stop_unix.rs")]
#[cfg_attr(windows, path = "stop_windows.rs")]
mod stop;
mod tasks;
mod token;

pub use caps::SourceCaps;
pub use daemoneye_eventbus::Keys as BusKeys;
pub use daemoneye_lib::lock::{DataDirLock, LockError};
pub use daemoneye_lib::models::event::Epoch;
pub use daemoneye_lib::proto::ipc::{CollectedItem, CollectionCapabilities, Feature};
pub use event::CollectionEvent;
pub use launch::{Launch, LaunchError, main};
pub use orders::Settings;
pub use run::{CollectorConfig, CollectorError, Ended, run};
pub use sink::{EmitError, FlushError, MAX_ITEM, Sink, Stopped};
pub use source::{EventSource, SourceDescription, SourceError, SourceStatus};
pub use spool::SpoolError;
pub use stop::Stop;
pub use tasks::{TaskError, TaskHandler, TaskReplies};
pub use token::token_from_stdin;
