//! Tasks that collectors ask of other collectors: each is taken once, and what became of it is kept.
//!
//! A trigger is told at least once, like everything; its collector and its id say whether it is the same. The newest
//! [`MAX_TRIGGERS`] are remembered.

use super::append::decode;
use super::error::{InStore, StoreError};
use super::snapshot::Snapshot;
use super::store::Store;
use super::tables::{TRIGGER_IDS, TRIGGERS};
use crate::models::rows::TriggerRow;
use crate::proto::ipc::TriggerRequest;
use prost::Message as _;
use redb::{ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};
use std::path::Path;

/// Triggers that are remembered, the newest.
pub const MAX_TRIGGERS: u64 = 10_000;
const MAX_ID: usize = 128;
const MAX_NAME: usize = 128;
const MAX_REASON: usize = 4_096;
const MAX_TASK: usize = 16 << 10;

/// What is wrong with a trigger, whoever sent it.
pub(super) fn check(trigger: &TriggerRequest) -> Result<(), String> {
    let wrong = |what: String| Err(format!("a trigger {what}"));
    match &trigger.task {
        _ if trigger.trigger_id.is_empty() || trigger.trigger_id.len() > MAX_ID => {
            wrong(format!("whose id does not have 1 to {MAX_ID} bytes"))
        }
        _ if trigger.target.is_empty() || trigger.target.len() > MAX_NAME => {
            wrong(format!("whose target does not have 1 to {MAX_NAME} bytes"))
        }
        _ if trigger.reason.len() > MAX_REASON => wrong(format!("whose reason has more than {MAX_REASON} bytes")),
        None => wrong("without a task".to_owned()),
        Some(task) if task.encoded_len() > MAX_TASK => wrong(format!("whose task has more than {MAX_TASK} bytes")),
        Some(_) => Ok(()),
    }
}

/// Notes a trigger that is to be carried out; nothing when it was noted before.
pub(super) fn insert(
    write: &WriteTransaction,
    path: &Path,
    collector: &str,
    trigger: TriggerRequest,
) -> Result<Option<TriggerRow>, StoreError> {
    let mut ids = write.open_table(TRIGGER_IDS).in_store(path)?;
    let id = trigger.trigger_id.as_str();
    if ids.get((collector, id)).in_store(path)?.is_some() {
        return Ok(None);
    }
    let mut table = write.open_table(TRIGGERS).in_store(path)?;
    let number = table.last().in_store(path)?.map_or(1, |(last, _)| last.value() + 1);
    ids.insert((collector, id), number).in_store(path)?;
    let row = TriggerRow {
        number,
        collector: collector.to_owned(),
        status: TriggerRow::DUE.to_owned(),
        request: trigger,
        ..TriggerRow::default()
    };
    table.insert(number, row.encode_to_vec().as_slice()).in_store(path)?;
    while table.len().in_store(path)? > MAX_TRIGGERS {
        let Some((_, oldest)) = table.pop_first().in_store(path)? else { break };
        let oldest: TriggerRow = decode(path, "a trigger", oldest.value())?;
        ids.remove((oldest.collector.as_str(), oldest.request.trigger_id.as_str())).in_store(path)?;
    }
    Ok(Some(row))
}

impl Store {
    /// Keeps what became of a trigger, unless newer ones have pushed it out.
    ///
    /// # Errors
    /// When the store cannot take it.
    pub fn settle_trigger(&self, row: &TriggerRow) -> Result<(), StoreError> {
        self.write(|write| {
            let mut table = write.open_table(TRIGGERS).in_store(&self.path)?;
            if table.get(row.number).in_store(&self.path)?.is_some() {
                table.insert(row.number, row.encode_to_vec().as_slice()).in_store(&self.path)?;
            }
            Ok(())
        })
    }
}

impl Snapshot {
    /// Triggers of which it is not known what became of them, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn due_triggers(&self) -> Result<Vec<TriggerRow>, StoreError> {
        let table = self.open(TRIGGERS)?;
        let rows = table.iter().in_store(&self.path)?;
        let rows = rows.map(|entry| decode(&self.path, "a trigger", entry.in_store(&self.path)?.1.value()));
        let is_due = |row: &Result<TriggerRow, StoreError>| row.as_ref().map_or(true, TriggerRow::is_due);
        rows.filter(is_due).collect()
    }
}
