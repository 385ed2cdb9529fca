//! `processes.ancestors`: the chain of parents of each process, without recursion in SQL.
//!
//! Processes are read batch by batch. For each batch the parents that are not known yet are looked up together, then theirs, up
//! to [`MAX_DEPTH`]. What was looked up is kept for the next batch, because most processes have the same few ancestors.

use super::error::StoreError;
use super::snapshot::{Rows, Snapshot};
use crate::models::batch;
use crate::models::catalog::{ANCESTOR, MAX_DEPTH, Table};
use crate::models::condition::{Condition, Test};
use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::compute::interleave_record_batch;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Ancestors that are kept from one batch to the next.
const MAX_KEPT: usize = 20_000;
/// Rows of a batch that is given.
const BATCH_ROWS: usize = 4_096;

/// Where the columns of the process begin in a row of `processes.ancestors`, without its key.
const OWN: usize = ANCESTOR.len();

impl Snapshot {
    /// Rows of `processes.ancestors`, of the processes that the conditions name by their keys, or of all.
    ///
    /// # Errors
    /// When the store cannot be read; the iterator gives errors of its own.
    pub fn ancestors_where(&self, projection: &[usize], conditions: &[Condition]) -> Result<Rows, StoreError> {
        // `process_key` is the first column of both tables.
        let named: Vec<Condition> = conditions.iter().filter(|condition| condition.column == 0).cloned().collect();
        let processes = self.processes_where(&[0, 1], &named)?;
        let mut lineage = Lineage::new(self.clone(), projection);
        let mut ready = Vec::new().into_iter();
        let mut processes = processes.fuse();
        Ok(Box::new(std::iter::from_fn(move || {
            loop {
                if let Some(batch) = ready.next() {
                    return Some(Ok(batch));
                }
                match processes.next()?.and_then(|batch| lineage.of(&batch)) {
                    Ok(batches) => ready = batches.into_iter(),
                    Err(error) => return Some(Err(error)),
                }
            }
        })))
    }
}

/// The place of an ancestor among the batches that were looked up, and its own parent.
#[derive(Clone)]
struct Known {
    place: (usize, usize),
    parent: Option<String>,
}

struct Lineage {
    snapshot: Snapshot,
    /// Columns of the answer.
    projection: Vec<usize>,
    /// Columns of `processes` that are looked up: key, parent's key, then those of the answer.
    looked_up: Vec<usize>,
    batches: Vec<RecordBatch>,
    /// What is known of a key: nothing, where there is no such process.
    known: HashMap<String, Option<Known>>,
}

/// One row of the answer: whose ancestor, how far up, and where it is.
type Link = (usize, usize, (usize, usize));

impl Lineage {
    fn new(snapshot: Snapshot, projection: &[usize]) -> Self {
        let own = projection.iter().filter_map(|column| column.checked_sub(OWN)).map(|column| column + 1);
        Self {
            snapshot,
            projection: projection.to_vec(),
            looked_up: [0, 1].into_iter().chain(own).collect(),
            batches: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// The ancestors of a batch of keys and parents' keys.
    fn of(&mut self, processes: &RecordBatch) -> Result<Vec<RecordBatch>, StoreError> {
        if self.known.len() > MAX_KEPT {
            self.known.clear();
            self.batches.clear();
        }
        let (keys, parents) = (processes.column(0).as_string::<i32>(), processes.column(1).as_string::<i32>());
        let mut links: Vec<Link> = Vec::new();
        let mut next: Vec<(usize, String)> =
            parents.iter().enumerate().filter_map(|(row, parent)| Some((row, parent?.to_owned()))).collect();
        for depth in 1..=MAX_DEPTH {
            if next.is_empty() {
                break;
            }
            self.look_up(next.iter().map(|(_, key)| key))?;
            let mut further = Vec::new();
            for (row, key) in next {
                if let Some(Some(Known { place, parent })) = self.known.get(&key) {
                    links.push((row, depth, *place));
                    further.extend(parent.clone().map(|parent| (row, parent)));
                }
            }
            next = further;
        }
        // A process's ancestors together, the nearest first.
        links.sort_unstable_by_key(|(row, depth, _)| (*row, *depth));
        links.chunks(BATCH_ROWS).map(|links| self.batch(keys, links)).collect()
    }

    fn look_up<'k>(&mut self, keys: impl Iterator<Item = &'k String>) -> Result<(), StoreError> {
        let unknown: BTreeSet<String> = keys.filter(|key| !self.known.contains_key(*key)).cloned().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        self.known.extend(unknown.iter().map(|key| (key.clone(), None)));
        let condition = Condition { column: 0, test: Test::Texts(unknown) };
        for batch in self.snapshot.processes_where(&self.looked_up, &[condition])? {
            let batch = batch?;
            let (keys, parents) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
            for (row, key) in keys.iter().enumerate() {
                let parent = parents.is_valid(row).then(|| parents.value(row).to_owned());
                let known = Known { place: (self.batches.len(), row), parent };
                self.known.insert(key.unwrap_or_default().to_owned(), Some(known));
            }
            self.batches.push(batch);
        }
        Ok(())
    }

    fn batch(&self, keys: &StringArray, links: &[Link]) -> Result<RecordBatch, StoreError> {
        let failed = |error: arrow::error::ArrowError| {
            StoreError::damaged(&self.snapshot.path, format!("the ancestors of processes: {error}"))
        };
        let places: Vec<(usize, usize)> = links.iter().map(|(.., place)| *place).collect();
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let ancestors = interleave_record_batch(&batches, &places).map_err(failed)?;
        let mut own = 2..;
        let columns = self.projection.iter().map(|column| -> ArrayRef {
            match column {
                0 => Arc::new(links.iter().map(|(row, ..)| Some(keys.value(*row))).collect::<StringArray>()),
                1 => {
                    let depths = links.iter().map(|(_, depth, _)| i64::try_from(*depth).unwrap_or(i64::MAX));
                    Arc::new(depths.collect::<Int64Array>())
                }
                2 => Arc::clone(ancestors.column(0)),
                _ => Arc::clone(ancestors.column(own.next().unwrap_or_default())),
            }
        });
        let schema = batch::schema(Table::Ancestors, Some(&self.projection));
        batch::assemble(schema, columns.collect(), links.len()).map_err(failed)
    }
}
