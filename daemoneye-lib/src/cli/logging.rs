//! Logs on stderr, for people or as JSON lines.
//!
//! What is logged can hold names that a host's processes chose. Lines for people therefore carry no control and no
//! bidirectional characters of theirs, and each event stays on one line; JSON escapes by itself.

use super::colours_wanted;
use crate::config::{LogFormat, LogLevel};
use crate::models::text::{CLEAR_LINE, for_terminal};
use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::Level;
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// Whether a live status line stands on the terminal that stderr is.
static STATUS_LINE: AtomicBool = AtomicBool::new(false);

/// Says whether a live status line stands on stderr's terminal, so that a log line takes its place instead of following it.
pub fn status_line(shown: bool) {
    STATUS_LINE.store(shown, Ordering::Relaxed);
}

/// Standard error; each event is one call of `write`.
struct Stderr(io::Stderr);

impl io::Write for Stderr {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut stderr = self.0.lock();
        if STATUS_LINE.load(Ordering::Relaxed) {
            stderr.write_all(CLEAR_LINE.as_bytes())?;
        }
        stderr.write_all(event)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Changes how much is logged while the program runs.
#[derive(Clone)]
pub struct LogLevelSwitch(Option<reload::Handle<LevelFilter, Registry>>);

impl LogLevelSwitch {
    /// What is logged from now on.
    pub fn set(&self, level: LogLevel) {
        if let Some(handle) = &self.0 {
            // Only a subscriber that is gone refuses, and then nothing is logged at all.
            let _ = handle.reload(LevelFilter::from_level(level.into()));
        }
    }
}

/// Sends the logs of this process to stderr. The first call wins; later ones change nothing, nor do their switches.
pub fn init(level: LogLevel, format: LogFormat) -> LogLevelSwitch {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level.into()));
    let subscriber = Registry::default().with(filter);
    // A log that cannot be written is dropped: complaining about it on the same stderr would panic.
    let stderr = fmt::layer().with_writer(|| Stderr(io::stderr())).log_internal_errors(false);
    let done = match format {
        LogFormat::Human => subscriber
            .with(stderr.with_ansi(colours_wanted(&io::stderr())).fmt_fields(debug_fn(harmless).delimited(" ")))
            .try_init(),
        LogFormat::Json => subscriber.with(stderr.json().flatten_event(true)).try_init(),
    };
    LogLevelSwitch(done.is_ok().then_some(handle))
}

fn harmless(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    let text = format!("{value:?}");
    let text = for_terminal(&text);
    match field.name() {
        "message" => write!(writer, "{text}"),
        name => write!(writer, "{name}={text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce(&LogLevelSwitch)) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let (filter, handle) = reload::Layer::new(LevelFilter::WARN);
        let layer = fmt::layer().with_writer(move || writer.clone()).with_ansi(false).without_time();
        let subscriber = Registry::default().with(filter).with(layer.fmt_fields(debug_fn(harmless).delimited(" ")));
        tracing::subscriber::with_default(subscriber, || log(&LogLevelSwitch(Some(handle))));
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn host_text_cannot_move_the_cursor_or_begin_a_line() {
        let name = "x\x1b[2J\nERROR forged \u{202e}";
        let line = logged(|_| tracing::warn!(%name, pid = 7, "seen {name}"));
        let text = "x\\u{1b}[2J\\nERROR forged \\u{202e}";
        assert_eq!(line, format!(" WARN daemoneye_lib::cli::logging::tests: seen {text} name={text} pid=7\n"));
    }

    #[test]
    fn the_level_holds_until_it_is_changed() {
        let line = logged(|switch| {
            tracing::info!("quiet");
            tracing::warn!("loud");
            switch.set(LogLevel::Info);
            tracing::info!("now heard");
            tracing::debug!("still quiet");
        });
        let at = "daemoneye_lib::cli::logging::tests";
        assert_eq!(line, format!(" WARN {at}: loud\n INFO {at}: now heard\n"));
    }
}
