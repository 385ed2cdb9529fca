//! A collector that tells recorded events: JSON lines in the columns of the tables of events, in the order of the file.
//!
//! `[collectors.replay] command = ["daemoneye-replay", "/path/events.jsonl"]`. Only an agent with
//! `DAEMONEYE_AGENT_TEST_MODE=1` accepts it. What a line does not say is made as `models::jsonl` documents. The time of one
//! without a time is now; with `--from TIME` such lines follow each other by a second from there, the same in each run. The whole file is read and checked before the first event is told. How far it came is written
//! beside the spool, so that a restart goes on from there, unless the spool is a new one.
//!
//! In `[collectors.replay.settings]`, `mode`, `mode_reason` and `features.NAME` with `available`, `reason` and `tables` are how it says
//! that it observes: so it plays a collector that loses its best source, or lacks a part.

use collector_core::{CollectionCapabilities, CollectionEvent, EventSource, Feature, Launch, Sink, SourceCaps};
use collector_core::{SourceDescription, SourceError, SourceStatus};
use daemoneye_lib::models::jsonl::{JsonlError, Recording};
use daemoneye_lib::models::time::{self, now_ns};
use serde_json::{Map, Value};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const DOMAINS: [&str; 5] = ["process", "network", "filesystem", "performance", "security"];
const SECOND: i64 = 1_000_000_000;
/// The largest file.
const MAX_BYTES: u64 = 256 << 20;
/// Between two notes of how far it came; a crash repeats at most so many events.
const NOTE_EVERY: usize = 1_000;

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error(
        "name one file of events: [collectors.NAME] command = [\"daemoneye-replay\", \"/path/events.jsonl\"]; \
         \"--from\" and a time may follow"
    )]
    Usage,
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: it has {bytes} bytes; {MAX_BYTES} can be replayed", path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{}: {source}", path.display())]
    Line { path: PathBuf, source: JsonlError },
}

struct Replay {
    path: PathBuf,
    text: String,
    /// From when lines without a time follow each other.
    from: Option<i64>,
    /// Where it is noted how far it came.
    note: PathBuf,
    test_mode: bool,
}

impl Replay {
    fn open(launch: &Launch) -> Result<Self, ReplayError> {
        let (path, from) = match &launch.arguments[..] {
            [path] => (path, None),
            [path, flag, from] if flag == "--from" => {
                let from = from.to_str().and_then(time::parse).ok_or(ReplayError::Usage)?;
                (path, Some(from))
            }
            _ => return Err(ReplayError::Usage),
        };
        let path = PathBuf::from(path);
        let failed = |source| ReplayError::Io { path: path.clone(), source };
        let bytes = fs::metadata(&path).map_err(failed)?.len();
        if bytes > MAX_BYTES {
            return Err(ReplayError::TooLarge { path, bytes });
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        check(&text).map_err(|source| ReplayError::Line { path: path.clone(), source })?;
        let note = launch.data_dir.join(&launch.name).join("replayed");
        Ok(Self { path, text, from, note, test_mode: launch.variables.test_mode })
    }
}

/// The lines that are events, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(|(index, line)| (index + 1, line))
}

fn check(text: &str) -> Result<(), JsonlError> {
    let mut recording = Recording::default();
    lines(text).try_for_each(|(number, line)| recording.event(line, number).map(drop))
}

impl EventSource for Replay {
    fn describe(&self) -> SourceDescription {
        SourceDescription {
            mode: "replay".into(),
            mode_reason: format!("recorded events of {}", self.path.display()),
            caps: SourceCaps::PROCESS
                | SourceCaps::NETWORK
                | SourceCaps::FILESYSTEM
                | SourceCaps::PERFORMANCE
                | SourceCaps::SECURITY,
            capabilities: CollectionCapabilities { domains: DOMAINS.map(str::to_owned).to_vec(), ..Default::default() },
            limitations: vec!["events are recorded ones, not those of this host".into()],
            ..Default::default()
        }
    }

    fn run(self: Box<Self>, sink: Sink) -> Result<(), SourceError> {
        let epoch = sink.epoch().to_string();
        let done = told(&self.note, &epoch);
        let mut recording = Recording::default();
        let (mut count, mut version) = (0, u64::MAX);
        for (number, line) in lines(&self.text) {
            // Also what was told earlier: later lines refer to it.
            let after = i64::try_from(number).unwrap_or(0).saturating_mul(SECOND);
            let otherwise = self.from.map_or_else(now_ns, |from| from.saturating_add(after));
            let event = recording.event_at(line, number, otherwise)?;
            count += 1;
            if count <= done {
                continue;
            }
            sink.emit(CollectionEvent::from(event))?;
            if count % NOTE_EVERY == 0 {
                sink.flush()?;
                fs::write(&self.note, format!("{epoch} {count}\n"))?;
            }
        }
        sink.flush()?;
        fs::write(&self.note, format!("{epoch} {count}\n"))?;
        loop {
            let settings = sink.settings();
            if settings.version != version {
                version = settings.version;
                // Elsewhere nobody may take it for what it plays.
                let allowed = self.test_mode || settings.json == "{}";
                let taken = if allowed { status_in(&settings.json) } else { Err("only in test mode".to_owned()) };
                sink.settled(version, taken.map(|status| sink.report(status)));
            }
            sink.pause(Duration::from_secs(3_600))?;
        }
    }
}

/// How the settings say that it observes.
fn status_in(settings: &str) -> Result<SourceStatus, String> {
    let settings: Map<String, Value> = serde_json::from_str(settings).map_err(|error| error.to_string())?;
    if settings.keys().any(|name| !["mode", "mode_reason", "features"].contains(&name.as_str())) {
        return Err("the settings are mode, mode_reason and features".to_owned());
    }
    let text =
        |of: &Map<String, Value>, name: &str| of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let features = settings.get("features").and_then(Value::as_object).into_iter().flatten();
    let features = features.filter_map(|(name, value)| Some((name, value.as_object()?))).map(|(name, feature)| {
        let tables = feature.get("tables").and_then(Value::as_array).into_iter().flatten();
        Feature {
            name: name.clone(),
            available: feature.get("available").and_then(Value::as_bool).unwrap_or_default(),
            reason: text(feature, "reason"),
            tables: tables.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    });
    let mode = settings.contains_key("mode").then(|| (text(&settings, "mode"), text(&settings, "mode_reason")));
    Ok(SourceStatus { mode, features: features.collect(), ..SourceStatus::default() })
}

/// How many events of this epoch were told before.
fn told(note: &Path, epoch: &str) -> usize {
    let text = fs::read_to_string(note).unwrap_or_default();
    text.trim().split_once(' ').filter(|(of, _)| *of == epoch).and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
}

fn main() -> ExitCode {
    collector_core::main(env!("CARGO_PKG_VERSION"), |launch| Ok(Box::new(Replay::open(launch)?)))
}
