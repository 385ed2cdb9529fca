//! What a query demands of the rows of a table, as far as whoever keeps them can make use of it, and what reading them takes.

use crate::models::columns::Value;
use std::collections::BTreeSet;

/// A demand on one column: a row that does not meet it, NULL included, does not matter to the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The column, by its index in the table.
    pub column: usize,
    /// What its value must be.
    pub test: Test,
}

/// What reading would take, as far as headers and filters of blocks tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// All blocks of the table.
    pub blocks: u64,
    /// Those of them that would be read.
    pub blocks_read: u64,
    /// Rows in these, and rows that are not in blocks.
    pub rows_at_most: u64,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// One of these texts.
    Texts(BTreeSet<String>),
    /// One of these numbers.
    Integers(BTreeSet<i64>),
    /// A number from and to, both included.
    Between(i64, i64),
}

impl Condition {
    /// Whether a row with this value in the column meets it.
    pub fn is_met_by(&self, value: &Value<'_>) -> bool {
        match (&self.test, value) {
            (Test::Texts(texts), Value::Text(text)) => texts.contains(text.as_ref()),
            (test, Value::Integer(number)) => test.holds_for(*number),
            _ => false,
        }
    }
}

impl Test {
    /// Whether a number meets it.
    pub fn holds_for(&self, number: i64) -> bool {
        match self {
            Self::Texts(_) => false,
            Self::Integers(numbers) => numbers.contains(&number),
            Self::Between(from, to) => (*from..=*to).contains(&number),
        }
    }

    /// Whether a number between these two, both included, may meet it.
    pub fn may_hold_within(&self, min: i64, max: i64) -> bool {
        match self {
            Self::Texts(_) => true,
            Self::Integers(numbers) => numbers.range(min..=max.max(min)).next().is_some(),
            Self::Between(from, to) => *from <= max && *to >= min,
        }
    }
}
