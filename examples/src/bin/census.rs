//! A whole collector: counts the processes of this host, a second opinion on what procmond sees.
//!
//! `[collectors.census] command = "daemoneye-census"`; its setting `interval_ms` says how often it counts. Each count is a
//! row of `system.scans`.

use collector_core::{CollectedItem, CollectionCapabilities, EventSource, Sink, SourceCaps};
use collector_core::{SourceDescription, SourceError, SourceStatus};
use daemoneye_lib::models::time::now_ns;
use daemoneye_lib::proto::ipc::{ScanSummary, collected_item::Item};
use std::process::ExitCode;
use std::time::Duration;

struct Census;

impl EventSource for Census {
    fn describe(&self) -> SourceDescription {
        SourceDescription {
            mode: "count".into(),
            mode_reason: "it only counts".into(),
            caps: SourceCaps::PROCESS | SourceCaps::SYSTEM_WIDE,
            capabilities: CollectionCapabilities { domains: vec!["process".into()], ..Default::default() },
            ..Default::default()
        }
    }

    fn run(self: Box<Self>, sink: Sink) -> Result<(), SourceError> {
        let (mut interval, mut version, mut scan_id) = (1_000, u64::MAX, 0);
        while !sink.stopped() {
            let settings = sink.settings();
            if settings.version != version {
                version = settings.version;
                let taken = interval_in(&settings.json).map(|wanted| interval = wanted);
                sink.settled(version, taken);
            }
            let (started, processes) = (now_ns(), count()?);
            scan_id += 1;
            let scan = ScanSummary { scan_id, started, finished: now_ns(), processes, ..ScanSummary::default() };
            sink.emit(CollectedItem { item: Some(Item::Scan(scan)) })?;
            sink.report(SourceStatus { scan_interval_ms: interval, ..Default::default() });
            sink.pause(Duration::from_millis(interval))?;
        }
        Ok(())
    }
}

fn count() -> Result<u32, std::io::Error> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    let pids = entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    Ok(pids.count().try_into().unwrap_or(u32::MAX))
}

fn interval_in(settings: &str) -> Result<u64, String> {
    let settings: serde_json::Map<_, _> = serde_json::from_str(settings).map_err(|error| error.to_string())?;
    match settings.iter().next() {
        None => Ok(1_000),
        Some((name, value)) if name == "interval_ms" && settings.len() == 1 => {
            value.as_u64().filter(|ms| (10..=3_600_000).contains(ms)).ok_or("interval_ms is from 10 to 3600000".into())
        }
        Some(_) => Err("the only setting is interval_ms".into()),
    }
}

fn main() -> ExitCode {
    collector_core::main(env!("CARGO_PKG_VERSION"), |_| Ok(Box::new(Census)))
}
