//! The two kinds of rows that are kept in blocks.

use crate::models::catalog::Table;
use crate::proto::ipc::ColumnKind;

/// A kind of rows in blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Series {
    /// `processes.events`.
    Events,
    /// Processes that have ended: part of `processes`.
    Ended,
}

/// Columns by which an operator looks something up; a block has a filter for each.
const LOOKED_UP: [&str; 9] =
    ["process_key", "parent_key", "pid", "ppid", "name", "executable_path", "user", "executable_hash", "parent_name"];

impl Series {
    pub(super) const ALL: [Self; 2] = [Self::Events, Self::Ended];

    /// The number that stands for it in the file.
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Events => 1,
            Self::Ended => 2,
        }
    }

    /// The table whose columns its rows have.
    pub(super) const fn table(self) -> Table {
        match self {
            Self::Events => Table::ProcessEvents,
            Self::Ended => Table::Processes,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Ended => "ended",
        }
    }
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
