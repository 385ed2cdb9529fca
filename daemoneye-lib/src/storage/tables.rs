//! The tables of the redb file, as `docs/formats/store.md` specifies them.

use redb::TableDefinition;

/// The format that this code reads and writes.
pub(super) const FORMAT: u64 = 4;

/// Facts about the store: `format`, `next_row`, `evaluated`, `next_ended`, `next_end`, and the `fresh_…` of each series of
/// events; as the bits of an `i64` the times `sealed_end`, `removed_alerts`, and the `removed_…` of each series of events.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Partition number to an encoded [`PartitionRow`].
pub(super) const PARTITIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("partitions");
/// Process key to its encoded latest record, followed by an encoded [`Announcement`]: what runs, and what has ended and is
/// not yet sealed.
pub(super) const CURRENT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("current");
/// Process keys in the order in which their ends were committed, until they are sealed.
pub(super) const ENDED: TableDefinition<'_, u64, &str> = TableDefinition::new("ended");
/// Process keys that were heard of again after they had been sealed: `current` has them.
pub(super) const REVIVED: TableDefinition<'_, &str, ()> = TableDefinition::new("revived");
/// Collector and epoch to the sequence through which everything is committed, and when it last grew.
pub(super) const COMMITTED: TableDefinition<'_, (&str, [u8; 16]), (u64, i64)> = TableDefinition::new("committed");
/// Collector to an encoded [`CollectorMemory`].
pub(super) const COLLECTORS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("collectors");
/// Gap number to an encoded `GapRow`.
pub(super) const GAPS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("gaps");
/// End time and collector to an encoded `ScanRow`.
pub(super) const SCANS: TableDefinition<'_, (i64, &str), &[u8]> = TableDefinition::new("scans");
/// In `meta`: until when snapshots have been removed.
pub(super) const REMOVED_SNAPSHOTS: &str = "removed_snapshots";
/// First row number to an encoded `SnapshotPart`: rows of `processes.snapshots` that are not sealed.
pub(super) const SNAPSHOTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("head.snapshots");
/// Alert id to the encoded alert.
pub(super) const ALERTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("alerts");
/// Rule id and dedup key to the id of the newest alert of these.
pub(super) const ALERT_KEYS: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("alert_keys");
/// Alert id and sink to an encoded `DeliveryRow`.
pub(super) const DELIVERIES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("deliveries");
/// Alert id and sink of each delivery that has not succeeded yet and is still tried.
pub(super) const DUE: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("due");
/// Trigger number to an encoded `TriggerRow`.
pub(super) const TRIGGERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("triggers");
/// Collector and trigger id to the trigger's number.
pub(super) const TRIGGER_IDS: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("trigger_ids");
/// How often a delivery is tried.
pub(super) const DELIVERY_ATTEMPTS: u32 = 10;

/// Events of one batch that are not yet sealed, with consecutive row numbers.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HeadRun {
    /// Of the collector's spool.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) epoch: Vec<u8>,
    /// One for each item.
    #[prost(uint64, repeated, tag = "2")]
    pub(super) sequences: Vec<u64>,
    /// Encoded `CollectedItem`s, as they came.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(super) items: Vec<Vec<u8>>,
}

impl HeadRun {
    /// The number of its field `items`.
    pub(super) const ITEMS: u32 = 3;
}

/// What a partition holds: its tables need not be opened to leave it out.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PartitionRow {
    /// See [`super::series::Series`].
    #[prost(uint32, tag = "1")]
    pub(super) series: u32,
    #[prost(int64, tag = "2")]
    pub(super) min_time: i64,
    #[prost(int64, tag = "3")]
    pub(super) max_time: i64,
    #[prost(uint64, tag = "4")]
    pub(super) rows: u64,
    #[prost(uint64, tag = "5")]
    pub(super) blocks: u64,
    /// Of all values in its tables.
    #[prost(uint64, tag = "6")]
    pub(super) bytes: u64,
}

/// What can be known of a block without reading its columns.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct BlockHeader {
    #[prost(uint32, tag = "1")]
    pub(super) rows: u32,
    #[prost(int64, tag = "2")]
    pub(super) min_time: i64,
    #[prost(int64, tag = "3")]
    pub(super) max_time: i64,
    /// Of each column of whole numbers that has a value.
    #[prost(message, repeated, tag = "4")]
    pub(super) ranges: Vec<ColumnRange>,
}

/// The smallest and the largest value of a column in a block.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct ColumnRange {
    #[prost(uint32, tag = "1")]
    pub(super) column: u32,
    #[prost(int64, tag = "2")]
    pub(super) min: i64,
    #[prost(int64, tag = "3")]
    pub(super) max: i64,
}

/// What the agent remembers of a collector.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CollectorMemory {
    /// Until when what it saw is committed.
    #[prost(int64, optional, tag = "1")]
    pub(super) observed_until: Option<i64>,
    /// The bits of the domains that it had registered when it last sent something.
    #[prost(uint32, tag = "2")]
    pub(super) domains: u32,
}

/// Who told last of a process. Written behind its record, whose fields have smaller numbers: a reader of the record skips it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Announcement {
    #[prost(string, tag = "1000")]
    pub(super) collector: String,
}

/// Of a `ProcessRecord` whether it has ended: the rest need not be decoded.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct End {
    #[prost(int64, optional, tag = "10")]
    pub(super) end_time: Option<i64>,
}
