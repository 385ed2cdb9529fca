//! A collector that makes up events at a steady rate, for `cargo xtask soak`: the setting `rate` says how many in a second.
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
        let settings = sink.settings();
        let json: serde_json::Value = serde_json::from_str(&settings.json)?;
        let rate = json.get("rate").and_then(serde_json::Value::as_u64).unwrap_or(2_000);
        sink.settled(settings.version, Ok(()));
        let step = i64::try_from(1_000_000_000 / rate.max(1))?;
        let mut host = Host::new(now_ns(), step);
        let (began, mut told) = (Instant::now(), 0);
        while !sink.stopped() {
            let due = u64::try_from(began.elapsed().as_millis())?.saturating_mul(rate) / 1_000;
            host.set_now(now_ns() - step * i64::try_from(due.saturating_sub(told))?);
            while told < due {
                sink.emit(CollectedItem { item: Some(Item::Process(host.event())) })?;
                told += 1;
            }
            sink.pause(Duration::from_millis(1_000 / LOTS))?;
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    collector_core::main(env!("CARGO_PKG_VERSION"), |_| Ok(Box::new(Load)))
}
