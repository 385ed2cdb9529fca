//! What the kernel tells of processes as it happens.

#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "no source of events asks for it yet"))]
pub(crate) mod connector;
