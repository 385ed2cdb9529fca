//! Alerts and their deliveries in the store.

use super::append::decode;
use super::error::{InStore, StoreError};
use super::store::Store;
use super::tables::{ALERT_KEYS, ALERTS, DELIVERIES, DELIVERY_ATTEMPTS, DUE, META};
use crate::models::rows::DeliveryRow;
use crate::proto::common::Alert;
use prost::Message as _;
use redb::{ReadableDatabase as _, ReadableTable as _};

impl Store {
    /// The newest alert of a rule with this dedup key.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn latest_alert(&self, rule_id: &str, dedup_key: &str) -> Result<Option<Alert>, StoreError> {
        let read = self.database()?.begin_read().in_store(&self.path)?;
        let keys = read.open_table(ALERT_KEYS).in_store(&self.path)?;
        let Some(id) = keys.get((rule_id, dedup_key)).in_store(&self.path)? else { return Ok(None) };
        let alerts = read.open_table(ALERTS).in_store(&self.path)?;
        alerts
            .get(id.value())
            .in_store(&self.path)?
            .map(|bytes| decode(&self.path, "an alert", bytes.value()))
            .transpose()
    }

    /// Commits new and updated alerts, the deliveries that are due, and the mark that everything before row `evaluated` has
    /// been through the rules: after a crash the same rows are evaluated again only if this did not happen.
    ///
    /// # Errors
    /// When the store cannot take them: none of them is in it then.
    pub fn commit_alerts(&self, alerts: &[Alert], due: &[DeliveryRow], evaluated: u64) -> Result<(), StoreError> {
        self.write(|write| {
            let mut table = write.open_table(ALERTS).in_store(&self.path)?;
            let mut keys = write.open_table(ALERT_KEYS).in_store(&self.path)?;
            for alert in alerts {
                let id = alert.alert_id.as_str();
                table.insert(id, alert.encode_to_vec().as_slice()).in_store(&self.path)?;
                keys.insert((alert.rule_id.as_str(), alert.dedup_key.as_str()), id).in_store(&self.path)?;
            }
            drop((table, keys));
            put_deliveries(write, self, due)?;
            write.open_table(META).in_store(&self.path)?.insert("evaluated", evaluated).in_store(&self.path)?;
            Ok(())
        })
    }

    /// Records what became of deliveries.
    ///
    /// # Errors
    /// When the store cannot take it.
    pub fn record_deliveries(&self, deliveries: &[DeliveryRow]) -> Result<(), StoreError> {
        self.write(|write| put_deliveries(write, self, deliveries))
    }

    /// Deliveries that have not succeeded and are still tried, each with its alert, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn due_deliveries(&self, limit: usize) -> Result<Vec<(DeliveryRow, Alert)>, StoreError> {
        let read = self.database()?.begin_read().in_store(&self.path)?;
        let due = read.open_table(DUE).in_store(&self.path)?;
        let deliveries = read.open_table(DELIVERIES).in_store(&self.path)?;
        let alerts = read.open_table(ALERTS).in_store(&self.path)?;
        let mut found = Vec::new();
        for entry in due.iter().in_store(&self.path)?.take(limit) {
            let (key, _) = entry.in_store(&self.path)?;
            let (alert_id, sink) = key.value();
            let row = deliveries.get((alert_id, sink)).in_store(&self.path)?;
            let alert = alerts.get(alert_id).in_store(&self.path)?;
            if let (Some(row), Some(alert)) = (row, alert) {
                found.push((
                    decode(&self.path, "a delivery", row.value())?,
                    decode(&self.path, "an alert", alert.value())?,
                ));
            }
        }
        Ok(found)
    }
}

fn put_deliveries(write: &redb::WriteTransaction, store: &Store, rows: &[DeliveryRow]) -> Result<(), StoreError> {
    let mut table = write.open_table(DELIVERIES).in_store(&store.path)?;
    let mut due = write.open_table(DUE).in_store(&store.path)?;
    for row in rows {
        let key = (row.alert_id.as_str(), row.sink.as_str());
        table.insert(key, row.encode_to_vec().as_slice()).in_store(&store.path)?;
        if row.status == "delivered" || row.attempts >= DELIVERY_ATTEMPTS {
            due.remove(key).in_store(&store.path)?;
        } else {
            due.insert(key, ()).in_store(&store.path)?;
        }
    }
    Ok(())
}
