//! Stretches of blindness: each is kept, and they are kept in little room.
//!
//! Every answer asks which gaps it touches, so there may not be many of them, whatever a collector does. A gap that touches
//! the newest one and says the same prolongs it. When there are too many, the two oldest closed ones of a collector and kind
//! become one that reaches from the beginning of the one to the end of the other: it says too much, never too little.

use super::append::decode;
use super::error::{InStore, StoreError};
use super::store::Store;
use super::tables::GAPS;
use crate::models::rows::GapRow;
use crate::proto::ipc::Gap;
use prost::Message as _;
use redb::{ReadableTable, ReadableTableMetadata as _, Table, WriteTransaction};
use std::collections::BTreeMap;
use std::path::Path;

/// Gaps that are kept apart.
const MAX_GAPS: u64 = 1_000;
/// Open gaps of one collector, each of a kind of its own.
const MAX_OPEN: usize = 32;
/// The kind of a gap that stands for several kinds.
const SEVERAL: &str = "several";
/// What the reason of such a gap begins with.
const MERGED: &str = "several stretches, kept as one: ";

type Gaps<'t> = Table<'t, u64, &'static [u8]>;

impl Store {
    /// Records a stretch of blindness that the agent itself knows of. While one of the same kind is open for the collector,
    /// nothing is added.
    ///
    /// # Errors
    /// When the store cannot take it.
    pub fn open_gap(&self, collector: &str, gap: Gap) -> Result<(), StoreError> {
        let is_open = |row: &GapRow| row.collector == collector && row.gap.kind == gap.kind && row.gap.to.is_none();
        if self.snapshot()?.gaps()?.iter().any(is_open) {
            return Ok(());
        }
        let row = GapRow { collector: collector.to_owned(), gap, ..GapRow::default() };
        self.write(|write| insert(write, &self.path, row).map(drop))
    }

    /// Makes the open gaps of a collector those that are wanted, as far as their kinds are `judged`: what is open and is no
    /// longer wanted as it is ends at `at`, what is wanted and is not open yet begins when it says. Of each kind one may be
    /// wanted. Returns the kinds of those that began.
    ///
    /// # Errors
    /// When the store cannot take it.
    pub fn settle_gaps(
        &self,
        collector: &str,
        judged: impl Fn(&str) -> bool,
        wanted: &[(Gap, Vec<String>)],
        at: i64,
    ) -> Result<Vec<String>, StoreError> {
        let is_open = |row: &GapRow| row.collector == collector && row.gap.to.is_none() && judged(&row.gap.kind);
        let is = |row: &GapRow, (gap, tables): &(Gap, Vec<String>)| {
            row.gap.kind == gap.kind && row.gap.reason == gap.reason && row.tables == *tables
        };
        let open: Vec<GapRow> = self.snapshot()?.gaps()?.into_iter().filter(is_open).collect();
        let over: Vec<&GapRow> = open.iter().filter(|row| !wanted.iter().any(|own| is(row, own))).collect();
        let begun: Vec<_> = wanted.iter().filter(|own| !open.iter().any(|row| is(row, own))).collect();
        if over.is_empty() && begun.is_empty() {
            return Ok(Vec::new());
        }
        self.write(|write| {
            {
                let mut table = write.open_table(GAPS).in_store(&self.path)?;
                for row in over {
                    let mut row = row.clone();
                    row.gap.to = Some(at.max(row.gap.from));
                    put(&mut table, &self.path, &row)?;
                }
            }
            for (gap, tables) in &begun {
                let row = GapRow {
                    collector: collector.to_owned(),
                    gap: gap.clone(),
                    tables: tables.clone(),
                    ..GapRow::default()
                };
                insert(write, &self.path, row)?;
            }
            Ok(begun.iter().map(|(gap, _)| gap.kind.clone()).collect())
        })
    }

    /// Ends every open gap of this kind.
    ///
    /// # Errors
    /// When the store cannot take it.
    pub fn close_gaps(&self, kind: &str, to: i64) -> Result<(), StoreError> {
        let is_open = |row: &GapRow| row.gap.kind == kind && row.gap.to.is_none();
        if !self.snapshot()?.gaps()?.iter().any(is_open) {
            return Ok(());
        }
        self.write(|write| {
            let mut table = write.open_table(GAPS).in_store(&self.path)?;
            for mut row in all(&table, &self.path)?.into_iter().filter(is_open) {
                row.gap.to = Some(to.max(row.gap.from));
                put(&mut table, &self.path, &row)?;
            }
            Ok(())
        })
    }
}

/// Adds a gap, which gets its number here, or makes it part of one that is there, which is returned.
pub(super) fn insert(write: &WriteTransaction, path: &Path, mut row: GapRow) -> Result<GapRow, StoreError> {
    let mut table = write.open_table(GAPS).in_store(path)?;
    let last = table.last().in_store(path)?;
    let last: Option<GapRow> = last.map(|(_, row)| decode(path, "a gap", row.value())).transpose()?;
    let goes_on =
        |last: &GapRow| last.collector == row.collector && last.tables == row.tables && goes_on(&last.gap, &row.gap);
    if let Some(mut last) = last.clone().filter(goes_on) {
        join(&mut last.gap, &row.gap);
        put(&mut table, path, &last)?;
        return Ok(last);
    }
    if row.gap.to.is_none() {
        let is_open = |own: &GapRow| own.collector == row.collector && own.gap.to.is_none();
        let open: Vec<_> = all(&table, path)?.into_iter().filter(is_open).collect();
        if open.len() >= MAX_OPEN {
            SEVERAL.clone_into(&mut row.gap.kind);
            row.tables.clear();
        }
        if let Some(same) = open.into_iter().find(|own| own.gap.kind == row.gap.kind) {
            return Ok(same);
        }
    }
    row.gap_id = last.map_or(1, |last| last.gap_id + 1);
    put(&mut table, path, &row)?;
    while table.len().in_store(path)? > MAX_GAPS {
        if !merge_oldest(&mut table, path)? {
            break;
        }
    }
    Ok(row)
}

/// Forgets gaps that ended before `since`. The newest stays, so that its number is not given again.
pub(super) fn drop_old(write: &WriteTransaction, path: &Path, since: i64) -> Result<u64, StoreError> {
    let mut table = write.open_table(GAPS).in_store(path)?;
    let gone = old(&table, path, since)?;
    for id in &gone {
        table.remove(id).in_store(path)?;
    }
    Ok(gone.len() as u64)
}

/// The numbers of those that [`drop_old`] would forget.
pub(super) fn old(
    table: &impl ReadableTable<u64, &'static [u8]>,
    path: &Path,
    since: i64,
) -> Result<Vec<u64>, StoreError> {
    let mut rows = all(table, path)?;
    rows.pop();
    Ok(rows.into_iter().filter(|row| row.gap.to.is_some_and(|to| to < since)).map(|row| row.gap_id).collect())
}

fn all(table: &impl ReadableTable<u64, &'static [u8]>, path: &Path) -> Result<Vec<GapRow>, StoreError> {
    let rows = table.iter().in_store(path)?;
    rows.map(|entry| decode(path, "a gap", entry.in_store(path)?.1.value())).collect()
}

fn put(table: &mut Gaps<'_>, path: &Path, row: &GapRow) -> Result<(), StoreError> {
    table.insert(row.gap_id, row.encode_to_vec().as_slice()).in_store(path)?;
    Ok(())
}

/// Whether the second says nothing but that the first lasted longer and lacks more. What nobody counted is told for itself: how
/// often it was is all that is known of it.
fn goes_on(first: &Gap, second: &Gap) -> bool {
    let touches = |to: i64| first.from <= second.from && second.from <= to;
    let counted = first.count.is_some() && second.count.is_some();
    let same = first.kind == second.kind && first.reason == second.reason;
    counted && same && second.to.is_some() && first.to.is_some_and(touches)
}

/// One for both, which are closed.
fn join(first: &mut Gap, second: &Gap) {
    first.from = first.from.min(second.from);
    first.to = first.to.max(second.to);
    first.count = first.count.zip(second.count).map(|(one, other)| one.saturating_add(other));
}

/// The tables that one or the other concerns; none, which is all, where one of them concerns all.
fn both(first: &[String], second: &[String]) -> Vec<String> {
    if first.is_empty() || second.is_empty() {
        return Vec::new();
    }
    let mut both: Vec<String> = first.iter().chain(second).cloned().collect();
    both.sort_unstable();
    both.dedup();
    both
}

/// Makes one of two that are closed and of a collector: the oldest pair of one kind, or where there is none, of any.
fn merge_oldest(table: &mut Gaps<'_>, path: &Path) -> Result<bool, StoreError> {
    let closed: Vec<GapRow> = all(table, path)?.into_iter().filter(|row| row.gap.to.is_some()).collect();
    let of_kind = |row: &GapRow| (row.collector.clone(), row.gap.kind.clone());
    let of_any = |row: &GapRow| (row.collector.clone(), String::new());
    let Some((mut first, second)) = pair(&closed, of_kind).or_else(|| pair(&closed, of_any)) else { return Ok(false) };
    join(&mut first.gap, &second.gap);
    first.tables = both(&first.tables, &second.tables);
    if first.gap.kind != second.gap.kind {
        SEVERAL.clone_into(&mut first.gap.kind);
    }
    if !first.gap.reason.starts_with(MERGED) {
        first.gap.reason.insert_str(0, MERGED);
    }
    table.remove(second.gap_id).in_store(path)?;
    put(table, path, &first)?;
    Ok(true)
}

/// The first row that another before it is like, with that one. The newest row of all keeps its number.
fn pair<K: Ord>(rows: &[GapRow], key: impl Fn(&GapRow) -> K) -> Option<(GapRow, GapRow)> {
    let mut seen: BTreeMap<K, &GapRow> = BTreeMap::new();
    let older = rows.split_last().map_or(rows, |(_, older)| older);
    older.iter().find_map(|row| seen.insert(key(row), row).map(|first| (first.clone(), row.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(kind: &str, from: i64, to: Option<i64>, count: Option<u64>) -> Gap {
        Gap { kind: kind.to_owned(), from, to, count, reason: "r".to_owned() }
    }

    #[test]
    fn one_gap_goes_on_where_another_ends() {
        let first = gap("a", 1, Some(5), Some(2));
        assert!(goes_on(&first, &gap("a", 5, Some(9), Some(1))));
        assert!(!goes_on(&first, &gap("a", 5, Some(9), None)), "nobody counted");
        assert!(!goes_on(&first, &gap("a", 6, Some(9), Some(1))), "something was seen between them");
        assert!(!goes_on(&first, &gap("a", 0, Some(9), Some(1))), "it begins earlier");
        assert!(!goes_on(&first, &gap("b", 5, Some(9), Some(1))));
        assert!(!goes_on(&first, &gap("a", 5, None, None)), "an open one is told for itself");
        assert!(!goes_on(&gap("a", 1, None, None), &gap("a", 5, Some(9), None)));
    }

    #[test]
    fn what_is_joined_says_too_much_and_never_too_little() {
        let mut first = gap("a", 3, Some(5), Some(2));
        join(&mut first, &gap("a", 1, Some(9), Some(4)));
        assert_eq!(first, gap("a", 1, Some(9), Some(6)));
        join(&mut first, &gap("a", 9, Some(10), None));
        assert_eq!(first.count, None, "one of them is not known");
        let tables = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(both(&tables(&["b"]), &tables(&["a", "b"])), tables(&["a", "b"]));
        assert_eq!(both(&tables(&["b"]), &[]), tables(&[]), "all");
    }
}
