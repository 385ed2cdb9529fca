//! The compiled programs, as they lie in `bpf/`.

/// Processes that begin, change their program, and end.
pub(super) static EVENTS: &[u8] = aya::include_bytes_aligned!("../../../bpf/events.bpf.o");

/// TCP connections.
pub(super) static NETWORK: &[u8] = aya::include_bytes_aligned!("../../../bpf/network.bpf.o");

/// What matters for security.
pub(super) static SECURITY: &[u8] = aya::include_bytes_aligned!("../../../bpf/security.bpf.o");
/// All processes at once.
pub(super) static ITERATORS: &[u8] = aya::include_bytes_aligned!("../../../bpf/iterators.bpf.o");
