//! The tables of the redb file, as `docs/formats/store.md` specifies them.

use redb::TableDefinition;

/// The format that this code reads and writes.
pub(super) const FORMAT: u64 = 1;

/// Facts about the store: `format`, `next_row`, `evaluated`.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Row number to an encoded [`HeadRow`]: what is not yet sealed.
pub(super) const HEAD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("head");
/// First row number to an encoded [`BlockHeader`].
pub(super) const BLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blocks");
/// First row number and column to the column's compressed values; absent where all are NULL.
pub(super) const COLUMNS: TableDefinition<'_, (u64, u16), &[u8]> = TableDefinition::new("columns");
/// Process key to its encoded latest record.
pub(super) const CURRENT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("current");
/// Collector and epoch to the sequence through which everything is committed.
pub(super) const COMMITTED: TableDefinition<'_, (&str, [u8; 16]), u64> = TableDefinition::new("committed");
/// Collector to an encoded [`CollectorMemory`].
pub(super) const COLLECTORS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("collectors");
/// Gap number to an encoded `GapRow`.
pub(super) const GAPS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("gaps");
/// End time and collector to an encoded `ScanRow`.
pub(super) const SCANS: TableDefinition<'_, (i64, &str), &[u8]> = TableDefinition::new("scans");
/// Alert id to the encoded alert.
pub(super) const ALERTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("alerts");
/// Rule id and dedup key to the id of the newest alert of these.
pub(super) const ALERT_KEYS: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("alert_keys");
/// Alert id and sink to an encoded `DeliveryRow`.
pub(super) const DELIVERIES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("deliveries");
/// Alert id and sink of each delivery that has not succeeded yet and is still tried.
pub(super) const DUE: TableDefinition<'_, (&str, &str), ()> = TableDefinition::new("due");
/// How often a delivery is tried.
pub(super) const DELIVERY_ATTEMPTS: u32 = 10;

/// An event that is not yet sealed.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HeadRow {
    #[prost(string, tag = "1")]
    pub(super) event_id: String,
    #[prost(message, required, tag = "2")]
    pub(super) event: crate::proto::common::ProcessEvent,
}

/// What can be known of a block without reading its columns.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct BlockHeader {
    #[prost(uint32, tag = "1")]
    pub(super) rows: u32,
    #[prost(int64, tag = "2")]
    pub(super) min_time: i64,
    #[prost(int64, tag = "3")]
    pub(super) max_time: i64,
}

/// What the agent remembers of a collector.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CollectorMemory {
    /// Until when what it saw is committed.
    #[prost(int64, optional, tag = "1")]
    pub(super) observed_until: Option<i64>,
}
