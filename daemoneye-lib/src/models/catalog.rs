//! The tables that a query may name, and their columns.

use crate::models::columns::{ALERT, Column, EVENT, FILESYSTEM, NETWORK, PERFORMANCE, PROCESS, SECURITY};
use crate::models::domain::Domain;
use crate::models::rows::{COLLECTOR, DELIVERY, GAP, RULE, RUN, SCAN, SNAPSHOT, TRIGGER};
use crate::proto::ipc::ColumnKind;

/// The columns with which a row of `processes.ancestors` begins; those of the ancestor follow, without its key.
pub(crate) const ANCESTOR: [(&str, ColumnKind); 3] =
    [("process_key", ColumnKind::Text), ("depth", ColumnKind::Integer), ("ancestor_key", ColumnKind::Text)];

/// How far up `processes.ancestors` follows parents: what the host tells may run in a circle.
pub const MAX_DEPTH: usize = 64;

/// A table that an operator can query.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Table {
    /// A process, its latest image, whether it still runs.
    Processes,
    /// An event.
    ProcessEvents,
    /// What happened to a socket or a connection.
    NetworkConnections,
    /// What happened to a file.
    FilesystemEvents,
    /// A measurement.
    PerformanceSamples,
    /// What the kernel saw a process do that matters for security.
    SecurityEvents,
    /// An ancestor of a process.
    Ancestors,
    /// A process at one scan, with what it used.
    Snapshots,
    /// An enumeration of all processes.
    Scans,
    /// A stretch of blindness and its reason.
    Gaps,
    /// A task that one collector asked of another.
    Triggers,
    /// A collector, its mode, its state.
    Collectors,
    /// A rule.
    Rules,
    /// An evaluation with its cost and completeness.
    Runs,
    /// An alert.
    Alerts,
    /// An attempt to deliver an alert.
    Deliveries,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 16] = [
        Self::Processes,
        Self::ProcessEvents,
        Self::NetworkConnections,
        Self::FilesystemEvents,
        Self::PerformanceSamples,
        Self::SecurityEvents,
        Self::Ancestors,
        Self::Snapshots,
        Self::Scans,
        Self::Gaps,
        Self::Triggers,
        Self::Collectors,
        Self::Rules,
        Self::Runs,
        Self::Alerts,
        Self::Deliveries,
    ];

    /// Schema and name.
    pub const fn qualified_name(self) -> (&'static str, &'static str) {
        match self {
            Self::Processes => ("processes", "current"),
            Self::ProcessEvents => ("processes", "events"),
            Self::NetworkConnections => ("network", "connections"),
            Self::FilesystemEvents => ("filesystem", "events"),
            Self::PerformanceSamples => ("performance", "samples"),
            Self::SecurityEvents => ("security", "events"),
            Self::Ancestors => ("processes", "ancestors"),
            Self::Snapshots => ("processes", "snapshots"),
            Self::Scans => ("system", "scans"),
            Self::Gaps => ("system", "gaps"),
            Self::Triggers => ("system", "triggers"),
            Self::Collectors => ("system", "collectors"),
            Self::Rules => ("detection", "rules"),
            Self::Runs => ("detection", "runs"),
            Self::Alerts => ("alerts", "current"),
            Self::Deliveries => ("alerts", "deliveries"),
        }
    }

    /// The short name that stands for the table after `FROM`, where it has one.
    pub const fn short_name(self) -> Option<&'static str> {
        match self {
            Self::Processes => Some("processes"),
            Self::Alerts => Some("alerts"),
            Self::Snapshots => Some("process_snapshots"),
            Self::Scans => Some("scans"),
            Self::Rules => Some("detection_rules"),
            _ => None,
        }
    }

    /// The table of this name: `schema.table`, or its short form; ASCII case does not count.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| {
            let (schema, own) = table.qualified_name();
            table.short_name().is_some_and(|short| short.eq_ignore_ascii_case(name))
                || name.split_once('.').is_some_and(|(given_schema, given)| {
                    given_schema.eq_ignore_ascii_case(schema) && given.eq_ignore_ascii_case(own)
                })
        })
    }

    /// Names and kinds, in order.
    pub fn columns(self) -> Vec<(&'static str, ColumnKind)> {
        match self {
            Self::Processes => list(PROCESS),
            Self::ProcessEvents => event(PROCESS),
            Self::NetworkConnections => event(NETWORK),
            Self::FilesystemEvents => event(FILESYSTEM),
            Self::PerformanceSamples => event(PERFORMANCE),
            Self::SecurityEvents => event(SECURITY),
            Self::Snapshots => list(SNAPSHOT),
            Self::Ancestors => ANCESTOR.iter().copied().chain(list(PROCESS).into_iter().skip(1)).collect(),
            Self::Scans => list(SCAN),
            Self::Gaps => list(GAP),
            Self::Triggers => list(TRIGGER),
            Self::Collectors => list(COLLECTOR),
            Self::Rules => list(RULE),
            Self::Runs => list(RUN),
            Self::Alerts => list(ALERT),
            Self::Deliveries => list(DELIVERY),
        }
    }

    /// What its rows are about, where they are what collectors saw.
    pub const fn domain(self) -> Option<Domain> {
        match self {
            Self::Processes | Self::ProcessEvents | Self::Ancestors | Self::Snapshots => Some(Domain::Process),
            Self::NetworkConnections => Some(Domain::Network),
            Self::FilesystemEvents => Some(Domain::Filesystem),
            Self::PerformanceSamples => Some(Domain::Performance),
            Self::SecurityEvents => Some(Domain::Security),
            _ => None,
        }
    }

    /// Whether its rows are what collectors saw, so that a gap makes an answer from it doubtful.
    pub const fn is_observed(self) -> bool {
        self.domain().is_some()
    }

    /// Whether its rows are events, each with its `event_time`.
    pub const fn is_of_events(self) -> bool {
        self.is_observed() && !matches!(self, Self::Processes | Self::Ancestors | Self::Snapshots)
    }

    /// The column by whose times rows are kept, sought and removed.
    pub const fn time_column(self) -> Option<&'static str> {
        match self {
            Self::Snapshots => Some("snapshot_time"),
            own if own.is_of_events() => Some("event_time"),
            _ => None,
        }
    }

    /// The table of events whose rows a standing rule over this table sees: of `processes` each is the state at an event.
    pub const fn events(self) -> Option<Self> {
        match self {
            Self::Processes => Some(Self::ProcessEvents),
            own if own.is_of_events() => Some(own),
            _ => None,
        }
    }
}

fn event<R>(columns: &[Column<R>]) -> Vec<(&'static str, ColumnKind)> {
    list(EVENT).into_iter().chain(list(columns)).collect()
}

fn list<R>(columns: &[Column<R>]) -> Vec<(&'static str, ColumnKind)> {
    columns.iter().map(|column| (column.name, column.kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_found_by_both_names() {
        assert_eq!(Table::find("processes"), Some(Table::Processes));
        assert_eq!(Table::find("Processes.Current"), Some(Table::Processes));
        assert_eq!(Table::find("system.scans"), Table::find("scans"));
        assert_eq!(Table::find("current"), None);
        assert_eq!(Table::find("processes.nothing"), None);
    }

    #[test]
    fn no_table_has_a_column_twice() {
        for table in Table::ALL {
            let mut names: Vec<_> = table.columns().into_iter().map(|(name, _)| name).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{table:?}");
        }
    }
}
