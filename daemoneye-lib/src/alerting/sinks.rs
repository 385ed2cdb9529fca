//! Where alerts go: a thread for each sink, a bounded queue before it.
//!
//! A full queue drops the delivery here and not for good: it stays due in the store, from where it is tried again.

use super::format::{alert_json, alert_line};
use crate::config::{Sink, SinkFormat, for_owner_alone, open_no_follow};
use crate::models::rows::DeliveryRow;
use crate::models::text::CLEAR_LINE;
use crate::models::time;
use crate::proto::common::Alert;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, sync_channel};
use std::thread;

/// Deliveries that wait for one sink.
const QUEUE: usize = 1_024;

/// Why a sink cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// Its file cannot be appended to.
    #[error("the sink `{sink}` cannot append to {}: {source}", path.display())]
    File {
        /// Its name in the configuration.
        sink: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("the sink `{sink}` cannot be started: {source}")]
    Thread {
        /// Its name in the configuration.
        sink: String,
        /// What the system said.
        source: io::Error,
    },
}

struct Delivery {
    row: DeliveryRow,
    alert: Arc<Alert>,
}

/// The sinks of the configuration, running.
#[derive(Debug)]
pub struct Sinks {
    queues: BTreeMap<String, SyncSender<Delivery>>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.row.alert_id, self.row.sink)
    }
}

impl Sinks {
    /// Starts the sinks; what becomes of each delivery is sent to `outcomes`.
    ///
    /// # Errors
    /// When a sink cannot be used: better now than with the first alert.
    pub fn start(sinks: &BTreeMap<String, Sink>, outcomes: &Sender<DeliveryRow>) -> Result<Self, SinkError> {
        let mut queues = BTreeMap::new();
        for (name, sink) in sinks {
            if let Sink::File { path, .. } = sink {
                append(path, b"").map_err(|source| SinkError::File {
                    sink: name.clone(),
                    path: path.clone(),
                    source,
                })?;
            }
            let (queue, deliveries) = sync_channel(QUEUE);
            let (own, outcomes) = (sink.clone(), outcomes.clone());
            thread::Builder::new()
                .name(format!("sink-{name}"))
                .spawn(move || run(&own, &deliveries, &outcomes))
                .map_err(|source| SinkError::Thread { sink: name.clone(), source })?;
            queues.insert(name.clone(), queue);
        }
        Ok(Self { queues })
    }

    /// Whether there is a sink of this name.
    pub fn has(&self, name: &str) -> bool {
        self.queues.contains_key(name)
    }

    /// The deliveries that a new alert is due.
    pub fn due(&self, alert: &Alert) -> Vec<DeliveryRow> {
        let due = |sink: &String| DeliveryRow {
            alert_id: alert.alert_id.clone(),
            sink: sink.clone(),
            status: "due".to_owned(),
            time: time::now_ns(),
            attempts: 0,
            error: None,
        };
        self.queues.keys().map(due).collect()
    }

    /// Hands a due delivery to its sink. Returns whether the sink has taken it on; otherwise it stays due.
    pub fn deliver_alert(&self, row: DeliveryRow, alert: Arc<Alert>) -> bool {
        let Some(queue) = self.queues.get(&row.sink) else { return false };
        match queue.try_send(Delivery { row, alert }) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

fn run(sink: &Sink, deliveries: &Receiver<Delivery>, outcomes: &Sender<DeliveryRow>) {
    while let Ok(Delivery { mut row, alert }) = deliveries.recv() {
        let done = deliver(sink, &alert);
        row.attempts += 1;
        row.time = time::now_ns();
        row.status = if done.is_ok() { "delivered" } else { "failed" }.to_owned();
        row.error = done.err().map(|error| error.to_string());
        if outcomes.send(row).is_err() {
            return;
        }
    }
}

fn deliver(sink: &Sink, alert: &Alert) -> io::Result<()> {
    match sink {
        Sink::Stdout { format } => {
            let mut stdout = io::stdout().lock();
            if *format == SinkFormat::Human && stdout.is_terminal() {
                // A live status line may stand there.
                stdout.write_all(CLEAR_LINE.as_bytes())?;
            }
            stdout.write_all(line(*format, alert).as_bytes())?;
            stdout.flush()
        }
        Sink::File { format, path } => append(path, line(*format, alert).as_bytes()),
    }
}

fn line(format: SinkFormat, alert: &Alert) -> String {
    let mut line = match format {
        SinkFormat::Human => alert_line(alert),
        SinkFormat::Jsonl => alert_json(alert),
    };
    line.push('\n');
    line
}

/// Opened for each alert: a file that was rotated away is made anew.
fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    open_no_follow(for_owner_alone(&mut options), path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn alert() -> Arc<Alert> {
        Arc::new(Alert { alert_id: "a".into(), row: "{}".into(), dedup_key: "[]".into(), ..Alert::default() })
    }

    #[test]
    fn a_file_gets_a_line_and_a_lost_one_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("alerts.jsonl");
        let sinks = BTreeMap::from([("log".to_owned(), Sink::File { format: SinkFormat::Jsonl, path: path.clone() })]);
        let (send, outcomes) = channel();
        let sinks = Sinks::start(&sinks, &send).unwrap();
        for _ in 0..2 {
            for row in sinks.due(&alert()) {
                assert!(sinks.deliver_alert(row, alert()));
            }
            let outcome = outcomes.recv().unwrap();
            assert_eq!((outcome.status.as_str(), outcome.attempts), ("delivered", 1));
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().count(), 1);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_delivered_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gone").join("alerts.jsonl");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let sinks = BTreeMap::from([("log".to_owned(), Sink::File { format: SinkFormat::Human, path: path.clone() })]);
        let (send, outcomes) = channel();
        let sinks = Sinks::start(&sinks, &send).unwrap();
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let row = sinks.due(&alert()).remove(0);
        assert!(sinks.deliver_alert(row, alert()));
        let outcome = outcomes.recv().unwrap();
        assert_eq!(outcome.status, "failed");
        assert!(outcome.error.is_some());
        assert!(
            Sinks::start(&BTreeMap::from([("log".to_owned(), Sink::File { format: SinkFormat::Human, path })]), &send)
                .is_err()
        );
    }

    #[test]
    fn a_link_is_not_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let (precious, path) = (directory.path().join("precious"), directory.path().join("alerts.jsonl"));
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        let sinks = BTreeMap::from([("log".to_owned(), Sink::File { format: SinkFormat::Jsonl, path })]);
        let refused = Sinks::start(&sinks, &channel().0).unwrap_err();
        assert!(refused.to_string().contains("symbolic link"), "{refused}");
        assert!(!precious.exists());
    }
}
