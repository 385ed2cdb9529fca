//! Why eBPF programs cannot be had, in the operator's words.

use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::{BtfError, EbpfError};
use std::io;

/// Why there are no events by eBPF here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The kernel does not describe itself.
    #[error("this kernel has no BTF at /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)")]
    NoBtf,
    /// It does, and in a way that is not understood.
    #[error("this kernel's BTF cannot be read: {0}")]
    Btf(#[source] BtfError),
    /// Loading is not allowed.
    #[error("the capabilities CAP_BPF and CAP_PERFMON (before Linux 5.8: CAP_SYS_ADMIN) are missing")]
    Denied,
    /// The object does not fit this kernel.
    #[error("the programs cannot be loaded: {0}")]
    Object(#[source] EbpfError),
    /// One of the programs does not.
    #[error("the program {program} cannot be attached to {place}: {source}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Where it belongs.
        place: &'static str,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
    /// The object lacks something: a defect of ours.
    #[error("the object has no {0}")]
    Missing(&'static str),
    /// A map cannot be used.
    #[error("the map {map} cannot be used: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        source: MapError,
    },
}

/// The error without the verifier's log.
pub(crate) fn in_one_line(error: &LoadError) -> String {
    tracing::debug!(error = error as &dyn std::error::Error, "eBPF programs cannot be loaded");
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

pub(super) fn object_error(error: EbpfError) -> LoadError {
    match &error {
        EbpfError::MapError(MapError::CreateError { io_error, .. })
        | EbpfError::BtfError(BtfError::LoadError { io_error, .. })
            if is_denied(io_error) =>
        {
            LoadError::Denied
        }
        _ => LoadError::Object(error),
    }
}

pub(super) fn program_error(program: &'static str, place: &'static str, error: ProgramError) -> LoadError {
    match &error {
        ProgramError::LoadError { io_error, .. } if is_denied(io_error) => LoadError::Denied,
        _ => LoadError::Program { program, place, source: Box::new(error) },
    }
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}
