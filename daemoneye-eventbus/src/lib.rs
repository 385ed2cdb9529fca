//! The bus between DaemonEye's programs: an embedded broker, and the client for it.
//!
//! The agent binds a [`Broker`] on a local socket; collectors and the operator's programs come in with a [`Client`]; the
//! agent's own parts use the same [`Client`] without a socket. There is publish/subscribe on [topics](topic), and request/reply
//! with streamed answers. [Frames](frame), the handshake, the topics and who may do what on them are described in
//! `docs/formats/bus.md`.
//!
//! The bus knows no process and no alert: domain messages are bytes to it. It keeps nothing: what a receiver has not taken
//! when a connection ends is gone, and whoever needs more (collectors do) keeps it until it was acknowledged.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use daemoneye_eventbus::{Broker, BrokerConfig, Client, Identity};
//!
//! let dir = tempfile::tempdir()?;
//! let socket = dir.path().join("agent.sock");
//! let broker = Broker::bind(BrokerConfig::new(&socket, dir.path().join("sessions")))?;
//! let agent = broker.local("health");
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let running = tokio::spawn(broker.run(async { drop(stopped.await) }));
//!
//! let mut requests = agent.serve("requests.health").await?;
//! tokio::spawn(async move {
//!     while let Some(request) = requests.recv().await {
//!         request.respond(b"well".to_vec()).await;
//!     }
//! });
//!
//! let operator = Client::connect(&socket, Identity::Operator).await?.client;
//! let answer = operator.call("requests.health", Vec::new(), Duration::from_secs(5)).await?;
//! assert_eq!(answer, b"well");
//!
//! drop(stop);
//! running.await??;
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```

#![warn(missing_docs)]

mod auth;
mod broker;
mod budget;
mod client;
pub mod frame;
mod keys;
mod line;
mod message;
mod noise;
mod policy;
pub mod proto;
mod queue;
mod secret;
mod standing;
pub mod topic;

#[cfg(unix)]
#[path = "unix.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

pub use auth::{Gate, Peer};
pub use broker::{BindError, Broker, BrokerConfig, RunError};
pub use client::{
    CallError, Client, Closed, ConnectError, Connected, Credential, Gathered, Gone, Identity, Part, Request, Requests,
    Responses, Subscription,
};
pub use frame::MAX_FRAME;
pub use keys::{KeyError, Keys};
pub use proto::{Credit, event_bus_message::Payload};
pub use secret::{SecretError, SessionKey, Token};
