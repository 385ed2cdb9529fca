//! What a source can do, as a set of flags.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// What a source can do: a set of flags.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SourceCaps(u32);

impl SourceCaps {
    /// Watches processes.
    pub const PROCESS: Self = Self(1);
    /// Watches network connections.
    pub const NETWORK: Self = Self(1 << 1);
    /// Watches files.
    pub const FILESYSTEM: Self = Self(1 << 2);
    /// Measures load and resources.
    pub const PERFORMANCE: Self = Self(1 << 3);
    /// Tells of events when they happen, not when it looks again.
    pub const REALTIME: Self = Self(1 << 4);
    /// Observes inside the kernel, so that nothing in user space can hide from it.
    pub const KERNEL_LEVEL: Self = Self(1 << 5);
    /// Sees the whole host, not only what belongs to its own user.
    pub const SYSTEM_WIDE: Self = Self(1 << 6);

    /// Watches what matters for security whatever program does it: credentials, tracing, what the kernel is made to load.
    pub const SECURITY: Self = Self(1 << 7);

    const NAMES: [(Self, &'static str); 8] = [
        (Self::PROCESS, "process"),
        (Self::NETWORK, "network"),
        (Self::FILESYSTEM, "filesystem"),
        (Self::PERFORMANCE, "performance"),
        (Self::SECURITY, "security"),
        (Self::REALTIME, "realtime"),
        (Self::KERNEL_LEVEL, "kernel-level"),
        (Self::SYSTEM_WIDE, "system-wide"),
    ];

    /// No flag.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for SourceCaps {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for SourceCaps {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for SourceCaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for SourceCaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceCaps({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::SourceCaps;

    #[test]
    fn flags_add_up_and_are_named() {
        let mut caps = SourceCaps::PROCESS | SourceCaps::SYSTEM_WIDE;
        assert!(caps.contains(SourceCaps::PROCESS));
        assert!(!caps.contains(SourceCaps::PROCESS | SourceCaps::REALTIME));
        caps |= SourceCaps::REALTIME;
        assert!(caps.contains(SourceCaps::PROCESS | SourceCaps::REALTIME));
        assert_eq!(caps.to_string(), "process,realtime,system-wide");
        assert_eq!((SourceCaps::SECURITY | SourceCaps::PROCESS).to_string(), "process,security");
        assert!(SourceCaps::empty().contains(SourceCaps::empty()));
        assert_eq!(SourceCaps::empty().to_string(), "");
    }
}
