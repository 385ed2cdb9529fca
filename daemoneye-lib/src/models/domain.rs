//! The subjects that collectors watch, as registration names them and as sets.

use crate::proto::ipc::collected_item::Item;
use std::fmt;

/// What a kind of items is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// Processes, and scans of them.
    Process,
    /// Sockets and connections.
    Network,
    /// Files.
    Filesystem,
    /// Measurements.
    Performance,
    /// No subject of its own: tasks that are asked of other collectors.
    Trigger,
    /// What the kernel saw processes do that matters for security.
    Security,
}

impl Domain {
    /// Every domain.
    pub const ALL: [Self; 6] =
        [Self::Process, Self::Network, Self::Filesystem, Self::Performance, Self::Trigger, Self::Security];

    /// Its name in registrations and topics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Network => "network",
            Self::Filesystem => "filesystem",
            Self::Performance => "performance",
            Self::Security => "security",
            Self::Trigger => "trigger",
        }
    }

    /// The domain of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|domain| domain.name() == name)
    }

    /// To what an item belongs; gaps belong to whatever their collector watches.
    pub const fn of(item: &Item) -> Option<Self> {
        match item {
            Item::Process(_) | Item::Scan(_) | Item::Snapshot(_) => Some(Self::Process),
            Item::Network(_) => Some(Self::Network),
            Item::Filesystem(_) => Some(Self::Filesystem),
            Item::Performance(_) => Some(Self::Performance),
            Item::Security(_) => Some(Self::Security),
            Item::Trigger(_) => Some(Self::Trigger),
            Item::Gap(_) => None,
        }
    }

    /// The store keeps these: a new domain comes last.
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of domains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Domains(u32);

impl Domains {
    /// Those that the bits of [`Domains::bits`] say; unknown bits are none.
    pub fn from_bits(bits: u32) -> Self {
        Domain::ALL.into_iter().filter(|domain| bits & domain.bit() != 0).collect()
    }

    /// As a number that can be kept.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the domain is among them.
    pub const fn contains(self, domain: Domain) -> bool {
        self.0 & domain.bit() != 0
    }

    /// Those of these names; what is no domain is none.
    pub fn named<S: AsRef<str>>(names: &[S]) -> Self {
        names.iter().filter_map(|name| Domain::find(name.as_ref())).collect()
    }

    /// Whether an item of this kind may come from who registered these.
    pub fn allow(self, item: &Item) -> bool {
        Domain::of(item).is_none_or(|domain| self.contains(domain))
    }
}

impl FromIterator<Domain> for Domains {
    fn from_iter<I: IntoIterator<Item = Domain>>(domains: I) -> Self {
        Self(domains.into_iter().fold(0, |bits, domain| bits | domain.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ipc::{Gap, ScanSummary, TriggerRequest};

    #[test]
    fn items_come_only_from_who_registered_their_domain() {
        let own = Domains::named(&["network", "trigger", "weather"]);
        assert!(own.contains(Domain::Network) && own.contains(Domain::Trigger) && !own.contains(Domain::Process));
        assert_eq!(Domains::from_bits(own.bits() | 1 << 20), own);
        assert!(own.allow(&Item::Trigger(TriggerRequest::default())));
        assert!(own.allow(&Item::Gap(Gap::default())), "everybody is blind sometimes");
        assert!(!own.allow(&Item::Scan(ScanSummary::default())), "a scan is of processes");
        assert!(Domains::default().is_empty() && !own.is_empty());
    }

    #[test]
    fn names_and_domains_are_one_to_one() {
        for domain in Domain::ALL {
            assert_eq!(Domain::find(domain.name()), Some(domain));
        }
        assert_eq!(Domain::find("Process"), None);
    }
}
