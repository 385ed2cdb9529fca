//! Conditions on rows that are stored as encoded records: those that have just arrived, and processes that run.
//!
//! Decoding a record costs far more than looking through its bytes. Protobuf has a text as it is, so a record that does not
//! contain a wanted text cannot have it in any column.

use super::series::{self, Series};
use crate::models::columns::Value;
use crate::models::condition::{Condition, Test};
use memchr::memmem::Finder;

/// With more texts than these, decoding is no dearer than looking for each.
const MAX_TEXTS: usize = 16;

/// Lets records through that may meet all conditions; of its own, every record.
#[derive(Default)]
pub(super) struct Sieve {
    conditions: Vec<Condition>,
    /// Of each condition that can be looked for in bytes, its texts.
    texts: Vec<Vec<Finder<'static>>>,
}

impl Sieve {
    pub(super) fn new(series: Series, conditions: &[Condition]) -> Self {
        let columns = series::columns(series);
        let texts = conditions.iter().filter_map(|condition| match &condition.test {
            // What is looked up is in the record; other columns may be made of something else.
            Test::Texts(texts)
                if texts.len() <= MAX_TEXTS && columns.get(condition.column).is_some_and(|own| own.has_filter) =>
            {
                Some(texts.iter().map(|text| Finder::new(text.as_bytes()).into_owned()).collect())
            }
            _ => None,
        });
        Self { texts: texts.collect(), conditions: conditions.to_vec() }
    }

    /// Whether an encoded record may meet all conditions.
    pub(super) fn may_pass(&self, record: &[u8]) -> bool {
        self.texts.iter().all(|texts| texts.iter().any(|text| text.find(record).is_some()))
    }

    /// Whether a record with these values, by column, meets all conditions.
    pub(super) fn passes<'v>(&self, value: impl Fn(usize) -> Value<'v>) -> bool {
        self.conditions.iter().all(|condition| condition.is_met_by(&value(condition.column)))
    }
}
