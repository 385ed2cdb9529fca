//! Which source of events there is here: the best that works, or the one that is asked for.

use super::Feed;
use super::connector::{Connector, Notices};
use super::ebpf::{self, Events, LoadError, Options, Roster};
use daemoneye_lib::config::ProcessSource;
use std::io;

/// What was chosen, and why nothing better.
pub(crate) struct Chosen {
    /// `None` for scans alone.
    pub(crate) feed: Option<Box<dyn Feed>>,
    /// What lists all processes, where eBPF can.
    pub(crate) roster: Option<Roster>,
    /// As events and `system.collectors` name it.
    pub(crate) mode: &'static str,
    pub(crate) reason: String,
}

/// The source that was asked for does not work here.
#[derive(Debug, thiserror::Error)]
#[error("procmond.source = \"{wanted}\" cannot work here: {reason}")]
pub(crate) struct Refused {
    wanted: &'static str,
    reason: String,
}

/// Chooses: eBPF, then the connector, then nothing but scans; or what is asked for, or why not.
///
/// # Errors
/// When a source is asked for that does not work here.
pub(crate) fn choose(wanted: ProcessSource, options: &Options) -> Result<Chosen, Refused> {
    let asked = "procmond.source asks for it";
    match wanted {
        ProcessSource::Poll => Ok(Chosen { feed: None, roster: None, mode: "poll", reason: asked.to_owned() }),
        ProcessSource::Ebpf => match load(options) {
            Ok((events, roster)) => Ok(chosen(events, roster, asked)),
            Err(error) => Err(Refused { wanted: "ebpf", reason: told(&error) }),
        },
        ProcessSource::Connector => match Connector::open(buffer(options)) {
            Ok(connector) => Ok(connected(connector, asked.to_owned())),
            Err(error) => Err(Refused { wanted: "connector", reason: error.to_string() }),
        },
        ProcessSource::Auto => match load(options) {
            Ok((events, roster)) => Ok(chosen(events, roster, "the best source")),
            Err(error) => {
                let reason = format!("no eBPF: {}", told(&error));
                Ok(match Connector::open(buffer(options)) {
                    Ok(connector) => connected(connector, reason),
                    Err(error) => {
                        let reason = format!("{reason}; no connector: {error}");
                        Chosen { feed: None, roster: None, mode: "poll", reason }
                    }
                })
            }
        },
    }
}

/// The connector's buffer is as large as the ring would be.
fn buffer(options: &Options) -> usize {
    usize::try_from(options.ring_bytes).unwrap_or(usize::MAX)
}

fn connected(connector: Connector, reason: String) -> Chosen {
    Chosen { feed: Some(Box::new(Notices::of(connector))), roster: None, mode: "connector", reason }
}

fn chosen(events: Events, roster: Option<Roster>, reason: &str) -> Chosen {
    Chosen { feed: Some(Box::new(events)), roster, mode: "ebpf", reason: reason.to_owned() }
}

fn load(options: &Options) -> Result<(Events, Option<Roster>), LoadError> {
    let types = ebpf::kernel_types()?;
    let events = Events::load(&types, options)?;
    let roster = Roster::load(&types, options);
    let roster = roster.inspect_err(|error| tracing::warn!(reason = told(error), "processes are listed by /proc")).ok();
    Ok((events, roster))
}

/// The error in one line, without the verifier's log.
fn told(error: &LoadError) -> String {
    tracing::debug!(error = error as &dyn std::error::Error, "no eBPF");
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The inode number of our PID namespace.
///
/// # Errors
/// Where `/proc` does not tell.
pub(crate) fn pid_namespace() -> io::Result<u32> {
    let link = std::fs::read_link("/proc/self/ns/pid")?;
    let text = link.to_string_lossy();
    let number =
        text.strip_prefix("pid:[").and_then(|rest| rest.strip_suffix(']')).and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("/proc/self/ns/pid says {text:?}")))
}
