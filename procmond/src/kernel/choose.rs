//! Which source of events there is here: the best that works, or the one that is asked for.

use super::Standby;
use super::connector::{Connector, Notices, OpenError};
use super::ebpf::{self, Events, KernelTypes, Options, Roster};
use super::heard::Heard;
use crate::procfs::link;
use daemoneye_lib::config::ProcessSource;
use daemoneye_lib::proto::ipc::Feature;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

/// What was chosen.
pub(crate) struct Chosen {
    pub(crate) heard: Heard,
    /// What lists all processes, where eBPF can.
    pub(crate) roster: Option<Box<Roster>>,
    pub(crate) features: Vec<Feature>,
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
pub(crate) fn choose(wanted: ProcessSource, options: &Options, types: &KernelTypes) -> Result<Chosen, Refused> {
    let asked = "procmond.source asks for it";
    match wanted {
        ProcessSource::Poll => Ok(scans(asked.to_owned())),
        ProcessSource::Ebpf => {
            by_ebpf(options, types, asked, None).map_err(|reason| Refused { wanted: "ebpf", reason })
        }
        ProcessSource::Connector => by_connector(options, asked.to_owned())
            .map_err(|error| Refused { wanted: "connector", reason: error.to_string() }),
        ProcessSource::Auto => {
            let standby = Connector::prepare(buffer(options)).ok().map(|prepared| -> Standby {
                Box::new(|| match prepared.subscribe() {
                    Ok(connector) => Ok(Box::new(Notices::of(connector))),
                    Err(error) => Err(error.to_string()),
                })
            });
            Ok(by_ebpf(options, types, "the best source", standby).unwrap_or_else(|reason| {
                let reason = format!("no eBPF: {reason}");
                by_connector(options, reason.clone())
                    .unwrap_or_else(|error| scans(format!("{reason}; no connector: {error}")))
            }))
        }
    }
}

/// Scans are all there is, and why.
fn scans(reason: String) -> Chosen {
    Chosen { heard: Heard::nothing(reason), roster: None, features: Vec::new() }
}

fn by_connector(options: &Options, reason: String) -> Result<Chosen, OpenError> {
    let feed = Notices::of(Connector::open(buffer(options))?);
    let heard = Heard::new(Box::new(feed), None, "connector", reason);
    Ok(Chosen { heard, roster: None, features: vec![missing_arguments()] })
}

/// The connector's buffer is as large as the ring would be.
fn buffer(options: &Options) -> usize {
    usize::try_from(options.ring_bytes).unwrap_or(usize::MAX)
}

fn by_ebpf(options: &Options, types: &KernelTypes, reason: &str, standby: Option<Standby>) -> Result<Chosen, String> {
    let types = types.get().map_err(|error| ebpf::in_one_line(&error))?;
    let feed = Events::load(types, options).map_err(|error| ebpf::in_one_line(&error))?;
    let roster = Roster::load(types, options.pid_namespace).map_err(|error| ebpf::in_one_line(&error));
    let features = vec![iterators(roster.as_ref())];
    let heard = Heard::new(Box::new(feed), standby, "ebpf", reason.to_owned());
    Ok(Chosen { heard, roster: roster.ok().map(Box::new), features })
}

/// Whether scans cost no system call for each process. Nothing is missed without.
fn iterators(roster: Result<&Roster, &String>) -> Feature {
    let (available, reason) = match roster {
        Ok(roster) if roster.gives_arguments() => (true, String::new()),
        Ok(_) => (true, "arguments are read from /proc: before Linux 5.18 no program can read them".to_owned()),
        Err(reason) => (false, format!("processes are listed by /proc: {reason}")),
    };
    Feature { name: "iterators".to_owned(), available, reason, tables: Vec::new() }
}

/// What the connector does not tell.
fn missing_arguments() -> Feature {
    let reason = "the connector names pids: what short-lived processes ran is gone before it can be read".to_owned();
    Feature { name: "arguments".to_owned(), available: false, reason, tables: Vec::new() }
}

/// The inode number of our PID namespace.
///
/// # Errors
/// Where `/proc` does not tell.
pub(crate) fn pid_namespace() -> io::Result<u32> {
    namespace("/proc/self/ns/pid")
}

/// The same of our mount namespace.
///
/// # Errors
/// Where `/proc` does not tell.
pub(crate) fn mount_namespace() -> io::Result<u32> {
    namespace("/proc/self/ns/mnt")
}

fn namespace(path: &str) -> io::Result<u32> {
    let text = std::fs::read_link(path)?;
    let number = link::namespace(text.as_os_str().as_bytes()).and_then(|number| number.try_into().ok());
    number.ok_or_else(|| io::Error::other(format!("{path} says {text:?}")))
}
