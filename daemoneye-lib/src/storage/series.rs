//! The kinds of rows that are kept in blocks.

use crate::models::catalog::Table;
use crate::proto::ipc::ColumnKind;
use redb::TableDefinition;

/// A kind of rows in blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Series {
    /// `processes.events`.
    Events,
    /// Processes that have ended: part of `processes`.
    Ended,
    /// `network.connections`.
    Network,
    /// `filesystem.events`.
    Filesystem,
    /// `performance.samples`.
    Performance,
    /// `security.events`.
    Security,
    /// `processes.snapshots`.
    Snapshots,
}

/// What the file calls a series of events.
pub(super) struct EventNames {
    pub(super) series: Series,
    /// First row number to an encoded `HeadRun`: what is not yet sealed.
    pub(super) head: TableDefinition<'static, u64, &'static [u8]>,
    /// In `meta`: how many rows the head has.
    pub(super) fresh: &'static str,
    /// In `meta`: the newest time that retention has removed.
    pub(super) removed: &'static str,
    /// What `data stats` calls the two parts.
    pub(super) fresh_part: &'static str,
    pub(super) sealed_part: &'static str,
}

macro_rules! event_names {
    ($series:ident, $head:literal, $own:literal, $table:literal) => {
        EventNames {
            series: Series::$series,
            head: TableDefinition::new($head),
            fresh: concat!("fresh_", $own),
            removed: concat!("removed_", $own),
            fresh_part: concat!($table, ", fresh"),
            sealed_part: concat!($table, ", sealed"),
        }
    };
}

/// The series whose rows are events: they arrive in a head and are sealed from there.
pub(super) static EVENTS: [EventNames; 5] = [
    event_names!(Events, "head", "events", "processes.events"),
    event_names!(Network, "head.network", "network", "network.connections"),
    event_names!(Filesystem, "head.filesystem", "filesystem", "filesystem.events"),
    event_names!(Performance, "head.performance", "performance", "performance.samples"),
    event_names!(Security, "head.security", "security", "security.events"),
];

/// Columns by which an operator looks something up; a block has a filter for each.
const LOOKED_UP: [&str; 20] = [
    "process_key",
    "parent_key",
    "pid",
    "ppid",
    "name",
    "executable_path",
    "user",
    "executable_hash",
    "parent_name",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "path",
    "target_path",
    "file_hash",
    "metric",
    "target_process_key",
    "target_pid",
    "object",
];

impl Series {
    pub(super) const ALL: [Self; 7] = [
        Self::Events,
        Self::Ended,
        Self::Network,
        Self::Filesystem,
        Self::Performance,
        Self::Snapshots,
        Self::Security,
    ];

    /// The number that stands for it in the file.
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Events => 1,
            Self::Ended => 2,
            Self::Network => 3,
            Self::Filesystem => 4,
            Self::Performance => 5,
            Self::Snapshots => 6,
            Self::Security => 7,
        }
    }

    /// The table whose columns its rows have.
    pub(super) const fn table(self) -> Table {
        match self {
            Self::Events => Table::ProcessEvents,
            Self::Ended => Table::Processes,
            Self::Network => Table::NetworkConnections,
            Self::Filesystem => Table::FilesystemEvents,
            Self::Performance => Table::PerformanceSamples,
            Self::Security => Table::SecurityEvents,
            Self::Snapshots => Table::Snapshots,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Ended => "ended",
            Self::Network => "network",
            Self::Filesystem => "filesystem",
            Self::Performance => "performance",
            Self::Security => "security",
            Self::Snapshots => "snapshots",
        }
    }
}

/// The series of the events of a table.
pub(super) fn of_events(table: Table) -> Option<&'static EventNames> {
    EVENTS.iter().find(|own| own.series.table() == table)
}

/// A column of a series as blocks need it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockColumn {
    pub(super) kind: ColumnKind,
    pub(super) has_filter: bool,
}

/// The columns of a series, in order.
pub(super) fn columns(series: Series) -> Vec<BlockColumn> {
    let column = |(name, kind)| BlockColumn { kind, has_filter: LOOKED_UP.contains(&name) };
    series.table().columns().into_iter().map(column).collect()
}
