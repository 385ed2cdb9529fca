//! A collector that makes up events at a steady rate, for `cargo xtask soak`: the setting `rate` says how many in a second,
//! `lots` in how many lots, and `lives` that each process forks, executes a program and exits, one after the other, as the
//! kernel tells it of a script's commands.
//!
//! When the agent is slow it tells them later, and none of them is left out.

use bench::Host;
use collector_core::{CollectedItem, CollectionCapabilities, EventSource, Sink, SourceCaps};
use collector_core::{SourceDescription, SourceError};
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::ipc::collected_item::Item;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Events are told in lots, so many in a second.
const LOTS: u64 = 20;

struct Load;

impl EventSource for Load {
    fn describe(&self) -> SourceDescription {
        SourceDescription {
            mode: "made up".into(),
            mode_reason: "a measurement".into(),
            caps: SourceCaps::PROCESS | SourceCaps::REALTIME,
            capabilities: CollectionCapabilities { domains: vec!["process".into()], ..Default::default() },
            ..Default::default()
        }
    }

    fn run(self: Box<Self>, sink: Sink) -> Result<(), SourceError> {
        let mut load = Lots::new(&sink)?;
        while !sink.stopped() {
            // The agent sends the settings when it has this collector registered: until then the load is the usual one.
            if sink.settings().version != load.version {
                load = Lots::new(&sink)?;
            }
            load.tell(&sink)?;
            sink.pause(Duration::from_millis(1_000 / load.lots))?;
        }
        Ok(())
    }
}

/// A steady load from one moment on.
struct Lots {
    version: u64,
    rate: u64,
    lots: u64,
    host: Host,
    began: Instant,
    told: u64,
}

impl Lots {
    fn new(sink: &Sink) -> Result<Self, SourceError> {
        let settings = sink.settings();
        let json: serde_json::Value = serde_json::from_str(&settings.json)?;
        let number = |name: &str| json.get(name).and_then(serde_json::Value::as_u64);
        let (rate, lots) = (number("rate").unwrap_or(2_000).max(1), number("lots").unwrap_or(LOTS).clamp(1, 1_000));
        sink.settled(settings.version, Ok(()));
        let mut host = Host::new(now_ns(), step(rate)?);
        if json.get("lives").and_then(serde_json::Value::as_bool) == Some(true) {
            host = host.of_short_lives();
        }
        Ok(Self { version: settings.version, rate, lots, host, began: Instant::now(), told: 0 })
    }

    /// Tells what is due.
    fn tell(&mut self, sink: &Sink) -> Result<(), SourceError> {
        let due = u64::try_from(self.began.elapsed().as_millis())?.saturating_mul(self.rate) / 1_000;
        self.host.set_now(now_ns() - step(self.rate)? * i64::try_from(due.saturating_sub(self.told))?);
        while self.told < due {
            sink.emit(CollectedItem { item: Some(Item::Process(self.host.event())) })?;
            self.told += 1;
        }
        Ok(())
    }
}

/// Nanoseconds between two events.
fn step(rate: u64) -> Result<i64, SourceError> {
    Ok(i64::try_from(1_000_000_000 / rate)?)
}

fn main() -> ExitCode {
    collector_core::main(env!("CARGO_PKG_VERSION"), |_| Ok(Box::new(Load)))
}
