//! Logs on stderr, for people or as JSON lines.
//!
//! What is logged can hold names that a host's processes chose. Lines for people therefore carry no control and no
//! bidirectional characters of theirs, and each event stays on one line; JSON escapes by itself.

use super::colours_wanted;
use crate::config::{LogFormat, LogLevel};
use crate::models::text::{CLEAR_LINE, for_terminal};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing::Level;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{MakeWriter, SubscriberBuilder};

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

/// Sends the logs of this process to stderr. The first call wins; later ones change nothing.
pub fn init(level: LogLevel, format: LogFormat) {
    let builder = builder(level, || Stderr(io::stderr()));
    // An error says that a subscriber is there already.
    let _ = match format {
        LogFormat::Human => {
            builder.with_ansi(colours_wanted(&io::stderr())).fmt_fields(debug_fn(harmless).delimited(" ")).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// A log that cannot be written is dropped: complaining about it on the same stderr would panic.
fn builder<W>(level: LogLevel, writer: W) -> Builder<W>
where
    W: for<'w> MakeWriter<'w> + 'static,
{
    SubscriberBuilder::default().with_max_level(Level::from(level)).with_writer(writer).log_internal_errors(false)
}

type Builder<W> = SubscriberBuilder<
    tracing_subscriber::fmt::format::DefaultFields,
    tracing_subscriber::fmt::format::Format,
    tracing_subscriber::filter::LevelFilter,
    W,
>;

fn harmless(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
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

    fn logged(level: LogLevel, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = builder(level, move || writer.clone())
            .with_ansi(false)
            .without_time()
            .fmt_fields(debug_fn(harmless).delimited(" "))
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn host_text_cannot_move_the_cursor_or_begin_a_line() {
        let name = "x\x1b[2J\nERROR forged \u{202e}";
        let line = logged(LogLevel::Info, || tracing::info!(%name, pid = 7, "seen {name}"));
        let text = "x\\u{1b}[2J\\nERROR forged \\u{202e}";
        assert_eq!(line, format!(" INFO daemoneye_lib::cli::logging::tests: seen {text} name={text} pid=7\n"));
    }

    #[test]
    fn the_level_holds() {
        let line = logged(LogLevel::Warn, || {
            tracing::info!("quiet");
            tracing::warn!("loud");
        });
        assert_eq!(line, " WARN daemoneye_lib::cli::logging::tests: loud\n");
    }
}
