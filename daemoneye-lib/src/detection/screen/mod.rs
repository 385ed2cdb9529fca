//! The screen before the engine: of which rows which standing rules may be true, told from the records themselves and for all
//! rules together.
//!
//! ```text
//! rules ──► conditions ──► leaves, each once ──► an index for each column
//!                │                                        │ row
//!                └──────── those that a row wakes ◄───────┘
//!                               └── asked as far as they are understood ──► what may be true goes to the engine
//! ```
//!
//! The engine looks at columns, and setting them up costs more than looking at a few rows, nearly all of which no rule is true
//! of. Nor is every rule asked about every row: of each rule that needs one of some texts or values the indexes find these, in
//! one pass over the row for all rules, and a rule of which none is found sleeps. A leaf that several rules share is asked once
//! for a row.
//!
//! The engine alone says what matches: the screen can cost time, never a match. A row that is left out here is not met by
//! the rest of its condition either, so a function that would have failed on it does not fail.

mod condition;
mod index;
mod look;
mod maker;
mod needle;

pub(super) use condition::Allowance;

use crate::models::catalog::Table;
use crate::models::event::{Event, IdentifiedEvent};
use condition::{Condition, Leaf, Truth, bit};
use datafusion::logical_expr::Expr;
use index::{Id, Index};
use look::Look;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A rule's condition, as the screen needs it.
pub(super) struct Screened {
    table: Table,
    /// Of events of processes: the bits of the types that the condition asks for, where it does.
    types: u8,
    condition: Condition,
}

impl Screened {
    /// What can be told of a planned condition, absent where a rule has none, over the rows of a table of events.
    pub(super) fn of(planned: Option<&Expr>, table: Table, allowance: &Allowance) -> Self {
        let mut condition = Condition::of(planned, table, allowance);
        // The type is looked at for every row and every rule, so it is made a bit.
        let types = if table == Table::ProcessEvents { condition.take_types() } else { u8::MAX };
        Self { table, types, condition }
    }
}

/// The screen over the events of one table, for all rules that look at it.
pub(super) struct Screen {
    table: Table,
    rules: Vec<Plan>,
    leaves: Vec<Known>,
    indexes: Vec<Index>,
    /// By leaf, the rules that it wakes where it is found.
    wakes: Vec<Vec<u32>>,
    /// The rules that never sleep.
    awake: Vec<u32>,
}

/// A rule of the screen.
struct Plan {
    /// Its place among all rules.
    rule: usize,
    types: u8,
    node: Node,
    /// Asking it may take long enough to be worth a look at the clock.
    costly: bool,
}

/// A condition over leaves by their numbers.
enum Node {
    Open,
    All(Box<[Node]>),
    Any(Box<[Node]>),
    Not(Box<Node>),
    IsTrue(Box<Node>),
    Is(Id),
}

/// A leaf, and what it comes to where no index finds it.
struct Known {
    leaf: Arc<Leaf>,
    /// The index that finds it, and what it is of a row that has a value there and in which it is not found.
    found_by: Option<(usize, Truth)>,
}

/// What became of a rule.
pub(super) struct Asked<'e> {
    /// Its place among all rules.
    pub(super) rule: usize,
    /// The rows of which it may be true.
    pub(super) wanted: Vec<&'e IdentifiedEvent>,
    /// Its part of the time that all took.
    pub(super) took: Duration,
    /// How often it was asked without a look at the clock.
    times: u32,
}

impl Screen {
    /// The screens of all tables for these rules, each with its place among all rules.
    pub(super) fn all<'r>(rules: impl IntoIterator<Item = (usize, &'r Screened)>) -> Vec<Self> {
        maker::screens(rules)
    }

    /// The table whose events it looks at.
    pub(super) const fn table(&self) -> Table {
        self.table
    }

    /// What becomes of each rule that may run, by its place among all, over these rows of the table.
    pub(super) fn ask<'e>(&self, rows: &[&'e IdentifiedEvent], may_run: impl Fn(usize) -> bool) -> Vec<Asked<'e>> {
        let (began, mut look) = (Instant::now(), Look::at(self));
        let asked = |plan: &Plan| Asked { rule: plan.rule, wanted: Vec::new(), took: Duration::ZERO, times: 0 };
        let mut all: Vec<_> = self.rules.iter().map(|plan| may_run(plan.rule).then(|| asked(plan))).collect();
        for &row in rows {
            let types = match &row.event {
                Event::Process(event) => bit(event.event_type()),
                _ => u8::MAX,
            };
            look.next(row);
            while let Some(number) = look.woken() {
                let (plan, Some(asked)) = (&self.rules[number], &mut all[number]) else { continue };
                if plan.types & types == 0 {
                    continue;
                }
                let clock = plan.costly.then(Instant::now);
                if look.may_be_true(&plan.node, row) {
                    asked.wanted.push(row);
                }
                match clock {
                    Some(began) => asked.took += began.elapsed(),
                    None => asked.times = asked.times.saturating_add(1),
                }
            }
        }
        let mut all: Vec<_> = all.into_iter().flatten().collect();
        share(began.elapsed(), &mut all);
        all
    }
}

/// Shares out what was done for all rules: a part for each, and one for each time that it was asked.
fn share(elapsed: Duration, all: &mut [Asked<'_>]) {
    let alone: Duration = all.iter().map(|asked| asked.took).sum();
    let parts = all.iter().fold(0_u32, |parts, asked| parts.saturating_add(1).saturating_add(asked.times));
    let part = elapsed.saturating_sub(alone) / parts.max(1);
    for asked in all {
        asked.took += part * asked.times.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
